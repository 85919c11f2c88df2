//! Pages: as many items as the request and the test allow, and a token that says where to go on.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;

use crate::answer::Xml;
use crate::error::{Ec2Error, Result};
use crate::protocol::{Parameter, Parameters, integer, text};

/// The parameters of an operation that answers in pages.
pub(crate) const PAGES: &[Parameter] = &[integer("MaxResults"), text("NextToken")];

/// How an operation pages.
pub(crate) struct Paging {
    /// What `MaxResults` may be.
    pub(crate) limits: RangeInclusive<i64>,
    /// The parameter with ids, which answers all at once and forbids `MaxResults`.
    pub(crate) ids: &'static str,
    /// The test's own bound.
    pub(crate) page_size: usize,
}

/// The items of the page that `parameters` ask for, of all `items` in the order of their keys; and the token for
/// the next page.
///
/// # Errors
/// A parameter of the page is wrong, or the token is of another request.
pub(crate) fn page<T>(
    parameters: &Parameters<'_>,
    paging: &Paging,
    items: Vec<(String, T)>,
) -> Result<(Vec<T>, Option<String>)> {
    let asked = parameters.integer("MaxResults");
    let by_id = !paging.ids.is_empty() && parameters.any(&format!("{}.", paging.ids));
    if by_id && (asked.is_some() || parameters.any("NextToken")) {
        let message = format!(
            "The parameter {} cannot be used with the parameter MaxResults",
            paging.ids
        );
        return Err(Ec2Error::combination(message));
    }
    if by_id {
        return Ok((items.into_iter().map(|(_, item)| item).collect(), None));
    }
    let size = match asked {
        None => paging.page_size,
        Some(asked) if paging.limits.contains(&asked) => {
            usize::try_from(asked).unwrap_or(1).min(paging.page_size)
        }
        Some(asked) => {
            let (least, most) = (paging.limits.start(), paging.limits.end());
            let why = format!("Expecting a value between {least} and {most}.");
            return Err(Ec2Error::value(asked, "MaxResults", &why));
        }
    };
    let after = read_token(parameters)?;
    let rest: Vec<_> = items
        .into_iter()
        .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
        .collect();
    let more = rest.len() > size;
    let last = rest.iter().take(size).last().map(|(key, _)| key.clone());
    let token = last
        .filter(|_| more)
        .map(|key| format!("{:016x}.{key}", asked_of(parameters)));
    Ok((
        rest.into_iter().take(size).map(|(_, item)| item).collect(),
        token,
    ))
}

/// Writes a page and its token.
pub(crate) fn write<T>(
    xml: &mut Xml,
    name: &str,
    (items, token): (Vec<T>, Option<String>),
    item: impl Fn(&mut Xml, T),
) {
    xml.list(name, items, item).optional("nextToken", token);
}

fn read_token<'a>(parameters: &Parameters<'a>) -> Result<Option<&'a str>> {
    let Some(token) = parameters
        .text("NextToken")
        .filter(|token| !token.is_empty())
    else {
        return Ok(None);
    };
    let expected = format!("{:016x}.", asked_of(parameters));
    let after = token.strip_prefix(&expected);
    let invalid = || Ec2Error::new("InvalidNextToken", "The specified NextToken is not valid.");
    after.map(Some).ok_or_else(invalid)
}

/// What a token belongs to: all that a request asks besides the page.
fn asked_of(parameters: &Parameters<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let values = parameters.values().iter();
    let rest = values.filter(|(name, _)| !matches!(name.as_str(), "NextToken" | "MaxResults"));
    rest.for_each(|pair| pair.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use super::*;

    fn ask(
        values: &[(&str, &str)],
        page_size: usize,
        count: u32,
    ) -> Result<(Vec<u32>, Option<String>)> {
        let values: BTreeMap<String, String> = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let paging = Paging {
            limits: 5..=1000,
            ids: "Id",
            page_size,
        };
        let items = (0..count)
            .map(|number| (format!("{number:02}"), number))
            .collect();
        page(&Parameters::new(&values), &paging, items)
    }

    #[test]
    fn pages_follow_one_another_until_there_is_no_token() {
        for (max_results, page_size, count) in [
            (Some("5"), 1000, 12),
            (None, 5, 12),
            (Some("1000"), 5, 12),
            (Some("5"), 1000, 10),
        ] {
            let mut all = Vec::new();
            let mut token = None;
            loop {
                let mut values: Vec<(&str, &str)> = max_results
                    .map(|max| ("MaxResults", max))
                    .into_iter()
                    .collect();
                let given: Option<String> = token.take();
                values.extend(given.as_deref().map(|token| ("NextToken", token)));
                let (items, next) = ask(&values, page_size, count).unwrap();
                assert!(items.len() <= 5 && !items.is_empty());
                all.extend(items);
                token = next;
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_page_that_nobody_may_ask_for_is_refused() {
        let token = ask(&[], 5, 12).unwrap().1.unwrap();
        for (values, code) in [
            (vec![("MaxResults", "4")], "InvalidParameterValue"),
            (vec![("MaxResults", "1001")], "InvalidParameterValue"),
            (
                vec![("MaxResults", "5"), ("Id.1", "x")],
                "InvalidParameterCombination",
            ),
            (vec![("NextToken", "abc")], "InvalidNextToken"),
            (
                vec![("NextToken", &token), ("Filter.1.Name", "x")],
                "InvalidNextToken",
            ),
        ] {
            assert_eq!(ask(&values, 1000, 12).unwrap_err().code, code, "{values:?}");
        }
        assert_eq!(ask(&[("Id.1", "x")], 5, 12).unwrap().0.len(), 12);
    }
}
