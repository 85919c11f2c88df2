//! One call from request to reply: faults, throttling, permissions, and then what it does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use crate::answer::{self, Xml};
use crate::buckets::Throttle;
use crate::call::{Call, Outcome};
use crate::credentials::{self, Caller, Credentials};
use crate::error::{Ec2Error, Result};
use crate::faults::{Fault, Faults};
use crate::history::History;
use crate::operations::{Operation, Request, Run};
use crate::protocol::{self, Parameters};
use crate::state::{Event, Now, State};

/// All that the stand-in is at one time.
pub(crate) struct Account {
    pub(crate) state: State,
    pub(crate) history: History,
    pub(crate) faults: Faults<Ec2Error>,
    pub(crate) throttle: Throttle,
    /// Operations that IAM does not allow.
    pub(crate) denied: BTreeSet<String>,
    pub(crate) credentials: Credentials,
    /// Of a round trip.
    pub(crate) latency: Duration,
    pub(crate) calls: Vec<Call>,
    pub(crate) listeners: Vec<Sender<Event>>,
    pub(crate) started: Instant,
    pub(crate) requests: u64,
}

/// What goes back over the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    /// `None`: the connection is closed instead.
    pub(crate) answer: Option<Answer>,
    /// Beyond the latency.
    pub(crate) delay: Duration,
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) request_id: String,
    pub(crate) body: String,
}

impl Account {
    pub(crate) fn new(state: State, now: Now) -> Self {
        let mut history = History::default();
        history.note(&state, now.instant);
        Self {
            state,
            history,
            faults: Faults::none(),
            throttle: Throttle::none(),
            denied: BTreeSet::new(),
            credentials: Credentials::default(),
            latency: Duration::ZERO,
            calls: Vec::new(),
            listeners: Vec::new(),
            started: now.instant,
            requests: 0,
        }
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, now: Now) {
        if self.state.advance(now.instant) {
            self.changed(now);
        }
    }

    /// Tells listeners of events, and notes the state for describes of later.
    pub(crate) fn changed(&mut self, now: Now) {
        for event in std::mem::take(&mut self.state.events) {
            self.listeners
                .retain(|listener| listener.send(event.clone()).is_ok());
        }
        self.history.note(&self.state, now.instant);
    }

    /// Takes up one request.
    pub(crate) fn exchange(&mut self, body: &[u8], caller: Caller<'_>, now: Now) -> Reply {
        self.advance(now);
        self.requests += 1;
        let request_id = format!("00000000-0000-4000-8000-{:012x}", self.requests);
        let (operation, parameters, parsed) = match protocol::parse(body) {
            Ok((operation, parameters)) => (operation, parameters, Ok(())),
            Err(error) => (String::new(), BTreeMap::new(), Err(error)),
        };
        let fault = self.faults.strike(&operation);
        let mut delay = Duration::ZERO;
        let result = match &fault {
            Some(Fault::Refuse) => None,
            Some(Fault::Error(error)) => Some(Err(error.clone())),
            other => {
                let result = parsed.and_then(|()| self.run(&operation, &parameters, caller, now));
                match other {
                    Some(Fault::ErrorAfterEffect(error)) => Some(result.and(Err(error.clone()))),
                    Some(Fault::Delay(by)) => {
                        delay = *by;
                        Some(result)
                    }
                    Some(Fault::LoseAnswer | Fault::Refuse | Fault::Error(_)) | None => {
                        Some(result)
                    }
                }
            }
        };
        let answered = !matches!(fault, Some(Fault::LoseAnswer | Fault::Refuse));
        let outcome = match &result {
            None => Outcome::Refused,
            Some(_) if !answered => Outcome::Unanswered,
            Some(Ok(_)) => Outcome::Done,
            Some(Err(error)) => Outcome::Failed(error.code.to_string()),
        };
        let answer = result
            .filter(|_| answered)
            .map(|result| write(&operation, request_id, result));
        self.calls.push(Call {
            operation,
            parameters,
            at: now.instant.saturating_duration_since(self.started),
            outcome,
        });
        Reply { answer, delay }
    }

    /// Checks and does a call.
    fn run(
        &mut self,
        name: &str,
        values: &BTreeMap<String, String>,
        caller: Caller<'_>,
        now: Now,
    ) -> Result<Xml> {
        credentials::check(caller, &self.state.region, &self.credentials)?;
        let Some(operation) = Operation::named(name) else {
            let message = format!("The action {name} is not valid for this web service.");
            return Err(Ec2Error::new("InvalidAction", message));
        };
        let bounds = |name: &String| {
            name.starts_with("Filter.") || name == "MaxResults" || name.contains("Id.")
        };
        let unbounded = !values.keys().any(bounds);
        if !self.throttle.take(name, unbounded, now.instant) {
            return Err(Ec2Error::new(
                "RequestLimitExceeded",
                "Request limit exceeded.",
            ));
        }
        protocol::check(values, &operation.shape())?;
        if self.denied.contains(name) {
            let message = "You are not authorized to perform this operation.";
            return Err(Ec2Error::new("UnauthorizedOperation", message));
        }
        let request = Request {
            parameters: Parameters::new(values),
            now,
            page_size: self.state.settings.page_size,
        };
        if request.parameters.boolean("DryRun") == Some(true) {
            perform(&mut self.state.clone(), &self.history, operation, &request)?;
            let message = "Request would have succeeded, but DryRun flag is set.";
            return Err(Ec2Error::new("DryRunOperation", message));
        }
        let xml = perform(&mut self.state, &self.history, operation, &request)?;
        if matches!(operation.run, Run::Write(_)) {
            self.changed(now);
        }
        Ok(xml)
    }
}

fn perform(
    state: &mut State,
    history: &History,
    operation: &Operation,
    request: &Request<'_>,
) -> Result<Xml> {
    let mut xml = Xml::default();
    match operation.run {
        Run::Write(run) => run(state, request, &mut xml)?,
        Run::Read(run) => match history.seen(state, request.now.instant) {
            Some(seen) => run(&seen, request, &mut xml)?,
            None => run(state, request, &mut xml)?,
        },
    }
    Ok(xml)
}

fn write(operation: &str, request_id: String, result: Result<Xml>) -> Answer {
    let (status, body) = match result {
        Ok(xml) => (200, answer::success(operation, &request_id, &xml)),
        Err(error) => (error.status(), answer::failure(&request_id, &error)),
    };
    Answer {
        status,
        request_id,
        body,
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
