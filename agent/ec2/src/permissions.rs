//! Whether the credentials may do what branchline needs, by dry runs: EC2 checks the permission and does nothing.

use aws_sdk_ec2::error::ProvideErrorMetadata;

use crate::call::{Action, Ec2};
use crate::error::{Class, Error};
use crate::interfaces::{action, filter, specification};
use crate::model::Tags;
use crate::restraint::Kind;

/// What a dry run said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The API's name of the call, which is also IAM's.
    pub action: &'static str,
    /// Whether it is allowed; `None` if EC2 did not say.
    pub is_allowed: Option<bool>,
    /// EC2's words where it is not.
    pub reason: Option<String>,
}

/// Things to try with, which are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subjects {
    /// The VPC.
    pub vpc_id: String,
    /// A subnet of it.
    pub subnet_id: String,
    /// An ENI of the instance; policies may look at its tags.
    pub network_interface_id: String,
    /// A branch's association, where there is one.
    pub association_id: Option<String>,
    /// An ENI's attachment to the instance, where there is one that may be detached.
    pub attachment_id: Option<String>,
    /// The instance.
    pub instance_id: String,
    /// What an ENI that is made is tagged with; policies may ask for it.
    pub tags: Tags,
    /// Whether ENIs are branches of a trunk; else each is attached to the instance and detached from it.
    pub has_trunk: bool,
}

impl Ec2 {
    /// Tries every call that branchline makes with or without a trunk, and changes nothing.
    pub async fn permissions(&self, subjects: &Subjects) -> Vec<Permission> {
        let Subjects {
            vpc_id,
            subnet_id,
            network_interface_id: eni,
            association_id,
            attachment_id,
            instance_id,
            tags,
            has_trunk,
        } = subjects;
        let sdk = &self.sdk;
        let vpc = || filter("vpc-id", &[vpc_id]);
        // Ids that are well formed and nobody's: EC2 looks at the permission first.
        let association = association_id.as_deref().unwrap_or("trunk-assoc-0");
        let attachment = attachment_id
            .as_deref()
            .unwrap_or("eni-attach-00000000000000000");
        let of_mode = if *has_trunk {
            vec![
                self.verdict(change("AssociateTrunkInterface"), || {
                    sdk.associate_trunk_interface()
                        .dry_run(true)
                        .branch_interface_id(eni)
                        .trunk_interface_id(eni)
                        .vlan_id(1)
                        .send()
                })
                .await,
                self.verdict(change("DisassociateTrunkInterface"), || {
                    sdk.disassociate_trunk_interface()
                        .dry_run(true)
                        .association_id(association)
                        .send()
                })
                .await,
                self.verdict(ask("DescribeTrunkInterfaceAssociations"), || {
                    sdk.describe_trunk_interface_associations()
                        .dry_run(true)
                        .max_results(5)
                        .send()
                })
                .await,
            ]
        } else {
            vec![
                self.verdict(change("DetachNetworkInterface"), || {
                    sdk.detach_network_interface()
                        .dry_run(true)
                        .attachment_id(attachment)
                        .send()
                })
                .await,
            ]
        };
        let mut permissions = vec![
            self.verdict(change("CreateNetworkInterface"), || {
                sdk.create_network_interface()
                    .dry_run(true)
                    .subnet_id(subnet_id)
                    .tag_specifications(specification(tags))
                    .send()
            })
            .await,
            self.verdict(change("DeleteNetworkInterface"), || {
                sdk.delete_network_interface()
                    .dry_run(true)
                    .network_interface_id(eni)
                    .send()
            })
            .await,
            self.verdict(change("AttachNetworkInterface"), || {
                sdk.attach_network_interface()
                    .dry_run(true)
                    .network_interface_id(eni)
                    .instance_id(instance_id)
                    .device_index(1)
                    .send()
            })
            .await,
            self.verdict(change("ModifyNetworkInterfaceAttribute"), || {
                sdk.modify_network_interface_attribute()
                    .dry_run(true)
                    .network_interface_id(eni)
                    .source_dest_check(
                        aws_sdk_ec2::types::AttributeBooleanValue::builder()
                            .value(true)
                            .build(),
                    )
                    .send()
            })
            .await,
            self.verdict(ask("DescribeNetworkInterfaces"), || {
                sdk.describe_network_interfaces()
                    .dry_run(true)
                    .filters(vpc())
                    .max_results(5)
                    .send()
            })
            .await,
            self.verdict(ask("DescribeVpcs"), || {
                sdk.describe_vpcs().dry_run(true).vpc_ids(vpc_id).send()
            })
            .await,
            self.verdict(ask("DescribeVpcAttribute"), || {
                sdk.describe_vpc_attribute()
                    .dry_run(true)
                    .vpc_id(vpc_id)
                    .attribute(aws_sdk_ec2::types::VpcAttributeName::EnableDnsSupport)
                    .send()
            })
            .await,
            self.verdict(ask("DescribeSubnets"), || {
                sdk.describe_subnets()
                    .dry_run(true)
                    .filters(vpc())
                    .max_results(5)
                    .send()
            })
            .await,
            self.verdict(ask("DescribeRouteTables"), || {
                sdk.describe_route_tables()
                    .dry_run(true)
                    .filters(vpc())
                    .max_results(5)
                    .send()
            })
            .await,
            self.verdict(ask("DescribeDhcpOptions"), || {
                sdk.describe_dhcp_options()
                    .dry_run(true)
                    .max_results(5)
                    .send()
            })
            .await,
            self.verdict(ask("DescribeSecurityGroups"), || {
                sdk.describe_security_groups()
                    .dry_run(true)
                    .filters(vpc())
                    .max_results(5)
                    .send()
            })
            .await,
            self.verdict(ask("DescribeSecurityGroupRules"), || {
                sdk.describe_security_group_rules()
                    .dry_run(true)
                    .max_results(5)
                    .send()
            })
            .await,
            self.verdict(ask("DescribeManagedPrefixLists"), || {
                sdk.describe_managed_prefix_lists()
                    .dry_run(true)
                    .max_results(5)
                    .send()
            })
            .await,
            self.verdict(ask("GetManagedPrefixListEntries"), || {
                sdk.get_managed_prefix_list_entries()
                    .dry_run(true)
                    .prefix_list_id("pl-00000000000000000")
                    .send()
            })
            .await,
            self.verdict(ask("DescribeInstanceTypes"), || {
                sdk.describe_instance_types()
                    .dry_run(true)
                    .max_results(5)
                    .send()
            })
            .await,
        ];
        permissions.extend(of_mode);
        permissions
    }

    async fn verdict<T, E, F>(&self, action: Action, attempt: impl Fn() -> F) -> Permission
    where
        F: Future<
            Output = Result<
                T,
                aws_sdk_ec2::error::SdkError<E, aws_sdk_ec2::config::http::HttpResponse>,
            >,
        >,
        E: ProvideErrorMetadata
            + aws_sdk_ec2::operation::RequestId
            + std::error::Error
            + Send
            + Sync
            + 'static,
    {
        judge(action.name, self.call(action, attempt).await.err())
    }
}

/// Nothing but a refusal means that it is not allowed: an error about what was tried with came after the permission.
fn judge(action: &'static str, error: Option<Error>) -> Permission {
    let is_allowed = match &error {
        None => Some(true),
        Some(error) => match (error.class(), error.code.as_deref()) {
            (_, Some("UnauthorizedOperation" | "AuthFailure" | "AccessDenied")) => Some(false),
            (Class::Throttled | Class::Unavailable | Class::Lost, _) => None,
            _ => Some(true),
        },
    };
    Permission {
        action,
        is_allowed,
        reason: error
            .filter(|_| is_allowed != Some(true))
            .map(|error| error.to_string()),
    }
}

const fn change(name: &'static str) -> Action {
    action(name, Kind::Change, true)
}

const fn ask(name: &'static str) -> Action {
    action(name, Kind::Describe, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_is_one() {
        let rows = [
            (Some("DryRunOperation"), Some(true)),
            (Some("UnauthorizedOperation"), Some(false)),
            (Some("AuthFailure"), Some(false)),
            (Some("InvalidAttachmentID.NotFound"), Some(true)),
            (Some("RequestLimitExceeded"), None),
            (None, None),
        ];
        for (code, is_allowed) in rows {
            let error = Error {
                action: "CreateTags",
                code: code.map(str::to_owned),
                message: "so".to_owned(),
                request_id: None,
            };
            let permission = judge("CreateTags", Some(error));
            assert_eq!(permission.is_allowed, is_allowed, "{code:?}");
            assert_eq!(permission.reason.is_none(), is_allowed == Some(true));
        }
        assert_eq!(judge("CreateTags", None).is_allowed, Some(true));
    }
}
