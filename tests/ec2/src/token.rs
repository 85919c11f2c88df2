//! Client tokens: the same request twice is one request.

use std::collections::BTreeMap;

use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::protocol::Parameters;

/// The longest token.
const MAX_LENGTH: usize = 64;

/// What was asked with each token, and answered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens(BTreeMap<(&'static str, String), Noted>);

/// A request and its answer.
type Noted = (BTreeMap<String, String>, Xml);

impl Tokens {
    /// The answer to the same request of before, if there was one.
    ///
    /// # Errors
    /// The token is none, or was of another request.
    pub(crate) fn replay(
        &self,
        operation: &'static str,
        parameters: &Parameters<'_>,
    ) -> Result<Option<Xml>> {
        let Some(token) = parameters.text("ClientToken") else {
            return Ok(None);
        };
        if token.is_empty() || token.len() > MAX_LENGTH || !token.is_ascii() {
            return Err(Ec2Error::value(
                token,
                "ClientToken",
                "Expecting 1 to 64 ASCII characters.",
            ));
        }
        match self.0.get(&(operation, token.to_owned())) {
            None => Ok(None),
            Some((asked, answer)) if *asked == request(parameters) => Ok(Some(answer.clone())),
            Some(_) => {
                let message = "The client token was used before with other parameters.";
                Err(Ec2Error::new("IdempotentParameterMismatch", message))
            }
        }
    }

    /// Notes what is answered to a request that has a token.
    pub(crate) fn note(
        &mut self,
        operation: &'static str,
        parameters: &Parameters<'_>,
        answer: &Xml,
    ) {
        if let Some(token) = parameters.text("ClientToken") {
            let noted = (request(parameters), answer.clone());
            self.0.insert((operation, token.to_owned()), noted);
        }
    }
}

fn request(parameters: &Parameters<'_>) -> BTreeMap<String, String> {
    let mut values = parameters.values().clone();
    values.remove("DryRun");
    values
}
