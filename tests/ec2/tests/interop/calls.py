"""Calls every operation through boto3, and reads each answer by botocore's model: an element that the model does not
have at its place, or a value that does not parse, is an error."""

import sys
from contextlib import contextmanager
from xml.etree import ElementTree

import boto3
import botocore.parsers
from botocore.config import Config
from botocore.exceptions import ClientError

NAMESPACE = "{http://ec2.amazonaws.com/doc/2016-11-15/}"


def check(element, shape, path):
    """Whether all that is in `element` is what `shape` has."""
    text = element.text or ""
    if shape.type_name == "structure":
        known = {member.serialization.get("name", key): member for key, member in shape.members.items()}
        names = [child.tag.removeprefix(NAMESPACE) for child in element]
        assert len(names) == len(set(names)), f"{path}: {names} twice"
        for name, child in zip(names, element):
            assert name in known, f"{path}.{name} is not in the model"
            check(child, known[name], f"{path}.{name}")
    elif shape.type_name == "list":
        for child in element:
            item = shape.member.serialization.get("name", "member")
            assert child.tag == NAMESPACE + item, f"{path}: {child.tag} instead of {item}"
            check(child, shape.member, f"{path}[]")
    else:
        assert not len(element), f"{path} has elements in it"
        if shape.type_name == "boolean":
            assert text in ("true", "false"), f"{path}: {text}"
        elif shape.type_name in ("integer", "long"):
            int(text)
        elif shape.type_name == "string" and getattr(shape, "enum", None):
            assert text in shape.enum, f"{path}: {text} is none of {shape.enum}"


class StrictParser(botocore.parsers.EC2QueryParser):
    def parse(self, response, shape):
        root = ElementTree.fromstring(response["body"])
        assert response["headers"]["x-amzn-requestid"]
        if response["status_code"] == 200:
            assert root.tag.startswith(NAMESPACE) and root.tag.endswith("Response"), root.tag
            assert root[0].tag == NAMESPACE + "requestId" and root[0].text
            root.remove(root[0])
            if shape is not None:
                check(root, shape, root.tag.removeprefix(NAMESPACE))
        return super().parse(response, shape)


botocore.parsers.PROTOCOL_PARSERS["ec2"] = StrictParser
client = boto3.client("ec2", endpoint_url=sys.argv[1], config=Config(retries={"total_max_attempts": 1}))


@contextmanager
def refused(code, status=400):
    """What is within is refused with this code."""
    try:
        yield
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, error
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == status, error
        assert error.response["ResponseMetadata"]["RequestId"], error
    else:
        raise AssertionError(f"{code} expected")


def enis(**arguments):
    return client.describe_network_interfaces(**arguments)["NetworkInterfaces"]


# The VPC.
vpc = client.describe_vpcs()["Vpcs"][0]
assert vpc["CidrBlock"] == "10.0.0.0/16", vpc
assert vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"] == "2001:db8::/56", vpc
assert client.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute="enableDnsSupport")["EnableDnsSupport"]["Value"]
assert client.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute="enableDnsHostnames")["EnableDnsHostnames"]["Value"]
options = client.describe_dhcp_options(DhcpOptionsIds=[vpc["DhcpOptionsId"]])["DhcpOptions"][0]
servers = [each for each in options["DhcpConfigurations"] if each["Key"] == "domain-name-servers"]
assert servers == [{"Key": "domain-name-servers", "Values": [{"Value": "AmazonProvidedDNS"}]}], options
subnets = client.describe_subnets(Filters=[{"Name": "availability-zone", "Values": ["eu-west-1a"]}])["Subnets"]
dual, native = subnets
assert native["Ipv6Native"] and "CidrBlock" not in native, native
free = dual["AvailableIpAddressCount"]
assert free == 256 - 5 - 2, dual
tables = client.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc["VpcId"]]}])["RouteTables"]
own = [table for table in tables if table["Associations"][0].get("SubnetId") == native["SubnetId"]][0]
assert [route.get("NatGatewayId", "")[:4] for route in own["Routes"]] == ["", "", "nat-", "", ""], own

# The instance.
instance = client.describe_instances()["Reservations"][0]["Instances"][0]
assert instance["State"]["Name"] == "running" and len(instance["NetworkInterfaces"]) == 1, instance
types = client.describe_instance_types(InstanceTypes=[instance["InstanceType"]])["InstanceTypes"][0]
assert types["NetworkInfo"]["MaximumNetworkInterfaces"] == 3, types
assert types["NetworkInfo"]["NetworkCards"] == [{"NetworkCardIndex": 0, "MaximumNetworkInterfaces": 3}], types
assert types["ProcessorInfo"]["SupportedArchitectures"] == ["x86_64"], types

# A trunk.
trunk = client.create_network_interface(
    SubnetId=dual["SubnetId"], InterfaceType="trunk", Description="a trunk & more", ClientToken="trunk-1"
)
trunk_id = trunk["NetworkInterface"]["NetworkInterfaceId"]
assert trunk["NetworkInterface"]["Description"] == "a trunk & more" and trunk["ClientToken"] == "trunk-1", trunk
again = client.create_network_interface(
    SubnetId=dual["SubnetId"], InterfaceType="trunk", Description="a trunk & more", ClientToken="trunk-1"
)
assert again["NetworkInterface"]["NetworkInterfaceId"] == trunk_id, again
with refused("IdempotentParameterMismatch"):
    client.create_network_interface(SubnetId=dual["SubnetId"], ClientToken="trunk-1")
attachment = client.attach_network_interface(NetworkInterfaceId=trunk_id, InstanceId=instance["InstanceId"], DeviceIndex=1)
client.modify_network_interface_attribute(
    NetworkInterfaceId=trunk_id,
    Attachment={"AttachmentId": attachment["AttachmentId"], "DeleteOnTermination": True},
)
(shown,) = enis(Filters=[{"Name": "attachment.instance-id", "Values": [instance["InstanceId"]]}, {"Name": "interface-type", "Values": ["trunk"]}])
assert shown["Status"] == "in-use" and shown["Attachment"]["Status"] == "attached", shown
assert shown["Attachment"]["DeleteOnTermination"] and shown["Attachment"]["AttachTime"].year > 2000, shown

# A branch, with everything that one can have.
groups = client.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["web"]}])["SecurityGroups"]
web = groups[0]
branch = client.create_network_interface(
    SubnetId=dual["SubnetId"],
    Groups=[web["GroupId"]],
    PrivateIpAddresses=[{"PrivateIpAddress": "10.0.1.77", "Primary": True}, {"PrivateIpAddress": "10.0.1.78", "Primary": False}],
    Ipv6AddressCount=1,
    EnablePrimaryIpv6=True,
    ConnectionTrackingSpecification={"TcpEstablishedTimeout": 350, "UdpTimeout": 30, "UdpStreamTimeout": 60},
    TagSpecifications=[{"ResourceType": "network-interface", "Tags": [{"Key": "owner", "Value": "me"}, {"Key": "empty", "Value": ""}]}],
)["NetworkInterface"]
branch_id = branch["NetworkInterfaceId"]
assert branch["Status"] == "available" and branch["InterfaceType"] == "interface", branch
assert branch["PrivateDnsName"] == "ip-10-0-1-77.eu-west-1.compute.internal", branch
assert [each["PrivateIpAddress"] for each in branch["PrivateIpAddresses"]] == ["10.0.1.77", "10.0.1.78"], branch
assert branch["Ipv6Addresses"] == [{"Ipv6Address": "2001:db8:0:1::4", "IsPrimaryIpv6": True}], branch
assert branch["ConnectionTrackingConfiguration"]["TcpEstablishedTimeout"] == 350, branch
assert branch["TagSet"] == [{"Key": "empty", "Value": ""}, {"Key": "owner", "Value": "me"}], branch
association = client.associate_trunk_interface(BranchInterfaceId=branch_id, TrunkInterfaceId=trunk_id, VlanId=7)
association_id = association["InterfaceAssociation"]["AssociationId"]
assert association["ClientToken"], "boto3 makes one"
shown = client.describe_trunk_interface_associations(AssociationIds=[association_id])["InterfaceAssociations"]
assert shown == [association["InterfaceAssociation"]] and shown[0]["VlanId"] == 7, shown
(shown,) = enis(NetworkInterfaceIds=[branch_id])
assert (shown["Status"], shown["InterfaceType"]) == ("in-use", "branch") and "Attachment" not in shown, shown
with refused("InvalidParameterValue"):
    client.delete_network_interface(NetworkInterfaceId=branch_id)
client.create_tags(Resources=[branch_id], Tags=[{"Key": "vlan", "Value": "7"}])
assert len(enis(Filters=[{"Name": "tag:vlan", "Values": ["7"]}, {"Name": "tag-key", "Values": ["own*"]}])) == 1
for attribute in (
    {"Groups": [vpc_default["GroupId"] for vpc_default in client.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]]},
    {"SourceDestCheck": {"Value": False}},
    {"Description": {"Value": "other"}},
    {"ConnectionTrackingSpecification": {"UdpTimeout": 60}},
    {"EnablePrimaryIpv6": True},
):
    client.modify_network_interface_attribute(NetworkInterfaceId=branch_id, **attribute)
with refused("InvalidParameterCombination"):
    client.modify_network_interface_attribute(NetworkInterfaceId=branch_id, SourceDestCheck={"Value": True}, Description={"Value": "x"})
(shown,) = enis(Filters=[{"Name": "status", "Values": ["in-use"]}, {"Name": "description", "Values": ["other"]}])
assert not shown["SourceDestCheck"] and shown["Groups"][0]["GroupName"] == "default", shown
assert client.disassociate_trunk_interface(AssociationId=association_id)["Return"]
client.delete_network_interface(NetworkInterfaceId=branch_id)
with refused("InvalidNetworkInterfaceID.NotFound"):
    enis(NetworkInterfaceIds=[branch_id])
six = client.create_network_interface(SubnetId=native["SubnetId"])["NetworkInterface"]
assert six["Ipv6Address"] == "2001:db8:0:2::4" and "PrivateIpAddress" not in six, six
client.detach_network_interface(AttachmentId=attachment["AttachmentId"])
client.delete_network_interface(NetworkInterfaceId=trunk_id)

# Pages.
for _ in range(11):
    client.create_network_interface(SubnetId=dual["SubnetId"])
pages = list(client.get_paginator("describe_network_interfaces").paginate(PaginationConfig={"PageSize": 5}))
assert [len(page["NetworkInterfaces"]) for page in pages] == [5, 5, 4], pages
assert len({eni["NetworkInterfaceId"] for page in pages for eni in page["NetworkInterfaces"]}) == 14

# Groups, rules and prefix lists.
permissions = {each["IpProtocol"]: each for each in web["IpPermissions"]}
assert permissions["tcp"]["UserIdGroupPairs"][0]["GroupId"].startswith("sg-"), permissions
assert permissions["icmpv6"]["Ipv6Ranges"] == [{"CidrIpv6": "2001:db8::/32"}], permissions
rules = client.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [web["GroupId"]]}])["SecurityGroupRules"]
assert len(rules) == 5, rules
for kind in ("ingress", "egress"):
    permission = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "ssh"}]}
    authorize = getattr(client, f"authorize_security_group_{kind}")
    revoke = getattr(client, f"revoke_security_group_{kind}")
    (rule,) = authorize(GroupId=web["GroupId"], IpPermissions=[permission])["SecurityGroupRules"]
    assert rule["CidrIpv4"] == "10.0.0.0/8" and rule["Description"] == "ssh" and rule["IsEgress"] == (kind == "egress"), rule
    with refused("InvalidPermission.Duplicate"):
        authorize(GroupId=web["GroupId"], IpPermissions=[permission])
    gone = revoke(GroupId=web["GroupId"], SecurityGroupRuleIds=[rule["SecurityGroupRuleId"]])["RevokedSecurityGroupRules"]
    assert gone[0]["SecurityGroupRuleId"] == rule["SecurityGroupRuleId"], gone
    with refused("InvalidPermission.NotFound"):
        revoke(GroupId=web["GroupId"], IpPermissions=[permission])
offices = client.describe_managed_prefix_lists(Filters=[{"Name": "prefix-list-name", "Values": ["off*"]}])["PrefixLists"][0]
assert offices["Version"] == 1, offices
changed = client.modify_managed_prefix_list(
    PrefixListId=offices["PrefixListId"],
    CurrentVersion=1,
    AddEntries=[{"Cidr": "203.0.113.0/24", "Description": "new"}],
    RemoveEntries=[{"Cidr": "192.0.2.0/24"}],
)["PrefixList"]
assert changed["Version"] == 2, changed
entries = client.get_managed_prefix_list_entries(PrefixListId=offices["PrefixListId"])["Entries"]
assert entries == [{"Cidr": "198.51.100.0/24"}, {"Cidr": "203.0.113.0/24", "Description": "new"}], entries
entries = client.get_managed_prefix_list_entries(PrefixListId=offices["PrefixListId"], TargetVersion=1)["Entries"]
assert len(entries) == 2 and entries[0]["Cidr"] == "192.0.2.0/24", entries

# Dry runs.
with refused("DryRunOperation", 412):
    client.create_network_interface(SubnetId=dual["SubnetId"], DryRun=True)
assert len(enis()) == 14
