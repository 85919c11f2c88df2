//! Tests of `change`, and through it of the file's tables.
#![expect(clippy::unwrap_used, reason = "tests")]

use branchline_common::verdict::Direction;
use ipnet::IpNet;

use super::super::rule::PortRange;
use super::*;

const WEB: &str = "[[security_groups]]\ngroup_id = 'sg-web'\ngroup_name = 'web'\n";
const HTTP: &str =
    "[[security_groups.ip_permissions]]\nip_protocol = 'tcp'\nfrom_port = 80\nto_port = 80
    ip_ranges = [{cidr_ip = '10.0.0.0/16'}]\n";
const RULE: &str =
    "[[security_groups.security_group_rules]]\nis_egress = false\nip_protocol = '-1'\n";
const LIST: &str = "[[prefix_lists]]\nprefix_list_id = 'pl-a'\nprefix_list_name = 'a'\n";

fn apply_with(
    current: &Directory,
    text: &str,
    prune: bool,
    members: &Members,
) -> Result<(Directory, Vec<String>), FieldError> {
    let vpc = OwnVpc {
        vpc_id: "vpc-1",
        has_ipv6: true,
    };
    let options = ApplyOptions {
        vpc,
        prune,
        members,
    };
    apply(current, &SecurityGroupFile::parse(text)?, options)
}

fn applied(text: &str) -> Result<(Directory, Vec<String>), FieldError> {
    apply_with(
        &Directory::of_new_vpc(true),
        text,
        false,
        &Members::default(),
    )
}

fn group(text: &str) -> SecurityGroup {
    applied(text).unwrap().0.groups["sg-web"].clone()
}

fn peers(group: &SecurityGroup, direction: Direction) -> Vec<String> {
    let rules = group
        .rules
        .iter()
        .filter(|rule| rule.direction == direction);
    rules.map(|rule| rule.peer.to_string()).collect()
}

#[test]
fn egress_left_out_is_everything_and_empty_is_nothing() {
    let peers_of = |text: &str| peers(&group(&format!("{WEB}{text}")), Direction::Egress);
    assert_eq!(peers_of(""), ["0.0.0.0/0", "::/0"]);
    assert_eq!(peers_of("ip_permissions_egress = []"), [""; 0]);
    assert_eq!(peers_of("security_group_rules = []"), [""; 0]);
    let http_out = HTTP.replace("ip_permissions", "ip_permissions_egress");
    assert_eq!(peers_of(&http_out), ["10.0.0.0/16"]);
}

#[test]
fn the_default_group_lets_its_members_in() {
    let directory = Directory::of_new_vpc(true);
    let default = directory.default_group().unwrap();
    assert_eq!(default.group_id, "sg-default");
    assert_eq!(peers(default, Direction::Ingress), ["sg-default"]);
    assert_eq!(peers(default, Direction::Egress), ["0.0.0.0/0", "::/0"]);
    let ipv4 = Directory::of_new_vpc(false);
    let default = ipv4.default_group().unwrap();
    assert_eq!(peers(default, Direction::Egress), ["0.0.0.0/0"]);
}

#[test]
fn a_group_has_what_its_table_says() {
    let egress = RULE.replace("false", "true");
    let text = format!(
        "{WEB}description = 'pages'\naudit = true\ncut_on_revoke = false\nvpc_id = 'vpc-1'
        {RULE}security_group_rule_id = 'sgr-0b'\ncidr_ipv4 = '10.1.2.3/8'\ndescription = 'all'
        {RULE}referenced_group_info = {{group_id = 'sg-web', vpc_id = 'vpc-1'}}
        {egress}prefix_list_id = 'pl-a'
        {LIST}max_entries = 5
        entries = [{{cidr = '2001:db8::/32'}}, {{cidr = '10.1.2.3/8', description = 'ours'}}]"
    );
    let (directory, notes) = applied(&text).unwrap();
    assert_eq!(
        notes,
        [
            "security_groups[0].security_group_rules[0].cidr_ipv4: 10.1.2.3/8 is stored as 10.0.0.0/8",
            "prefix_lists[0].entries[1].cidr: 10.1.2.3/8 is stored as 10.0.0.0/8",
        ]
    );
    let group = &directory.groups["sg-web"];
    assert_eq!(
        (group.audit, group.cut_on_revoke, &group.vpc_id),
        (true, Some(false), &None)
    );
    assert_eq!(group.description, "pages");
    assert_eq!(peers(group, Direction::Ingress), ["sg-web", "10.0.0.0/8"]);
    assert_eq!(peers(group, Direction::Egress), ["pl-a"]);
    assert_eq!(group.rules[1].rule_id, "sgr-0b");
    assert_eq!(group.rules[1].description.as_deref(), Some("all"));
    assert_eq!(group.rules[0].rule_id, group.rules[0].content_id("sg-web"));
    assert_eq!(group.rules[0].ports, PortRange::ALL);
    let list = &directory.prefix_lists["pl-a"];
    let entries: Vec<_> = list
        .entries
        .iter()
        .map(|entry| entry.cidr.to_string())
        .collect();
    assert_eq!(entries, ["10.0.0.0/8", "2001:db8::/32"]);
    assert_eq!(list.max_entries, Some(5));
}

#[test]
fn toml_and_json_say_the_same() {
    let json = r#" {"security_groups": [{"group_id": "sg-web", "group_name": "web", "ip_permissions": [
        {"ip_protocol": "tcp", "from_port": 80, "to_port": 80, "ip_ranges": [{"cidr_ip": "10.0.0.0/16"}]}]}]}"#;
    assert_eq!(
        applied(json).unwrap(),
        applied(&format!("{WEB}{HTTP}")).unwrap()
    );
}

#[test]
fn bad_files_name_field_and_fix() {
    let other = WEB.replace("sg-web", "sg-b");
    let to_group = |id: &str| format!("{RULE}referenced_group_info = {{group_id = '{id}'}}\n");
    let rows = [
        (
            WEB.replace("sg-web", "web"),
            "security_groups[0].group_id",
            "write sg-",
        ),
        (
            format!("{WEB}{}", WEB.replace("'web'", "'b'")),
            "security_groups[1].group_id",
            "its own id",
        ),
        (
            format!("{WEB}{}", other.replace("'web'", "'WEB '")),
            "security_groups[1].group_name",
            "\"WEB\" is the name of sg-web; give each group its own name",
        ),
        (
            WEB.replace("'web'", "'sg-x'"),
            "security_groups[0].group_name",
            "not begin with sg-",
        ),
        (
            WEB.replace("'web'", "' '"),
            "security_groups[0].group_name",
            "1 to 255",
        ),
        (
            WEB.replace("'web'", "'Default'"),
            "security_groups[0].group_name",
            "the name of sg-default",
        ),
        (
            WEB.replace("sg-web", "sg-default"),
            "security_groups[0].group_id",
            "name the group default",
        ),
        (
            format!("{WEB}description = 'é'"),
            "security_groups[0].description",
            "'é'",
        ),
        (
            format!("{WEB}vpc_id = 'x'"),
            "security_groups[0].vpc_id",
            "write vpc-",
        ),
        (
            format!("{WEB}audit = 1"),
            "security_groups[0].audit",
            "expected a boolean",
        ),
        (
            format!("{WEB}tags = []"),
            "security_groups[0].tags",
            "unknown field",
        ),
        (
            format!("{WEB}{HTTP}{HTTP}"),
            "security_groups[0].ip_permissions[1].ip_ranges[0].cidr_ip",
            "sg-web: security_groups[0].ip_permissions[0].ip_ranges[0].cidr_ip allows the same for 10.0.0.0/16; \
             remove one",
        ),
        (
            format!("{WEB}{HTTP}{}", HTTP.replace("10.0.0.0/16", "10.0.9.9/16")),
            "security_groups[0].ip_permissions[1].ip_ranges[0].cidr_ip",
            "remove one",
        ),
        (
            format!("{WEB}{}", HTTP.replace("from_port = 80", "from_port = 90")),
            "security_groups[0].ip_permissions[0].from_port",
            "sg-web: 90 is above to_port 80; write the smaller port first",
        ),
        (
            format!(
                "{WEB}{other}{}",
                HTTP.replace("from_port = 80", "from_port = 'http'")
            ),
            "security_groups[1].ip_permissions[0].from_port",
            "expected i64",
        ),
        (
            format!("{WEB}{HTTP}user_id_group_pairs = [{{group_id = 'sg-x'}}]"),
            "security_groups[0].ip_permissions[0].user_id_group_pairs[0].group_id",
            "sg-web: no security group sg-x is defined; add it to security_groups",
        ),
        (
            format!("{WEB}{HTTP}prefix_list_ids = [{{prefix_list_id = 'pl-x'}}]"),
            "security_groups[0].ip_permissions[0].prefix_list_ids[0].prefix_list_id",
            "sg-web: no prefix list pl-x is defined; add it to prefix_lists",
        ),
        (
            format!("{WEB}{}", to_group("sg-x")),
            "security_groups[0].security_group_rules[0].referenced_group_info.group_id",
            "no security group sg-x is defined",
        ),
        (
            format!("{WEB}{}", to_group("x")),
            "security_groups[0].security_group_rules[0].referenced_group_info.group_id",
            "write sg-",
        ),
        (
            format!("{WEB}{RULE}"),
            "security_groups[0].security_group_rules[0]",
            "names 0 peers; write one of cidr_ipv4",
        ),
        (
            format!("{WEB}{RULE}cidr_ipv4 = '10.0.0.0/8'\ncidr_ipv6 = '::/0'"),
            "security_groups[0].security_group_rules[0]",
            "names 2 peers",
        ),
        (
            format!("{WEB}{RULE}security_group_rule_id = 'x'\ncidr_ipv4 = '10.0.0.0/8'"),
            "security_groups[0].security_group_rules[0].security_group_rule_id",
            "write sgr-",
        ),
        (
            format!("{WEB}{RULE}security_group_rule_id = 'sgr-1'\ncidr_ipv4 = '10.0.0.0'"),
            "security_groups[0].security_group_rules[0].cidr_ipv4",
            "sg-web: sgr-1: \"10.0.0.0\" is no network of this family; write address and prefix length",
        ),
        (
            format!(
                "{WEB}{RULE}security_group_rule_id = 'sgr-1'\ncidr_ipv4 = '10.0.0.0/8'
                {RULE}security_group_rule_id = 'sgr-1'\ncidr_ipv4 = '11.0.0.0/8'"
            ),
            "security_groups[0].security_group_rules[1].cidr_ipv4",
            "the id sgr-1; give each rule its own id",
        ),
        (
            format!("{WEB}{HTTP}{RULE}cidr_ipv4 = '10.0.0.0/8'"),
            "security_groups[0].security_group_rules",
            "write all rules in one of the two forms",
        ),
        (
            LIST.replace("pl-a", "a"),
            "prefix_lists[0].prefix_list_id",
            "write pl-",
        ),
        (
            format!("{LIST}{LIST}"),
            "prefix_lists[1].prefix_list_id",
            "its own id",
        ),
        (
            LIST.replace("'a'", "'a~'"),
            "prefix_lists[0].prefix_list_name",
            "'~'",
        ),
        (
            format!("{LIST}max_entries = -1"),
            "prefix_lists[0].max_entries",
            "expected u32",
        ),
        (
            format!(
                "{LIST}max_entries = 1\nentries = [{{cidr = '10.0.0.0/8'}}, {{cidr = '11.0.0.0/8'}}]"
            ),
            "prefix_lists[0].entries",
            "pl-a: 2 entries are more than max_entries, 1; raise max_entries",
        ),
        (
            format!("{LIST}entries = [{{cidr = '10.0.0.0/8'}}, {{cidr = '10.1.0.0/8'}}]"),
            "prefix_lists[0].entries[1].cidr",
            "pl-a: 10.0.0.0/8 is in the list already",
        ),
        (
            format!("{LIST}entries = [{{cidr = '10.0.0.256/8'}}]"),
            "prefix_lists[0].entries[0].cidr",
            "10.0.1.0/24 or 2001:db8::/32",
        ),
        (
            format!("{LIST}entries = [{{cidr_ip = ''}}]"),
            "prefix_lists[0].entries[0].cidr_ip",
            "unknown field",
        ),
        ("[[groups]]".to_owned(), "groups", "unknown field"),
        (
            "{\"security_groups\": [{}]}".to_owned(),
            "security_groups[0].group_id",
            "is missing",
        ),
    ];
    for (text, field, says) in rows {
        let error = applied(&text).unwrap_err();
        assert_eq!(error.field, field, "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn references_abroad_may_be_unknown_and_are_said() {
    let rows = [
        (
            "user_id = '123456789012'",
            "123456789012/sg-x is of another account or VPC",
        ),
        ("vpc_id = 'vpc-2'", "sg-x is of another account or VPC"),
        (
            "vpc_peering_connection_id = 'pcx-1'",
            "sg-x is of another account or VPC",
        ),
        (
            "peering_status = 'deleted'",
            "sg-x matches nothing: its peering is not active",
        ),
    ];
    for (foreign, says) in rows {
        let text = format!("{WEB}{RULE}referenced_group_info = {{group_id = 'sg-x', {foreign}}}");
        let (_, notes) = applied(&text).unwrap();
        assert_eq!(notes.len(), 1, "{notes:?}");
        let field = "security_groups[0].security_group_rules[0].referenced_group_info.group_id: ";
        assert!(notes[0].starts_with(&format!("{field}{says}")), "{notes:?}");
    }
    let own = format!("{WEB}{RULE}referenced_group_info = {{group_id = 'sg-x', vpc_id = 'vpc-1'}}");
    assert!(
        applied(&own)
            .unwrap_err()
            .problem
            .contains("no security group sg-x")
    );
}

#[test]
fn names_are_unique_in_a_vpc() {
    let elsewhere = WEB.replace("sg-web", "sg-b");
    let (directory, _) = applied(&format!("{WEB}{elsewhere}vpc_id = 'vpc-2'")).unwrap();
    assert_eq!(directory.groups["sg-b"].vpc_id.as_deref(), Some("vpc-2"));
    let error = applied(&format!("{WEB}{elsewhere}vpc_id = 'vpc-1'")).unwrap_err();
    assert_eq!(error.field, "security_groups[1].group_name");
    let (current, _) = applied(WEB).unwrap();
    let error = apply_with(&current, &elsewhere, false, &Members::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "security_groups[0].group_name: \"web\" is the name of sg-web; give each group its own name; case does not count"
    );
}

#[test]
fn a_file_replaces_what_it_names_and_leaves_the_rest() {
    let list = format!("{LIST}entries = [{{cidr = '10.0.0.0/8'}}]");
    let (current, _) = applied(&format!("{WEB}{HTTP}{list}")).unwrap();
    let database = WEB.replace("web", "db");
    let (next, _) = apply_with(
        &current,
        &format!("{database}{HTTP}{LIST}"),
        false,
        &Members::default(),
    )
    .unwrap();
    assert_eq!(next.groups["sg-web"], current.groups["sg-web"]);
    assert_eq!(next.prefix_lists["pl-a"].entries, []);
    let ids: Vec<_> = next.groups.keys().collect();
    assert_eq!(ids, ["sg-db", "sg-default", "sg-web"]);
    let (next, _) = apply_with(&next, WEB, false, &Members::default()).unwrap();
    assert_eq!(peers(&next.groups["sg-web"], Direction::Ingress), [""; 0]);
}

#[test]
fn the_default_group_keeps_its_name() {
    let renamed = WEB.replace("sg-web", "sg-main");
    let own = Directory {
        groups: [(
            "sg-main".to_owned(),
            SecurityGroup {
                group_id: "sg-main".into(),
                group_name: "default".into(),
                ..SecurityGroup::default()
            },
        )]
        .into(),
        ..Directory::default()
    };
    let error = apply_with(&own, &renamed, false, &Members::default()).unwrap_err();
    assert_eq!(error.field, "security_groups[0].group_name");
    assert!(error.fix.contains("name it default"), "{error}");
}

#[test]
fn prune_removes_what_the_file_leaves_out_unless_it_is_used() {
    let database = WEB.replace("web", "db");
    let to_web = "[[security_groups.ip_permissions]]\nip_protocol = '-1'
        user_id_group_pairs = [{group_id = 'sg-web'}]\nprefix_list_ids = [{prefix_list_id = 'pl-a'}]\n";
    let (current, _) = applied(&format!("{WEB}{database}{to_web}{LIST}")).unwrap();
    let members = Members::default();

    let (next, _) = apply_with(&current, &format!("{WEB}{LIST}"), true, &members).unwrap();
    assert_eq!(
        next.groups.keys().collect::<Vec<_>>(),
        ["sg-default", "sg-web"]
    );
    let (next, _) = apply_with(&current, "", true, &members).unwrap();
    assert_eq!(next, Directory::of_new_vpc(true));

    let mut members = Members::default();
    let network: IpNet = "10.0.1.4/32".parse().unwrap();
    members.insert("eni-1", ["sg-db"], [network]);
    let error = apply_with(&current, WEB, true, &members).unwrap_err();
    assert_eq!(
        error.to_string(),
        "security_groups: sg-db would be removed, and eni-1 has it; add it to the file, or take it from its network interfaces first"
    );

    let members = Members::default();
    let error = apply_with(
        &current,
        &format!("{database}{to_web}{LIST}"),
        true,
        &members,
    )
    .unwrap_err();
    assert!(
        error.field.ends_with("user_id_group_pairs[0].group_id"),
        "{error}"
    );

    let (mut current, _) = applied(&format!("{WEB}{LIST}")).unwrap();
    let default = current.groups.get_mut("sg-default").unwrap();
    default.rules[0].peer = Peer::PrefixList("pl-a".into());
    let rule_id = default.rules[0].rule_id.clone();
    let error = apply_with(&current, WEB, true, &members).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "prefix_lists: pl-a would be removed, and {rule_id} of sg-default names it; add it to the file, or change that rule too"
        )
    );
}

#[test]
fn exceeded_quotas_of_ec2_are_said() {
    let ranges: Vec<String> = (0..61)
        .map(|n| format!("{{cidr_ip = '10.9.{n}.0/24'}}"))
        .collect();
    let many = HTTP.replace("{cidr_ip = '10.0.0.0/16'}", &ranges.join(","));
    let (_, notes) = applied(&format!("{WEB}{many}")).unwrap();
    assert_eq!(
        notes,
        ["security_groups[0]: sg-web: 61 ingress rules for IPv4; EC2's default quota is 60"]
    );
    let (_, notes) = applied(&format!("{LIST}max_entries = 1001")).unwrap();
    assert_eq!(
        notes,
        ["prefix_lists[0]: pl-a: 1001 entries; EC2's quota is 1000"]
    );
    let lists: String = (0..101)
        .map(|n| LIST.replace("pl-a", &format!("pl-{n}")))
        .collect();
    let (_, notes) = applied(&lists).unwrap();
    assert_eq!(
        notes,
        ["prefix_lists: 101 prefix lists; EC2's default quota is 100"]
    );
}
