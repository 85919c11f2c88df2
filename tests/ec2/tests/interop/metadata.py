"""Reads instance metadata as botocore does for every program on EC2, then calls EC2 with what it found."""

import os
import sys

endpoint, metadata, instance = sys.argv[1:]
for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
    os.environ.pop(name)
os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = metadata
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = "/nonexistent"

import boto3
from botocore.utils import IMDSFetcher, InstanceMetadataRegionFetcher


class Reader(IMDSFetcher):
    """Any path of the metadata, with a token."""

    def read(self, path):
        return self._get_request("latest/" + path, None, self._fetch_metadata_token()).text


region = InstanceMetadataRegionFetcher(base_url=metadata).retrieve_region()
assert region == "eu-west-1", region
reader = Reader(base_url=metadata)
assert reader.read("meta-data/instance-id") == instance
assert reader.read("meta-data/placement/availability-zone") == "eu-west-1b"
macs = reader.read("meta-data/network/interfaces/macs/").split()
assert macs == [reader.read("meta-data/mac") + "/"], macs
client = boto3.client("ec2", region_name=region, endpoint_url=endpoint)
found = client.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
eni = found["NetworkInterfaces"][0]
assert reader.read(f"meta-data/network/interfaces/macs/{macs[0]}interface-id") == eni["NetworkInterfaceId"]
assert reader.read("meta-data/local-ipv4") == found["PrivateIpAddress"] == "10.0.1.4"
