use std::time::Duration;

use super::*;
use crate::buckets::Rate;
use crate::faults::Which;
use crate::testing::{Site, between};

const SECOND: Duration = Duration::from_secs(1);

fn outcomes(site: &Site) -> Vec<Outcome> {
    site.account
        .calls
        .iter()
        .map(|call| call.outcome.clone())
        .collect()
}

#[test]
fn a_fault_says_whether_the_effect_happens_and_what_is_answered() {
    let internal = || Ec2Error::new("InternalError", "An internal error has occurred");
    let failed = |code: &str| Outcome::Failed(code.to_owned());
    for (fault, answered, happens, outcome) in [
        (
            Fault::Error(internal()),
            "InternalError",
            false,
            failed("InternalError"),
        ),
        (
            Fault::ErrorAfterEffect(internal()),
            "InternalError",
            true,
            failed("InternalError"),
        ),
        (Fault::LoseAnswer, "-", true, Outcome::Unanswered),
        (Fault::Refuse, "-", false, Outcome::Refused),
        (Fault::Delay(SECOND), "fine", true, Outcome::Done),
    ] {
        let mut site = Site::new();
        site.account
            .faults
            .set(Which::of("CreateNetworkInterface").nth(2), fault.clone());
        let query = format!("CreateNetworkInterface&SubnetId={}", site.subnet);
        let before = site.account.state.network_interfaces.len();
        site.must(&query);
        site.must("DescribeVpcs");
        assert_eq!(site.code(&query), answered, "{fault:?}");
        let made = site.account.state.network_interfaces.len() - before;
        assert_eq!(made, 1 + usize::from(happens), "{fault:?}");
        assert_eq!(outcomes(&site), [Outcome::Done, Outcome::Done, outcome]);
        assert_eq!(site.code(&query), "fine");
        assert_eq!(site.account.faults.left(), 0);
    }
}

#[test]
fn the_log_has_each_call_with_its_parameters_and_time() {
    let mut site = Site::new();
    site.later(SECOND);
    assert_eq!(
        site.code("DescribeSubnets&SubnetId.1=x"),
        "InvalidSubnetID.Malformed"
    );
    assert_eq!(site.code("Reboot"), "InvalidAction");
    let [first, second] = &site.account.calls[..] else {
        panic!("{:?}", site.account.calls);
    };
    assert_eq!((&*first.operation, first.at), ("DescribeSubnets", SECOND));
    assert_eq!(
        first.parameters,
        BTreeMap::from([("SubnetId.1".to_owned(), "x".to_owned())])
    );
    assert_eq!(
        first.outcome,
        Outcome::Failed("InvalidSubnetID.Malformed".to_owned())
    );
    assert_eq!(&*second.operation, "Reboot");
}

#[test]
fn a_throttled_call_does_nothing_and_may_be_repeated() {
    let mut site = Site::new();
    let rate = Rate {
        bucket_maximum: 1.0,
        refill_per_second: 1.0,
    };
    site.account.throttle = Throttle::none().with("CreateNetworkInterface", rate);
    let query = format!("CreateNetworkInterface&SubnetId={}", site.subnet);
    let seen: Vec<String> = (0..2).map(|_| site.code(&query)).collect();
    assert_eq!(seen, ["fine", "RequestLimitExceeded"]);
    assert_eq!(site.code("DescribeVpcs"), "fine");
    site.later(SECOND);
    assert_eq!(site.code(&query), "fine");
    assert_eq!(site.account.state.network_interfaces.len(), 1 + 2);
}

#[test]
fn a_dry_run_says_what_would_be_and_does_nothing() {
    let mut site = Site::new();
    let query = format!(
        "CreateNetworkInterface&SubnetId={}&DryRun=true",
        site.subnet
    );
    let nobody = "CreateNetworkInterface&SubnetId=subnet-01234567&DryRun=true";
    assert_eq!(site.code(&query), "DryRunOperation");
    assert_eq!(site.code(nobody), "InvalidSubnetID.NotFound");
    site.account
        .denied
        .insert("CreateNetworkInterface".to_owned());
    assert_eq!(site.code(&query), "UnauthorizedOperation");
    assert_eq!(site.code(nobody), "UnauthorizedOperation");
    assert_eq!(
        site.code(&query.replace("&DryRun=true", "")),
        "UnauthorizedOperation"
    );
    assert_eq!(site.account.state.network_interfaces.len(), 1);
}

#[test]
fn a_fresh_id_is_unknown_until_the_delay_is_over() {
    let mut site = Site::new();
    let trunk = site.trunk();
    site.account.state.settings.consistency_delay = 2 * SECOND;
    site.account.changed(site.now);
    let eni = site.create(&site.subnet.clone(), "&ClientToken=t");
    let associate = format!(
        "AssociateTrunkInterface&BranchInterfaceId={eni}&TrunkInterfaceId={trunk}&VlanId=1"
    );
    let describe = format!("DescribeNetworkInterfaces&NetworkInterfaceId.1={eni}");
    for query in [
        describe.clone(),
        associate.clone(),
        format!("DeleteNetworkInterface&NetworkInterfaceId={eni}"),
        format!("CreateTags&ResourceId.1={eni}&Tag.1.Key=a"),
        format!("ModifyNetworkInterfaceAttribute&NetworkInterfaceId={eni}&Description.Value=x"),
    ] {
        assert_eq!(
            site.code(&query),
            "InvalidNetworkInterfaceID.NotFound",
            "{query}"
        );
    }
    assert_eq!(
        site.create(&site.subnet.clone(), "&ClientToken=t"),
        eni,
        "a token is known at once"
    );
    assert!(!site.must("DescribeNetworkInterfaces").contains(&eni));
    site.later(SECOND + SECOND / 2);
    assert_eq!(site.code(&associate), "InvalidNetworkInterfaceID.NotFound");
    site.later(SECOND / 2);
    assert_eq!(site.code(&describe), "fine");
    let association = between(&site.must(&associate), "associationId").expect("an id");
    let disassociate = format!("DisassociateTrunkInterface&AssociationId={association}");
    assert_eq!(site.code(&disassociate), "InvalidAssociationID.NotFound");
    assert!(
        site.must(&describe).contains("<status>available<"),
        "a describe is late"
    );
    site.later(SECOND);
    assert!(
        site.must(&describe).contains("<status>available<"),
        "a describe is still late"
    );
    site.later(SECOND);
    assert!(site.must(&describe).contains("<status>in-use<"));
    assert_eq!(site.code(&disassociate), "fine");
}
