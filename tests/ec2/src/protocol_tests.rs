#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const SHAPE: &[&[Parameter]] = &[
    &[
        text("SubnetId").required(),
        text("SecurityGroupId.N"),
        text("TagSpecification.N.ResourceType"),
        text("TagSpecification.N.Tag.N.Key"),
        integer("Ipv6AddressCount"),
    ],
    &[boolean("DryRun")],
];

fn code(query: &str) -> String {
    let body = format!("Action=A&Version=2016-11-15&{query}");
    let checked = parse(body.as_bytes()).and_then(|(_, values)| check(&values, SHAPE));
    checked
        .err()
        .map_or_else(|| "fine".to_owned(), |error| error.to_string())
}

#[test]
fn what_an_operation_does_not_have_is_refused_by_name() {
    for (query, expected) in [
        ("SubnetId=s", "fine"),
        (
            "SubnetId=s&DryRun=true&SecurityGroupId.1=a&SecurityGroupId.2=b",
            "fine",
        ),
        (
            "SubnetId=s&TagSpecification.1.ResourceType=x&TagSpecification.1.Tag.1.Key=k",
            "fine",
        ),
        (
            "SubnetId=s&Foo=1",
            "UnknownParameter: The parameter Foo is not recognized",
        ),
        (
            "SubnetId=s&subnetId=1",
            "UnknownParameter: The parameter subnetId is not recognized",
        ),
        (
            "SubnetId=s&SecurityGroupId=a",
            "UnknownParameter: The parameter SecurityGroupId is not recognized",
        ),
        (
            "SubnetId=s&SecurityGroupId.0=a",
            "UnknownParameter: The parameter SecurityGroupId.0 is not recognized",
        ),
        (
            "SubnetId=s&SecurityGroupId.2=a",
            "InvalidParameterValue: SecurityGroupId.2 comes without SecurityGroupId.1",
        ),
        (
            "SubnetId=s&TagSpecification.1.Tag.1.Key=k&TagSpecification.1.Tag.3.Key=k",
            "InvalidParameterValue: TagSpecification.1.Tag.3.Key comes without TagSpecification.1.Tag.2",
        ),
        (
            "SubnetId=s&Ipv6AddressCount=one",
            "InvalidParameterValue: Value (one) for parameter Ipv6AddressCount is invalid. Expecting an integer.",
        ),
        (
            "SubnetId=s&DryRun=True",
            "InvalidParameterValue: Value (True) for parameter DryRun is invalid. Expecting true or false.",
        ),
        (
            "",
            "MissingParameter: The request must contain the parameter SubnetId",
        ),
        (
            "SubnetId=s&SubnetId=s",
            "InvalidParameterCombination: The parameter SubnetId is given twice",
        ),
    ] {
        assert_eq!(code(query), expected, "{query}");
    }
}

#[test]
fn action_and_version_come_first() {
    for (body, expected) in [
        ("Version=2016-11-15", "MissingAction"),
        ("Action=A", "MissingParameter"),
        ("Action=A&Version=2014-10-01", "NoSuchVersion"),
    ] {
        assert_eq!(parse(body.as_bytes()).unwrap_err().code, expected, "{body}");
    }
}

#[test]
fn lists_and_lists_within_lists_are_read_in_order() {
    let query =
        (1..=11).map(|number| format!("T.{number}.Tag.1.Key=k{number}&T.{number}.Tag.2.Key=&"));
    let body = format!(
        "Action=A&Version=2016-11-15&{}G.1=x&G.2=y",
        query.collect::<String>()
    );
    let (_, values) = parse(body.as_bytes()).unwrap();
    let parameters = Parameters::new(&values);
    assert_eq!(parameters.list("G"), ["x", "y"]);
    let keys = |member: &Parameters<'_>| {
        member
            .members("Tag")
            .iter()
            .map(|tag| tag.text("Key").unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let all: Vec<Vec<String>> = parameters.members("T").iter().map(keys).collect();
    assert_eq!(all.len(), 11);
    assert_eq!(all[10], ["k11", ""]);
    let error = parameters.members("T")[0].members("Tag")[1]
        .require("Key")
        .unwrap_err();
    assert_eq!(
        error.message,
        "The request must contain the parameter T.1.Tag.2.Key"
    );
}
