//! What the doctor says of the host as an EC2 instance.

use super::{Check, Outcome, not_ok, ok};
use crate::provider::ec2::{Preflight, Verdict};

/// What lets the credentials do what they may not.
const POLICY: &str = "allow it in the policy of the credentials (agent/packaging/iam-policy.json is all that is needed)";

/// Calls that the agent does without where it must.
const OPTIONAL: [&str; 2] = [
    "DescribeTrunkInterfaceAssociations",
    "DescribeInstanceTypes",
];

/// One check for the root certificates where they are needed, one for the instance, one for EC2's answer, one for the trunk or the network interfaces, and one for each call.
pub(super) fn checks(found: &Preflight) -> Vec<Check> {
    let certificates = found.certificates.iter();
    let certificates = certificates.map(|certificates| match certificates {
        Ok(()) => ok("root certificates", "found"),
        Err(error) => not_ok(
            "root certificates",
            Outcome::Missing,
            format!("{}: {}", error.field, error.problem),
            &error.fix,
        ),
    });
    let identity = found.identity.iter().map(|identity| match identity {
        Ok(identity) => ok(
            "EC2 instance",
            format!(
                "{}, {} in {}, {}",
                identity.instance_id,
                identity.instance_type,
                identity.availability_zone,
                identity.vpc_id
            ),
        ),
        Err(error) => not_ok(
            "EC2 instance",
            Outcome::Missing,
            error,
            "run it on an EC2 instance whose metadata service (IMDSv2) is on, or set ec2.metadata_endpoint",
        ),
    });
    let answer = found.answer.iter().map(|answer| match answer {
        Ok(()) => ok("EC2 API", "answers"),
        Err(error) => not_ok(
            "EC2 API",
            Outcome::Missing,
            error,
            "give the instance a profile (or the SDK's chain other credentials), and a route or VPC endpoint to EC2 \
             (ec2.endpoint_url)",
        ),
    });
    let trunk = found.trunk.iter().map(|trunk| match trunk {
        Ok(finding) => ok("trunk ENI", finding),
        Err(error) => not_ok(
            "trunk ENI",
            Outcome::Missing,
            error,
            "use an instance type that has trunks, with a network interface free",
        ),
    });
    let interfaces = found.interfaces.iter().map(|interfaces| match interfaces {
        Ok(finding) => ok("network interfaces", finding),
        Err(error) => not_ok(
            "network interfaces",
            Outcome::Missing,
            error,
            "each task needs one (ec2.mode = \"eni\")",
        ),
    });
    let permissions = found.permissions.iter().map(permission);
    certificates
        .chain(identity)
        .chain(answer)
        .chain(trunk)
        .chain(interfaces)
        .chain(permissions)
        .collect()
}

fn permission(verdict: &Verdict) -> Check {
    let action = verdict.permission.action;
    let name = format!("ec2:{action}");
    let reason = verdict.permission.reason.clone().unwrap_or_default();
    let warn = |finding: String, fix: &str| not_ok(&name, Outcome::Warn, finding, fix);
    match verdict.permission.is_allowed {
        Some(true) => ok(&name, "allowed"),
        Some(false) if OPTIONAL.contains(&action) => warn(
            format!("not allowed; the agent does without: {reason}"),
            POLICY,
        ),
        Some(false) if !verdict.is_sure => warn(
            format!("not allowed on what the agent did not make: {reason}"),
            "ask again while the agent has its trunk and a task; a policy may allow it by tag",
        ),
        Some(false) => not_ok(
            &name,
            Outcome::Missing,
            format!("not allowed: {reason}"),
            POLICY,
        ),
        None => warn(format!("EC2 did not tell: {reason}"), "ask again"),
    }
}

#[cfg(test)]
mod tests {
    use branchline_ec2::{Identity, Permission};

    use super::*;

    fn verdict(action: &'static str, is_allowed: Option<bool>, is_sure: bool) -> Verdict {
        Verdict {
            permission: Permission {
                action,
                is_allowed,
                reason: Some("as told".to_owned()),
            },
            is_sure,
        }
    }

    #[test]
    fn a_refusal_counts_where_it_is_certain_and_matters() {
        let rows = [
            ("CreateNetworkInterface", Some(true), true, Outcome::Ok),
            (
                "CreateNetworkInterface",
                Some(false),
                true,
                Outcome::Missing,
            ),
            ("CreateNetworkInterface", None, true, Outcome::Warn),
            ("AssociateTrunkInterface", Some(false), false, Outcome::Warn),
            ("DescribeInstanceTypes", Some(false), true, Outcome::Warn),
        ];
        for (action, is_allowed, is_sure, outcome) in rows {
            let check = permission(&verdict(action, is_allowed, is_sure));
            assert_eq!(check.outcome, outcome, "{action} {is_allowed:?}");
            assert_eq!(check.fix.is_none(), outcome == Outcome::Ok, "{action}");
        }
    }

    #[test]
    fn what_could_not_be_looked_at_is_not_spoken_of() {
        let names = |found: &Preflight| {
            let checks = checks(found).into_iter();
            checks.map(|check| check.name).collect::<Vec<_>>()
        };
        let mut found = Preflight {
            identity: Some(Err("no answer".to_owned())),
            ..Preflight::default()
        };
        assert_eq!(names(&found), ["EC2 instance"]);
        found.identity = Some(Ok(Identity::default()));
        found.answer = Some(Err("no route".to_owned()));
        assert_eq!(names(&found), ["EC2 instance", "EC2 API"]);
        found.certificates = Some(Ok(()));
        assert_eq!(names(&found)[0], "root certificates");
    }
}
