//! Tests of `dns`.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::task_record::tests::record;

fn options(text: &str) -> Result<DhcpOptions, crate::field_error::FieldError> {
    let table: DhcpOptionsTable = crate::field_error::from_toml(text)?;
    DhcpOptions::check(&table)
}

fn task(vpc: &VpcDns, change: impl FnOnce(&mut Eni)) -> TaskDns {
    let mut eni = record("web").eni;
    eni.availability_zone = Some("eu-west-1b".to_owned());
    eni.private_dns_name = Some("ip-10-0-1-10.eu-west-1.compute.internal".to_owned());
    change(&mut eni);
    TaskDns::of(vpc, Some("10.0.0.0/16".parse().unwrap()), &eni)
}

#[test]
fn a_name_is_given_only_with_both_attributes() {
    for (enable_dns_support, enable_dns_hostnames) in
        [(true, true), (true, false), (false, true), (false, false)]
    {
        let vpc = VpcDns {
            enable_dns_support,
            enable_dns_hostnames,
            dhcp_options: None,
        };
        let dns = task(&vpc, |_| ());
        assert_eq!(
            dns.host_name.is_some(),
            enable_dns_support && enable_dns_hostnames
        );
        assert_eq!(dns.has_resolver, enable_dns_support);
        // What is not served is asked in vain, as at AWS.
        assert_eq!(dns.name_servers, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(dns.search, ["eu-west-1.compute.internal"]);
    }
}

#[test]
fn without_ipv4_the_resolver_is_the_one_of_ipv6_and_there_is_no_name() {
    let vpc = VpcDns {
        enable_dns_hostnames: true,
        ..VpcDns::default()
    };
    let dns = task(&vpc, |eni| {
        (eni.ipv4, eni.private_dns_name) = (None, None);
    });
    assert_eq!(dns.name_servers, [IpAddr::V6(RESOLVER_IPV6)]);
    assert_eq!(dns.host_name, None);
}

#[test]
fn an_option_set_replaces_the_default_one_whole() {
    let set = options(
        "domain_name_servers = ['10.9.9.9', 'AmazonProvidedDNS', '2001:db8::53']
         domain_name = 'corp.example  shop.example'\nntp_servers = ['169.254.169.123']",
    );
    let vpc = VpcDns {
        dhcp_options: Some(set.unwrap()),
        ..VpcDns::default()
    };
    let dns = task(&vpc, |_| ());
    let texts: Vec<_> = dns.name_servers.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.9.9.9", "10.0.0.2", "2001:db8::53"]);
    assert_eq!(dns.search, ["corp.example", "shop.example"]);
    assert_eq!(dns.ntp_servers.len(), 1);
    let vpc = VpcDns {
        dhcp_options: Some(options("").unwrap()),
        ..VpcDns::default()
    };
    let dns = task(&vpc, |_| ());
    assert_eq!((dns.name_servers.len(), dns.search.len()), (1, 0));
}

#[test]
fn an_option_set_that_is_wrong_names_its_field() {
    let rows = [
        (
            "domain_name_servers = []",
            "dhcp_options.domain_name_servers",
        ),
        (
            "domain_name_servers = ['1.1.1.1', 'amazonprovideddns']",
            "dhcp_options.domain_name_servers[1]",
        ),
        (
            "domain_name_servers = ['1.1.1.1', '1.1.1.2', '1.1.1.3', '1.1.1.4', '1.1.1.5']",
            "dhcp_options.domain_name_servers",
        ),
        ("domain_name = 'a..b'", "dhcp_options.domain_name"),
        ("domain_name = 'a\u{a0}b;c'", "dhcp_options.domain_name"),
        (
            "ntp_servers = ['AmazonProvidedDNS']",
            "dhcp_options.ntp_servers[0]",
        ),
        ("netbios_name_servers = []", "netbios_name_servers"),
    ];
    for (text, field) in rows {
        assert_eq!(options(text).unwrap_err().field, field, "{text}");
    }
}

#[test]
fn a_region_is_its_zone_without_the_letter() {
    assert_eq!(region_of("us-east-1a"), Some("us-east-1"));
    assert_eq!(region_of("abc"), None);
    assert_eq!(internal_domain(Some("us-east-1")), "ec2.internal");
}
