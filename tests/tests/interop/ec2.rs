//! The client of EC2 against moto: what others think that EC2's wire format is.
//!
//! moto has no trunks and knows no client token; those are the stand-in's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use branchline_ec2::{
    Class, Ec2, NetworkInterface, NewInterface, RulePeer, SecurityGroupRule, Settings, client_token,
};
use branchline_tests::s3_server::{S3Server, free_port};

const REGION: &str = "us-east-1";
/// One of those that moto knows.
const IMAGE: &str = "ami-12c6146b";

/// An account of moto's, with a VPC.
struct Account {
    moto: S3Server,
    ec2: Ec2,
    vpc: String,
    subnet: String,
    web: String,
    client: String,
}

impl Account {
    async fn new() -> Self {
        assert!(
            std::env::var_os("AWS_ACCESS_KEY_ID").is_some(),
            "AWS_ACCESS_KEY_ID is not set: run `cargo xtask test`"
        );
        let moto = S3Server::start(free_port());
        let settings = Settings {
            region: REGION.to_owned(),
            endpoint_url: Some(moto.endpoint()),
            share: 1.0,
            // What moto has not is a failure of its server, which is asked again until then.
            deadline: Duration::from_secs(3),
        };
        let ec2 = Ec2::new(&settings, Arc::new(|_, _, _| {})).await;
        let vpc = ask(
            &moto,
            "CreateVpc",
            &[
                ("CidrBlock", "10.0.0.0/16"),
                ("AmazonProvidedIpv6CidrBlock", "true"),
            ],
        );
        let ipv6 = text(&vpc, "ipv6CidrBlock").replace("/56", "/64");
        let vpc = text(&vpc, "vpcId");
        let subnet = ask(
            &moto,
            "CreateSubnet",
            &[
                ("VpcId", &vpc),
                ("CidrBlock", "10.0.1.0/24"),
                ("Ipv6CidrBlock", &ipv6),
                ("AvailabilityZone", "us-east-1a"),
            ],
        );
        let subnet = text(&subnet, "subnetId");
        let group = |name| {
            let values = [
                ("GroupName", name),
                ("GroupDescription", "of a test"),
                ("VpcId", &vpc),
            ];
            text(&ask(&moto, "CreateSecurityGroup", &values), "groupId")
        };
        let (web, client) = (group("web"), group("client"));
        Self {
            moto,
            ec2,
            vpc,
            subnet,
            web,
            client,
        }
    }

    fn ask(&self, action: &str, values: &[(&str, &str)]) -> String {
        ask(&self.moto, action, values)
    }

    fn new_interface(&self) -> NewInterface {
        NewInterface {
            subnet_id: self.subnet.clone(),
            groups: vec![self.web.clone(), self.client.clone()],
            description: "branchline test".to_owned(),
            tags: BTreeMap::from([
                ("branchline-instance".to_owned(), "i-1".to_owned()),
                ("Name".to_owned(), "a & b".to_owned()),
            ]),
            client_token: client_token("a", "create"),
            is_trunk: false,
            has_ipv6: true,
            has_primary_ipv6: false,
        }
    }

    async fn found(&self, filter: &str, value: &str) -> Vec<NetworkInterface> {
        let values = [value.to_owned()];
        let filters: [(&str, &[String]); 1] = [(filter, &values)];
        self.ec2
            .describe_network_interfaces(&filters)
            .await
            .unwrap()
    }
}

/// Asks moto for what branchline itself never makes.
fn ask(moto: &S3Server, action: &str, values: &[(&str, &str)]) -> String {
    let mut form = format!("Version=2016-11-15&Action={action}");
    for (key, value) in values {
        form += &format!("&{key}={}", value.replace(':', "%3A").replace('/', "%2F"));
    }
    let (status, body) = moto.ask_of("ec2", &form);
    assert_eq!(status, 200, "{action}: {body}");
    body
}

/// The text of the first element `name`.
fn text(xml: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let after = xml.split_once(&open);
    let found = after.and_then(|(_, after)| after.split_once(&close));
    found
        .unwrap_or_else(|| panic!("no {name}: {xml}"))
        .0
        .to_owned()
}

#[tokio::test]
async fn an_eni_is_made_found_changed_attached_and_deleted() {
    let account = Account::new().await;
    let (ec2, new) = (&account.ec2, account.new_interface());
    let made = ec2.create_network_interface(&new).await.unwrap();
    assert_eq!(
        (made.subnet_id.as_str(), made.vpc_id.as_str()),
        (account.subnet.as_str(), account.vpc.as_str())
    );
    assert_eq!((made.ipv4.len(), made.ipv6.len()), (1, 1), "{made:?}");
    assert!(
        "10.0.1.0/24"
            .parse::<ipnet::Ipv4Net>()
            .unwrap()
            .contains(&made.ipv4[0])
    );
    assert_eq!(made.tags, new.tags);
    assert_eq!(made.mac.split(':').count(), 6);
    for (filter, value) in [
        ("network-interface-id", made.id.as_str()),
        ("tag:branchline-instance", "i-1"),
        ("group-id", account.client.as_str()),
    ] {
        let found = account.found(filter, value).await;
        assert_eq!(found.len(), 1, "{filter}");
        assert_eq!(
            (&found[0].id, found[0].status.as_str()),
            (&made.id, "available"),
            "{filter}"
        );
        let mut groups = found[0].groups.clone();
        groups.sort();
        let mut given = new.groups.clone();
        given.sort();
        assert_eq!(groups, given);
        assert!(found[0].source_dest_check && found[0].attachment.is_none());
    }
    let only = [account.client.clone()];
    ec2.set_groups(&made.id, &only).await.unwrap();
    ec2.set_source_dest_check(&made.id, false).await.unwrap();
    let more = BTreeMap::from([("branchline-vlan".to_owned(), "7".to_owned())]);
    ec2.create_tags(&made.id, &more).await.unwrap();
    let changed = account
        .found("network-interface-id", &made.id)
        .await
        .remove(0);
    assert_eq!(
        (changed.groups.as_slice(), changed.source_dest_check),
        (&only[..], false)
    );
    assert_eq!(
        (
            changed.tags["branchline-vlan"].as_str(),
            changed.tags["Name"].as_str()
        ),
        ("7", "a & b")
    );

    let run = account.ask(
        "RunInstances",
        &[
            ("ImageId", IMAGE),
            ("InstanceType", "c5.large"),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("SubnetId", &account.subnet),
        ],
    );
    let instance = text(&run, "instanceId");
    let attachment = ec2
        .attach_network_interface(&made.id, &instance, 1, 0)
        .await
        .unwrap();
    ec2.set_delete_on_termination(&made.id, &attachment, true)
        .await
        .unwrap();
    let of_instance = account.found("attachment.instance-id", &instance).await;
    assert_eq!(of_instance.len(), 2, "the primary one and this");
    let attached = of_instance.iter().find(|one| one.id == made.id).unwrap();
    let at = attached.attachment.as_ref().unwrap();
    assert_eq!(
        (&at.id, at.instance_id.as_ref(), at.device_index),
        (&attachment, Some(&instance), 1)
    );
    assert_eq!(attached.status, "in-use");
    ec2.detach_network_interface(&attachment).await.unwrap();
    ec2.delete_network_interface(&made.id).await.unwrap();
    let gone = ec2.delete_network_interface(&made.id).await.unwrap_err();
    assert_eq!(
        gone.code.as_deref(),
        Some("InvalidNetworkInterfaceID.NotFound")
    );
    assert!(
        account
            .found("network-interface-id", &made.id)
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn groups_have_their_rules_and_lists_their_versions() {
    let account = Account::new().await;
    let list = account.ask(
        "CreateManagedPrefixList",
        &[
            ("PrefixListName", "offices"),
            ("AddressFamily", "IPv4"),
            ("MaxEntries", "5"),
            ("Entry.1.Cidr", "192.0.2.0/24"),
            ("Entry.1.Description", "north"),
        ],
    );
    let list = text(&list, "prefixListId");
    account.ask(
        "AuthorizeSecurityGroupIngress",
        &[
            ("GroupId", &account.web),
            ("IpPermissions.1.IpProtocol", "tcp"),
            ("IpPermissions.1.FromPort", "443"),
            ("IpPermissions.1.ToPort", "444"),
            ("IpPermissions.1.IpRanges.1.CidrIp", "10.0.0.0/8"),
            ("IpPermissions.1.Ipv6Ranges.1.CidrIpv6", "2001:db8::/32"),
            ("IpPermissions.1.PrefixListIds.1.PrefixListId", &list),
            ("IpPermissions.1.Groups.1.GroupId", &account.client),
        ],
    );
    let ec2 = &account.ec2;
    let groups = ec2.describe_security_groups(&account.vpc).await.unwrap();
    let mut names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["client", "default", "web"]);
    let rules = ec2
        .describe_security_group_rules(std::slice::from_ref(&account.web))
        .await
        .unwrap();
    let ingress: Vec<_> = rules.iter().filter(|rule| !rule.is_egress).collect();
    assert!(
        ingress.iter().all(|rule| {
            (rule.ip_protocol.as_str(), rule.from_port, rule.to_port)
                == ("tcp", Some(443), Some(444))
                && rule.group_id == account.web
        }),
        "{ingress:#?}"
    );
    let has = |is: &dyn Fn(&RulePeer) -> bool| ingress.iter().filter(|rule| is(&rule.peer)).count();
    assert_eq!(
        has(&|peer| *peer == RulePeer::Cidr("10.0.0.0/8".to_owned())),
        1
    );
    assert_eq!(
        has(&|peer| *peer == RulePeer::Cidr("2001:db8::/32".to_owned())),
        1
    );
    assert_eq!(has(&|peer| *peer == RulePeer::PrefixList(list.clone())), 1);
    assert_eq!(
        has(
            &|peer| matches!(peer, RulePeer::Group { group_id, .. } if *group_id == account.client)
        ),
        1
    );
    let to_all = |rule: &&SecurityGroupRule| rule.is_egress && rule.ip_protocol == "-1";
    assert!(
        rules.iter().any(|rule| to_all(&rule)),
        "EC2's own rule: {rules:#?}"
    );

    account.ask(
        "ModifyManagedPrefixList",
        &[
            ("PrefixListId", &list),
            ("CurrentVersion", "1"),
            ("AddEntry.1.Cidr", "198.51.100.0/24"),
        ],
    );
    let lists = ec2
        .describe_managed_prefix_lists(std::slice::from_ref(&list))
        .await
        .unwrap();
    assert_eq!(lists.len(), 1);
    assert_eq!((lists[0].max_entries, lists[0].version), (Some(5), Some(2)));
    for (version, expected) in [
        (1, &["192.0.2.0/24"][..]),
        (2, &["192.0.2.0/24", "198.51.100.0/24"]),
    ] {
        let entries = ec2
            .managed_prefix_list_entries(&list, Some(version))
            .await
            .unwrap();
        let cidrs: Vec<_> = entries.iter().map(|entry| entry.cidr.as_str()).collect();
        assert_eq!(cidrs, expected, "version {version}");
        assert_eq!(entries[0].description.as_deref(), Some("north"));
    }
}

#[tokio::test]
async fn a_vpc_is_what_was_made() {
    let account = Account::new().await;
    let ec2 = &account.ec2;
    let options = account.ask(
        "CreateDhcpOptions",
        &[
            ("DhcpConfiguration.1.Key", "domain-name"),
            ("DhcpConfiguration.1.Value.1", "corp.example"),
            ("DhcpConfiguration.2.Key", "domain-name-servers"),
            ("DhcpConfiguration.2.Value.1", "10.0.0.53"),
        ],
    );
    let options = text(&options, "dhcpOptionsId");
    account.ask(
        "AssociateDhcpOptions",
        &[("DhcpOptionsId", &options), ("VpcId", &account.vpc)],
    );
    let vpc = ec2.describe_vpc(&account.vpc).await.unwrap();
    assert_eq!(vpc.ipv4, ["10.0.0.0/16".parse().unwrap()]);
    assert_eq!(
        (vpc.ipv6.len(), vpc.dhcp_options_id.as_str()),
        (1, options.as_str())
    );
    let set = ec2.describe_dhcp_options(&options).await.unwrap();
    assert_eq!(
        (&set["domain-name"][..], &set["domain-name-servers"][..]),
        (
            &["corp.example".to_owned()][..],
            &["10.0.0.53".to_owned()][..]
        )
    );
    assert_eq!(
        ec2.describe_vpc_dns(&account.vpc).await.unwrap(),
        (true, false)
    );
    let subnets = ec2.describe_subnets(&account.vpc).await.unwrap();
    assert_eq!(subnets.len(), 1);
    let subnet = &subnets[0];
    assert_eq!(
        (subnet.id.as_str(), subnet.availability_zone.as_str()),
        (account.subnet.as_str(), "us-east-1a")
    );
    assert_eq!(
        (subnet.ipv4, subnet.available),
        (Some("10.0.1.0/24".parse().unwrap()), 251)
    );
    // Not its IPv6 network: moto 5.2.5 gives as the state of its association a Python dictionary.
    let tables = ec2.describe_route_tables(&account.vpc).await.unwrap();
    assert!(tables.len() == 1 && tables[0].is_main, "{tables:#?}");
    let local = &tables[0].routes[0];
    assert_eq!(
        (local.destination.as_str(), local.target.as_deref()),
        ("10.0.0.0/16", Some("local"))
    );
    let limits = ec2.describe_instance_type("c5.large").await.unwrap();
    assert_eq!(
        (
            limits.maximum_network_interfaces,
            limits.ipv4_addresses_per_interface
        ),
        (3, 10)
    );
    assert_eq!(
        (&limits.network_cards[..], limits.hypervisor.as_str()),
        (&[3][..], "nitro")
    );
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let account = Account::new().await;
    let subjects = branchline_ec2::Subjects {
        vpc_id: account.vpc.clone(),
        subnet_id: account.subnet.clone(),
        network_interface_id: "eni-00000000000000000".to_owned(),
        association_id: None,
        attachment_id: None,
        instance_id: "i-00000000000000000".to_owned(),
        tags: account.new_interface().tags,
        has_trunk: true,
    };
    let verdicts = account.ec2.permissions(&subjects).await;
    let of = |action: &str| verdicts.iter().find(|one| one.action == action).unwrap();
    for action in [
        "CreateNetworkInterface",
        "DeleteNetworkInterface",
        "DescribeSubnets",
    ] {
        assert_eq!(of(action).is_allowed, Some(true), "{action}: {verdicts:#?}");
    }
    // moto has none: no verdict, and no wrong one.
    assert_eq!(of("AssociateTrunkInterface").is_allowed, None);
    assert!(account.found("vpc-id", &account.vpc).await.is_empty());
}

#[tokio::test]
async fn what_is_not_there_has_ec2s_own_code() {
    let account = Account::new().await;
    let new = NewInterface {
        subnet_id: "subnet-00000000000000000".to_owned(),
        ..account.new_interface()
    };
    let error = account
        .ec2
        .create_network_interface(&new)
        .await
        .unwrap_err();
    assert_eq!(error.code.as_deref(), Some("InvalidSubnetID.NotFound"));
    assert_eq!(error.class(), Class::Configuration);
    assert!(error.message.contains(&new.subnet_id), "{error}");
}
