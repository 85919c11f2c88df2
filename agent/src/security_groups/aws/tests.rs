//! Tests of `aws`.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::change::{ApplyOptions, apply};
use super::super::rule::{GroupReference, Peer};
use super::super::{Directory, Members, OwnVpc, SecurityGroup, random};
use super::*;

const OWNER: &str = "111122223333";

fn import_all(documents: &[(&str, &str)]) -> Result<(SecurityGroupFile, Vec<String>), FieldError> {
    let documents: Vec<_> = documents
        .iter()
        .map(|(name, text)| Document {
            name,
            text: text.as_bytes(),
        })
        .collect();
    import(&documents)
}

fn applied(file: &SecurityGroupFile) -> Directory {
    let members = Members::default();
    let vpc = OwnVpc {
        vpc_id: "vpc-1",
        has_ipv6: true,
    };
    let options = ApplyOptions {
        vpc,
        prune: false,
        members: &members,
    };
    apply(&Directory::default(), file, options).unwrap().0
}

fn peers(group: &SecurityGroup) -> Vec<String> {
    let text = |peer: &Peer| peer.to_string();
    group.rules.iter().map(|rule| text(&rule.peer)).collect()
}

/// In the shape of the AWS CLI's reference page of describe-security-groups.
const GROUPS: &str = r#"{
    "SecurityGroups": [
        {
            "Description": "launch-wizard-1 created 2023-08-29T15:07:46.318Z",
            "GroupName": "MySecurityGroup",
            "IpPermissions": [
                {
                    "FromPort": 22,
                    "IpProtocol": "tcp",
                    "IpRanges": [{"CidrIp": "203.0.113.0/24", "Description": "Access from NY office & VPN"}],
                    "Ipv6Ranges": [],
                    "PrefixListIds": [],
                    "ToPort": 22,
                    "UserIdGroupPairs": []
                },
                {
                    "IpProtocol": "-1",
                    "IpRanges": [],
                    "Ipv6Ranges": [],
                    "PrefixListIds": [{"PrefixListId": "pl-0123456789abcdef0"}],
                    "UserIdGroupPairs": [
                        {"GroupId": "sg-903004f8", "UserId": "111122223333"},
                        {"Description": "theirs", "GroupId": "sg-0aaaaaaaaaaaaaaaa", "PeeringStatus": "active",
                         "UserId": "444455556666", "VpcId": "vpc-0bbbbbbbbbbbbbbbb",
                         "VpcPeeringConnectionId": "pcx-0cccccccccccccccc"}
                    ]
                },
                {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
            ],
            "OwnerId": "111122223333",
            "GroupId": "sg-903004f8",
            "SecurityGroupArn": "arn:aws:ec2:us-east-1:111122223333:security-group/sg-903004f8",
            "IpPermissionsEgress": [
                {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}],
                 "PrefixListIds": [], "UserIdGroupPairs": []}
            ],
            "Tags": [{"Key": "Name", "Value": "x"}],
            "VpcId": "vpc-1a2b3c4d"
        }
    ],
    "FieldOfTomorrow": {"a": [1]}
}"#;

/// In the shape of the AWS CLI's reference page of describe-security-group-rules.
const RULES: &str = r#"{
    "SecurityGroupRules": [
        {
            "SecurityGroupRuleId": "sgr-abcdef01234567890",
            "GroupId": "sg-903004f8",
            "GroupOwnerId": "111122223333",
            "IsEgress": false,
            "IpProtocol": "-1",
            "FromPort": -1,
            "ToPort": -1,
            "ReferencedGroupInfo": {"GroupId": "sg-903004f8", "UserId": "111122223333"},
            "Tags": []
        },
        {
            "SecurityGroupRuleId": "sgr-bcdef01234567890a",
            "GroupId": "sg-903004f8",
            "GroupOwnerId": "111122223333",
            "IsEgress": true,
            "IpProtocol": "tcp",
            "FromPort": 443,
            "ToPort": 443,
            "CidrIpv6": "::/0",
            "Description": "pages",
            "SecurityGroupRuleArn": "arn:aws:ec2:us-east-1:111122223333:security-group-rule/sgr-bcdef01234567890a",
            "Tags": [{"Key": "a", "Value": "b"}]
        }
    ]
}"#;

/// In the shape of the AWS CLI's reference page of describe-managed-prefix-lists.
const LISTS: &str = r#"{
    "PrefixLists": [
        {
            "PrefixListId": "pl-0123456789abcdef0",
            "AddressFamily": "IPv4",
            "State": "create-complete",
            "PrefixListArn": "arn:aws:ec2:us-west-2:111122223333:prefix-list/pl-0123456789abcdef0",
            "PrefixListName": "vpc-cidrs",
            "MaxEntries": 10,
            "Version": 1,
            "Tags": [],
            "OwnerId": "111122223333"
        }
    ]
}"#;

/// In the shape of the AWS CLI's reference page of get-managed-prefix-list-entries.
const ENTRIES: &str = r#"{
    "Entries": [
        {"Cidr": "10.0.0.0/16", "Description": "vpc-a"},
        {"Cidr": "10.2.0.0/16"}
    ]
}"#;

#[test]
fn groups_and_prefix_lists_become_a_file() {
    let documents = [("e.json", ENTRIES), ("g.json", GROUPS), ("l.json", LISTS)];
    let (file, notes) = import_all(&documents).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    let directory = applied(&file);
    let group = &directory.groups["sg-903004f8"];
    assert_eq!(group.group_name, "MySecurityGroup");
    assert_eq!(group.vpc_id.as_deref(), Some("vpc-1a2b3c4d"));
    assert_eq!(
        peers(group),
        [
            "pl-0123456789abcdef0",
            "444455556666/sg-0aaaaaaaaaaaaaaaa",
            "sg-903004f8",
            "0.0.0.0/0",
            "203.0.113.0/24",
            "0.0.0.0/0",
            "::/0"
        ]
    );
    let theirs = GroupReference {
        group_id: "sg-0aaaaaaaaaaaaaaaa".into(),
        user_id: Some("444455556666".into()),
        vpc_id: Some("vpc-0bbbbbbbbbbbbbbbb".into()),
        vpc_peering_connection_id: Some("pcx-0cccccccccccccccc".into()),
        peering_status: Some("active".into()),
    };
    assert_eq!(group.rules[1].peer, Peer::Group(theirs));
    assert_eq!(group.rules[1].description.as_deref(), Some("theirs"));
    let list = &directory.prefix_lists["pl-0123456789abcdef0"];
    assert_eq!(
        (list.prefix_list_name.as_str(), list.max_entries),
        ("vpc-cidrs", Some(10))
    );
    assert_eq!(list.entries.len(), 2);
    assert_eq!(list.entries[0].description.as_deref(), Some("vpc-a"));
}

#[test]
fn rules_with_ids_win_in_any_order() {
    for documents in [
        [("g.json", GROUPS), ("r.json", RULES)],
        [("r.json", RULES), ("g.json", GROUPS)],
    ] {
        let (file, _) = import_all(&documents).unwrap();
        let group = applied(&file).groups["sg-903004f8"].clone();
        let ids: Vec<_> = group
            .rules
            .iter()
            .map(|rule| rule.rule_id.as_str())
            .collect();
        assert_eq!(ids, ["sgr-abcdef01234567890", "sgr-bcdef01234567890a"]);
        assert_eq!(group.group_name, "MySecurityGroup");
        assert_eq!(peers(&group), ["sg-903004f8", "::/0"]);
        assert_eq!(group.rules[1].description.as_deref(), Some("pages"));
    }
}

#[test]
fn what_is_incomplete_is_said() {
    let (file, notes) = import_all(&[("r.json", RULES), ("r.json", RULES)]).unwrap();
    assert_eq!(
        notes,
        ["sg-903004f8: named 903004f8; give the output of describe-security-groups too"]
    );
    assert_eq!(applied(&file).groups["sg-903004f8"].rules.len(), 2);
    let (_, notes) = import_all(&[("l.json", LISTS)]).unwrap();
    assert_eq!(
        notes,
        [
            "pl-0123456789abcdef0: has no entries; give the output of get-managed-prefix-list-entries too"
        ]
    );
    let page = r#"{"SecurityGroups": [], "NextToken": "abc"}"#;
    let (_, notes) = import_all(&[("p.json", page)]).unwrap();
    assert!(
        notes[0].starts_with("p.json: NextToken: this is one page of several"),
        "{notes:?}"
    );
    let last = r#"{"SecurityGroups": [], "NextToken": null}"#;
    assert_eq!(
        import_all(&[("p.json", last)]).unwrap().1,
        Vec::<String>::new()
    );
}

#[test]
fn entries_find_their_list() {
    let second = LISTS.replace("pl-0123456789abcdef0", "pl-b");
    let said = ENTRIES.replacen('{', r#"{"PrefixListId": "pl-b", "#, 1);
    let rows: [(&str, &str, &str); 4] = [
        ("dir/pl-b.json", ENTRIES, "pl-b"),
        ("dir/entries_pl-b_v1.json", ENTRIES, "pl-b"),
        ("e.json", &said, "pl-b"),
        ("pl-c.json", ENTRIES, "pl-c"),
    ];
    for (name, entries, expected) in rows {
        let documents = [("l.json", LISTS), (name, entries), ("m.json", &second)];
        let (file, _) = import_all(&documents).unwrap();
        let filled: Vec<_> = file
            .prefix_lists
            .iter()
            .filter(|list| list.entries.len() == 2)
            .map(|list| list.prefix_list_id.as_str())
            .collect();
        assert_eq!(filled, [expected], "{name}");
    }
    let aws = r#"{"PrefixLists": [{"Cidrs": ["3.5.0.0/19", "52.92.16.0/20"], "PrefixListId": "pl-63a5400a",
        "PrefixListName": "com.amazonaws.us-east-1.s3"}]}"#;
    let (file, notes) = import_all(&[("l.json", aws)]).unwrap();
    assert_eq!((file.prefix_lists[0].entries.len(), notes.len()), (2, 0));
    let networks =
        r#"{"PrefixLists": [{"Cidrs": ["10.0.0.0/8"], "PrefixListId": "pl-0123456789abcdef0"}]}"#;
    for documents in [
        [("a", LISTS), ("b", networks)],
        [("a", networks), ("b", LISTS)],
    ] {
        let list = &import_all(&documents).unwrap().0.prefix_lists[0];
        assert_eq!((list.max_entries, list.entries.len()), (Some(10), 1));
        assert_eq!(list.prefix_list_name, "vpc-cidrs");
    }
}

#[test]
fn bad_documents_name_field_and_fix() {
    let list = LISTS.replace("pl-0123456789abcdef0", "pl-b");
    let renamed = GROUPS.replace("MySecurityGroup", "other");
    let moved = RULES.replace("443", "444");
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);
    let rows: [Row<'_>; 8] = [
        (&[("g.json", "{")], "g.json: line 1", "not JSON"),
        (&[("g.json", "{}")], "g.json", "describe-security-groups"),
        (
            &[("g.json", r#"{"SecurityGroups": [{"GroupName": "x"}]}"#)],
            "g.json: SecurityGroups[0].GroupId",
            "is missing",
        ),
        (
            &[(
                "g.json",
                r#"{"SecurityGroups": [{"GroupId": "sg-a", "GroupName": "x",
                "IpPermissions": [{"IpProtocol": "tcp", "FromPort": "x"}]}]}"#,
            )],
            "g.json: SecurityGroups[0].IpPermissions[0].FromPort",
            "expected i64",
        ),
        (
            &[("a", GROUPS), ("b", &renamed)],
            "b: SecurityGroups[0]",
            "one output of each group",
        ),
        (
            &[("a", RULES), ("b", &moved)],
            "b: SecurityGroupRules[1]",
            "one output of each rule",
        ),
        (
            &[("e.json", ENTRIES)],
            "e.json: Entries",
            "as pl-0123456789abcdef0.json",
        ),
        (
            &[("l", LISTS), ("m", &list), ("sampl-e.json", ENTRIES)],
            "sampl-e.json: Entries",
            "of which prefix list",
        ),
    ];
    for (documents, field, says) in rows {
        let error = import_all(documents).unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// `directory` as the four commands would print it, the rules with ids if `with_ids`.
fn printed(directory: &Directory, with_ids: bool) -> Vec<(String, String)> {
    let mut documents = vec![(
        "g.json".to_owned(),
        json!({"SecurityGroups": directory.groups.values().map(printed_group).collect::<Vec<_>>()}),
    )];
    if with_ids {
        let rules = directory.groups.values().flat_map(|group| {
            let table = |rule| printed_rule(&group.group_id, rule);
            group.rules.iter().map(table)
        });
        let rules: Vec<Value> = rules.collect();
        documents.push(("r.json".to_owned(), json!({"SecurityGroupRules": rules})));
    }
    for list in directory.prefix_lists.values() {
        let mut described =
            json!({"PrefixListId": list.prefix_list_id, "PrefixListName": list.prefix_list_name});
        if let Some(max) = list.max_entries {
            described["MaxEntries"] = max.into();
        }
        documents.push(("l.json".to_owned(), json!({"PrefixLists": [described]})));
        let entry = |entry: &super::super::PrefixListEntry| {
            with_description(json!({"Cidr": entry.cidr.to_string()}), &entry.description)
        };
        let entries: Vec<Value> = list.entries.iter().map(entry).collect();
        documents.push((
            format!("{}.json", list.prefix_list_id),
            json!({"Entries": entries}),
        ));
    }
    let text = |(name, value): (String, Value)| (name, value.to_string());
    documents.into_iter().map(text).collect()
}

fn with_description(mut value: Value, description: &Option<String>) -> Value {
    if let Some(text) = description {
        value["Description"] = text.clone().into();
    }
    value
}

fn printed_reference(group: &GroupReference) -> Value {
    let mut value = json!({"GroupId": group.group_id});
    value["UserId"] = group.user_id.as_deref().unwrap_or(OWNER).into();
    for (name, field) in [
        ("VpcId", &group.vpc_id),
        ("VpcPeeringConnectionId", &group.vpc_peering_connection_id),
        ("PeeringStatus", &group.peering_status),
    ] {
        if let Some(text) = field {
            value[name] = text.clone().into();
        }
    }
    value
}

fn printed_protocol(rule: &super::super::SecurityGroupRule) -> Value {
    let table = SecurityGroupRuleTable::of(rule, "");
    let mut value = json!({"IpProtocol": table.ip_protocol});
    if let (Some(from), Some(to)) = (table.from_port, table.to_port) {
        value["FromPort"] = from.into();
        value["ToPort"] = to.into();
    }
    value
}

fn printed_group(group: &SecurityGroup) -> Value {
    let permissions = |direction| -> Vec<Value> {
        let rules = group
            .rules
            .iter()
            .filter(|rule| rule.direction == direction);
        rules.map(printed_permission).collect()
    };
    use branchline_common::verdict::Direction::{Egress, Ingress};
    json!({
        "GroupId": group.group_id,
        "GroupName": group.group_name,
        "Description": group.description,
        "OwnerId": OWNER,
        "VpcId": group.vpc_id.as_deref().unwrap_or("vpc-1"),
        "IpPermissions": permissions(Ingress),
        "IpPermissionsEgress": permissions(Egress),
    })
}

fn printed_permission(rule: &super::super::SecurityGroupRule) -> Value {
    let mut value = printed_protocol(rule);
    let (name, peer) = match &rule.peer {
        Peer::Cidr(network @ ipnet::IpNet::V4(_)) => {
            ("IpRanges", json!({"CidrIp": network.to_string()}))
        }
        Peer::Cidr(network) => ("Ipv6Ranges", json!({"CidrIpv6": network.to_string()})),
        Peer::PrefixList(id) => ("PrefixListIds", json!({"PrefixListId": id})),
        Peer::Group(group) => ("UserIdGroupPairs", printed_reference(group)),
    };
    value[name] = json!([with_description(peer, &rule.description)]);
    value
}

fn printed_rule(group_id: &str, rule: &super::super::SecurityGroupRule) -> Value {
    let mut value = with_description(printed_protocol(rule), &rule.description);
    value["SecurityGroupRuleId"] = rule.rule_id.clone().into();
    value["GroupId"] = group_id.into();
    value["GroupOwnerId"] = OWNER.into();
    value["IsEgress"] = (rule.direction == branchline_common::verdict::Direction::Egress).into();
    let (name, peer) = match &rule.peer {
        Peer::Cidr(network @ ipnet::IpNet::V4(_)) => ("CidrIpv4", network.to_string().into()),
        Peer::Cidr(network) => ("CidrIpv6", network.to_string().into()),
        Peer::PrefixList(id) => ("PrefixListId", id.clone().into()),
        Peer::Group(group) => ("ReferencedGroupInfo", printed_reference(group)),
    };
    value[name] = peer;
    value
}

proptest! {
    #[test]
    fn what_aws_prints_survives_import_print_and_apply(mut directory in random::directory(), with_ids: bool) {
        for group in directory.groups.values_mut() {
            // branchline's own, of which AWS knows nothing.
            (group.audit, group.cut_on_revoke) = (false, None);
            if !with_ids {
                for rule in &mut group.rules {
                    rule.rule_id = rule.content_id(&group.group_id);
                }
            }
        }
        let documents = printed(&directory, with_ids);
        let documents: Vec<_> = documents.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let (file, _) = import_all(&documents).unwrap();
        prop_assert_eq!(&SecurityGroupFile::parse(&file.to_toml().unwrap()).unwrap(), &file);
        prop_assert_eq!(&SecurityGroupFile::parse(&file.to_json().unwrap()).unwrap(), &file);
        prop_assert_eq!(applied(&file), directory);
    }
}
