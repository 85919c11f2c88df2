//! Tests of `addresses`.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;
use crate::provider::local::vpc_file::parse;

/// Two small subnets and one with IPv6 alone.
fn vpc() -> Vpc {
    let text = "vpc_id = 'vpc-1'\ncidr_block = '10.0.0.0/16'\nipv6_cidr_block = 'fd00:10::/56'
        subnets = [
            {subnet_id = 'subnet-a', cidr_block = '10.0.1.0/28', ipv6_cidr_block = 'fd00:10:0:1::/64', availability_zone = 'eu-central-1a'},
            {subnet_id = 'subnet-b', cidr_block = '10.0.2.0/27'},
            {subnet_id = 'subnet-six', ipv6_cidr_block = 'fd00:10:0:6::/64'},
            {subnet_id = 'subnet-big', cidr_block = '10.0.16.0/20'},
        ]
        [[security_groups]]\ngroup_id = 'sg-web'\ngroup_name = 'web'";
    parse(text).unwrap().vpc
}

fn request(subnets: &[&str], groups: &[&str]) -> EniRequest {
    EniRequest {
        attachment_id: "a".into(),
        subnets: subnets.iter().map(ToString::to_string).collect(),
        security_groups: groups.iter().map(ToString::to_string).collect(),
    }
}

fn next(vpc: &Vpc, existing: &mut Vec<Eni>, subnets: &[&str]) -> Result<Eni, AllocateError> {
    let eni_id = format!("eni-{:017x}", existing.len());
    let eni = allocate(
        vpc,
        &vpc.directory,
        &Occupied::of(&*existing),
        &request(subnets, &[]),
        &eni_id,
        4095,
    )?;
    let eni = Eni {
        attachment_id: eni_id,
        ..eni
    };
    existing.push(eni.clone());
    Ok(eni)
}

#[test]
fn the_first_eni_has_the_lowest_of_everything() {
    let eni = allocate(
        &vpc(),
        &vpc().directory,
        &Occupied::default(),
        &request(&["subnet-a"], &["sg-web"]),
        "eni-0123456789abcdef0",
        4095,
    )
    .unwrap();
    let text = serde_json::to_string_pretty(&eni).unwrap();
    let expected = r#"{
  "eni_id": "eni-0123456789abcdef0",
  "attachment_id": "a",
  "subnet_id": "subnet-a",
  "vpc_id": "vpc-1",
  "mac": "0a:78:9a:bc:de:f0",
  "vlan": 1,
  "ipv4": "10.0.1.4/28",
  "ipv6": "fd00:10:0:1::4/64",
  "router_ipv4": "10.0.1.1",
  "router_ipv6": "fd00:10:0:1::1",
  "router_mac": "0e:62:6c:00:00:01",
  "groups": [
    "sg-web"
  ],
  "private_dns_name": "ip-10-0-1-4.eu-central-1.compute.internal",
  "availability_zone": "eu-central-1a"
}"#;
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<Eni>(&text).unwrap(), eni);
    assert_eq!(eni.host_link_name(), "bl456789abcdef0");
    assert_eq!(eni.host_link_name().len(), 15);
}

#[test]
fn a_subnet_without_a_family_gives_none() {
    let six = allocate(
        &vpc(),
        &vpc().directory,
        &Occupied::default(),
        &request(&["subnet-six"], &[]),
        "eni-1",
        4095,
    )
    .unwrap();
    assert_eq!(
        (six.ipv4, six.router_ipv4, six.private_dns_name),
        (None, None, None)
    );
    assert_eq!(six.ipv6.unwrap().to_string(), "fd00:10:0:6::4/64");
    assert_eq!(six.groups, ["sg-default"]);
    let four = allocate(
        &vpc(),
        &vpc().directory,
        &Occupied::default(),
        &request(&["subnet-b"], &[]),
        "eni-1",
        4095,
    )
    .unwrap();
    assert_eq!((four.ipv6, four.router_ipv6), (None, None));
    assert_eq!(
        four.private_dns_name.as_deref(),
        Some("ip-10-0-2-4.ec2.internal")
    );
}

#[test]
fn full_subnets_are_passed_over_and_then_named() {
    let (vpc, mut existing) = (vpc(), Vec::new());
    for number in 0..11 {
        assert_eq!(
            next(&vpc, &mut existing, &["subnet-a", "subnet-b"])
                .unwrap()
                .subnet_id,
            "subnet-a",
            "{number}"
        );
    }
    for number in 0..27 {
        assert_eq!(
            next(&vpc, &mut existing, &["subnet-a", "subnet-b"])
                .unwrap()
                .subnet_id,
            "subnet-b",
            "{number}"
        );
    }
    let error = next(&vpc, &mut existing, &["subnet-a", "subnet-b"])
        .unwrap_err()
        .to_string();
    let subnets = "subnet-a (10.0.1.0/28, 11 addresses for ENIs), subnet-b (10.0.2.0/27, 27 addresses for ENIs)";
    assert!(
        error.starts_with(&format!("no free address in {subnets}; remove tasks")),
        "{error}"
    );
    existing.remove(3);
    assert_eq!(
        next(&vpc, &mut existing, &["subnet-a"])
            .unwrap()
            .ipv4
            .unwrap()
            .addr(),
        Ipv4Addr::new(10, 0, 1, 7)
    );
}

#[test]
fn unknown_names_are_errors_of_their_field() {
    let subnet = allocate(
        &vpc(),
        &vpc().directory,
        &Occupied::default(),
        &request(&["subnet-a", "subnet-x"], &[]),
        "eni-1",
        4095,
    )
    .unwrap_err();
    assert_eq!(
        subnet.to_string(),
        "networkConfiguration.awsvpcConfiguration.subnets[1]: \"subnet-x\" is no subnet of vpc-1; \
         write one that there is, as subnet-a, subnet-b, subnet-six, subnet-big"
    );
    let group = allocate(
        &vpc(),
        &vpc().directory,
        &Occupied::default(),
        &request(&["subnet-a"], &["sg-x"]),
        "eni-1",
        4095,
    )
    .unwrap_err();
    assert_eq!(
        group.to_string(),
        "networkConfiguration.awsvpcConfiguration.securityGroups[0]: \"sg-x\" is no security group of vpc-1; \
         write one that there is, as sg-default, sg-web"
    );
}

#[test]
fn the_trunk_has_4094_vlan_ids_and_the_host_its_limit() {
    let vpc = vpc();
    let template = allocate(
        &vpc,
        &vpc.directory,
        &Occupied::default(),
        &request(&["subnet-big"], &[]),
        "eni-1",
        4095,
    )
    .unwrap();
    let mut existing: Vec<Eni> = VlanId::all()
        .map(|vlan| Eni {
            attachment_id: vlan.to_string(),
            vlan: Some(vlan),
            ipv4: None,
            ipv6: None,
            ..template.clone()
        })
        .collect();
    let full = allocate(
        &vpc,
        &vpc.directory,
        &Occupied::of(&existing),
        &request(&["subnet-big"], &[]),
        "eni-1",
        4095,
    )
    .unwrap_err();
    assert_eq!(full, AllocateError::TrunkFull { limit: 4094 });
    existing.remove(99);
    let eni = allocate(
        &vpc,
        &vpc.directory,
        &Occupied::of(&existing),
        &request(&["subnet-big"], &[]),
        "eni-1",
        4095,
    )
    .unwrap();
    assert_eq!(eni.vlan.unwrap().get(), 100);
    let limited = allocate(
        &vpc,
        &vpc.directory,
        &Occupied::of(&existing[..10]),
        &request(&["subnet-big"], &[]),
        "eni-1",
        10,
    )
    .unwrap_err();
    assert_eq!(limited, AllocateError::TrunkFull { limit: 10 });
}

#[test]
fn names_carry_the_region_except_in_us_east_1() {
    let rows = [
        (Some("us-east-1a"), "ip-10-24-34-0.ec2.internal"),
        (None, "ip-10-24-34-0.ec2.internal"),
        (
            Some("eu-central-1b"),
            "ip-10-24-34-0.eu-central-1.compute.internal",
        ),
    ];
    for (zone, name) in rows {
        let address = Ipv4Addr::new(10, 24, 34, 0);
        assert_eq!(private_dns_name(address, zone.and_then(region_of)), name);
    }
}

#[test]
fn equal_id_ends_still_give_different_macs() {
    let vpc = vpc();
    let first = allocate(
        &vpc,
        &vpc.directory,
        &Occupied::default(),
        &request(&["subnet-a"], &[]),
        "eni-0000000ffffffffff",
        4095,
    )
    .unwrap();
    let ends_alike = "eni-1111111ffffffffff";
    let second = allocate(
        &vpc,
        &vpc.directory,
        &Occupied::of([&first]),
        &request(&["subnet-a"], &[]),
        ends_alike,
        4095,
    )
    .unwrap();
    assert_eq!(first.mac.to_string(), "0a:ff:ff:ff:ff:ff");
    assert_eq!(second.mac.to_string(), "0a:00:00:00:00:00");
}

#[test]
fn what_has_just_gone_is_taken_only_if_nothing_else_is_left() {
    let (vpc, mut existing) = (vpc(), Vec::new());
    for _ in 0..10 {
        next(&vpc, &mut existing, &["subnet-a"]).unwrap();
    }
    let mut occupied = Occupied::of(&existing);
    let allocate = |occupied: &Occupied| {
        let request = request(&["subnet-a"], &[]);
        let eni = allocate(&vpc, &vpc.directory, occupied, &request, "eni-f", 4095).unwrap();
        (
            eni.ipv4.unwrap().addr().octets()[3],
            eni.vlan.unwrap().get(),
        )
    };
    occupied.release(&existing[5].attachment_id, 1_000);
    occupied.release(&existing[2].attachment_id, 2_000);
    assert_eq!(
        allocate(&occupied),
        (14, 11),
        "the last that was never given out"
    );
    let last = Eni {
        attachment_id: "last".into(),
        ipv4: Some("10.0.1.14/28".parse().unwrap()),
        ..existing[0].clone()
    };
    occupied.take(&last);
    assert_eq!(
        allocate(&occupied).0,
        9,
        "the one that has cooled for the longest"
    );
    occupied.free_cooled(61_999, 60_000);
    assert_eq!(allocate(&occupied), (9, 6), "cooled down");
}

#[test]
fn addresses_of_foreign_enis_are_counted_and_left_alone() {
    let mut vpc = vpc();
    let interface = crate::security_groups::network_interface::NetworkInterface {
        network_interface_id: "eni-foreign".into(),
        groups: vec!["sg-web".into()],
        networks: ["10.0.1.4/32", "10.0.1.8/30", "fd00:10:0:1::4/128"]
            .map(|net| net.parse().unwrap())
            .into(),
        private_dns_name: None,
    };
    vpc.foreign = crate::provider::vpc::Foreign::of(&[interface]);
    let mut existing = Vec::new();
    let subnet = vpc.subnet("subnet-a").unwrap().clone();
    assert_eq!(available(&vpc, &subnet, &Occupied::default()), 6);
    let first = next(&vpc, &mut existing, &["subnet-a"]).unwrap();
    assert_eq!(first.ipv4.unwrap().addr(), Ipv4Addr::new(10, 0, 1, 5));
    assert_eq!(first.ipv6.unwrap().to_string(), "fd00:10:0:1::5/64");
    for left in (0..5).rev() {
        next(&vpc, &mut existing, &["subnet-a"]).unwrap();
        assert_eq!(available(&vpc, &subnet, &Occupied::of(&existing)), left);
    }
    assert!(next(&vpc, &mut existing, &["subnet-a"]).is_err());
    let six = vpc.subnet("subnet-six").unwrap();
    assert_eq!(available(&vpc, six, &Occupied::default()), u64::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Tasks come and go in any order: nothing reserved, nothing twice, and refused exactly when full.
    #[test]
    fn never_reserved_never_twice_refused_only_when_full(
        steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u64>()), 1..120)
    ) {
        let vpc = vpc();
        let mut existing: Vec<Eni> = Vec::new();
        for (remove, which, random) in steps {
            if remove && !existing.is_empty() {
                existing.swap_remove(which.index(existing.len()));
                continue;
            }
            let in_a = existing.iter().filter(|eni| eni.subnet_id == "subnet-a").count();
            let in_b = existing.len() - in_a;
            let eni_id = format!("eni-{random:017x}");
            match allocate(&vpc, &vpc.directory, &Occupied::of(&existing), &request(&["subnet-a", "subnet-b"], &[]), &eni_id, 4095) {
                Err(error) => {
                    prop_assert_eq!((in_a, in_b), (11, 27), "refused too early: {}", error);
                }
                Ok(eni) => {
                    prop_assert_eq!(eni.subnet_id.as_str(), if in_a < 11 { "subnet-a" } else { "subnet-b" });
                    let subnet = vpc.subnet(&eni.subnet_id).unwrap();
                    let (net, address) = (subnet.ipv4.unwrap(), eni.ipv4.unwrap());
                    let offset = address.addr().to_bits() - net.network().to_bits();
                    prop_assert!(offset >= 4 && address.addr() < net.broadcast() && net.contains(&address.addr()));
                    prop_assert_eq!(address.prefix_len(), net.prefix_len());
                    if let Some(net) = subnet.ipv6 {
                        let address = eni.ipv6.unwrap().addr();
                        prop_assert!(net.contains(&address));
                        let offset = address.to_bits() - net.network().to_bits();
                        prop_assert!(offset >= 4 && address != net.broadcast());
                    }
                    for other in &existing {
                        prop_assert!(other.vlan != eni.vlan && other.mac != eni.mac && other.ipv4 != eni.ipv4);
                        prop_assert!(eni.ipv6.is_none() || other.ipv6 != eni.ipv6);
                    }
                    prop_assert_eq!(eni.mac.0[0] & 0x03, 2, "locally administered, unicast");
                    prop_assert_ne!(eni.mac, ROUTER_MAC);
                    existing.push(Eni { attachment_id: eni_id, ..eni });
                }
            }
        }
    }
}
