//! The fields that a row can have: one table of their names and types.
//!
//! The 54 of VPC Flow Logs ("Flow log records", and "Transfer flow log data to Amazon S3" for the
//! Parquet types), then our own, whose names begin with `bl-`. Never says what a row's value is.

/// Type of a Parquet column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// INT32 without annotation.
    Int32,
    /// INT64 without annotation.
    Int64,
    /// BYTE_ARRAY with STRING.
    Text,
}

/// Which rows have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// All, `NODATA` and `SKIPDATA` among them.
    Always,
    /// Those that count packets.
    Counted,
}

/// What is fixed about a field.
#[derive(Debug, Clone, Copy)]
struct Description {
    name: &'static str,
    /// 0 for our own.
    version: u8,
    column: ColumnType,
    said: Said,
}

/// Lists the fields, in the order of AWS's table: variant, name, version, type, rows with a value.
macro_rules! fields {
    ($($field:ident $name:literal $version:literal $column:ident $said:ident,)+) => {
        /// A field of a flow-log row.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Field {
            $(
                #[doc = concat!("`", $name, "`")]
                $field,
            )+
        }

        impl Field {
            /// Every field, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$field,)+];

            const fn description(self) -> Description {
                match self {
                    $(Self::$field => Description {
                        name: $name,
                        version: $version,
                        column: ColumnType::$column,
                        said: Said::$said,
                    },)+
                }
            }
        }
    };
}

fields! {
    Version "version" 2 Int32 Always,
    AccountId "account-id" 2 Text Always,
    InterfaceId "interface-id" 2 Text Always,
    Srcaddr "srcaddr" 2 Text Counted,
    Dstaddr "dstaddr" 2 Text Counted,
    Srcport "srcport" 2 Int32 Counted,
    Dstport "dstport" 2 Int32 Counted,
    Protocol "protocol" 2 Int32 Counted,
    Packets "packets" 2 Int64 Counted,
    Bytes "bytes" 2 Int64 Counted,
    Start "start" 2 Int64 Always,
    End "end" 2 Int64 Always,
    Action "action" 2 Text Counted,
    LogStatus "log-status" 2 Text Always,
    VpcId "vpc-id" 3 Text Counted,
    SubnetId "subnet-id" 3 Text Counted,
    InstanceId "instance-id" 3 Text Counted,
    TcpFlags "tcp-flags" 3 Int32 Counted,
    Type "type" 3 Text Counted,
    PktSrcaddr "pkt-srcaddr" 3 Text Counted,
    PktDstaddr "pkt-dstaddr" 3 Text Counted,
    Region "region" 4 Text Counted,
    AzId "az-id" 4 Text Counted,
    SublocationType "sublocation-type" 4 Text Counted,
    SublocationId "sublocation-id" 4 Text Counted,
    PktSrcAwsService "pkt-src-aws-service" 5 Text Counted,
    PktDstAwsService "pkt-dst-aws-service" 5 Text Counted,
    FlowDirection "flow-direction" 5 Text Counted,
    TrafficPath "traffic-path" 5 Int32 Counted,
    EcsClusterArn "ecs-cluster-arn" 7 Text Counted,
    EcsClusterName "ecs-cluster-name" 7 Text Counted,
    EcsContainerInstanceArn "ecs-container-instance-arn" 7 Text Counted,
    EcsContainerInstanceId "ecs-container-instance-id" 7 Text Counted,
    EcsContainerId "ecs-container-id" 7 Text Counted,
    EcsSecondContainerId "ecs-second-container-id" 7 Text Counted,
    EcsServiceName "ecs-service-name" 7 Text Counted,
    EcsTaskDefinitionArn "ecs-task-definition-arn" 7 Text Counted,
    EcsTaskArn "ecs-task-arn" 7 Text Counted,
    EcsTaskId "ecs-task-id" 7 Text Counted,
    RejectReason "reject-reason" 8 Text Counted,
    ResourceId "resource-id" 9 Text Counted,
    EncryptionStatus "encryption-status" 10 Int32 Counted,
    InstanceTag "instance-tag" 11 Text Counted,
    InstanceTag2 "instance-tag-2" 11 Text Counted,
    InterfaceTag "interface-tag" 11 Text Counted,
    InterfaceTag2 "interface-tag-2" 11 Text Counted,
    AsgTag "asg-tag" 11 Text Counted,
    AsgTag2 "asg-tag-2" 11 Text Counted,
    InterfaceType "interface-type" 11 Text Counted,
    NextHopInterfaceId "next-hop-interface-id" 11 Text Counted,
    NextHopSubnetId "next-hop-subnet-id" 11 Text Counted,
    NextHopAzId "next-hop-az-id" 11 Text Counted,
    NextHopVpcId "next-hop-vpc-id" 11 Text Counted,
    NextHopInterfaceType "next-hop-interface-type" 11 Text Counted,
    BlRuleId "bl-rule-id" 0 Text Counted,
    BlGroupId "bl-group-id" 0 Text Counted,
    BlDropReason "bl-drop-reason" 0 Text Counted,
    BlHostId "bl-host-id" 0 Text Always,
    BlFirstSeen "bl-first-seen" 0 Int64 Counted,
    BlLastSeen "bl-last-seen" 0 Int64 Counted,
    BlSequence "bl-sequence" 0 Int64 Always,
    BlSkippedPackets "bl-skipped-packets" 0 Int64 Always,
    BlTaskId "bl-task-id" 0 Text Always,
}

/// Fields of the default format, the first so many of the table.
const DEFAULT_FIELDS: usize = 14;

impl Field {
    /// As in a format and in the first line of a text file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.description().name
    }

    /// The version of VPC Flow Logs that brought it, 2 to 11; `None` for our own.
    #[must_use]
    pub const fn version(self) -> Option<u8> {
        match self.description().version {
            0 => None,
            version => Some(version),
        }
    }

    /// The type of its Parquet column.
    #[must_use]
    pub const fn column_type(self) -> ColumnType {
        self.description().column
    }

    /// The name of its Parquet column.
    #[must_use]
    pub fn column_name(self) -> String {
        self.name().replace('-', "_")
    }

    /// Whether `NODATA` and `SKIPDATA` rows have a value.
    #[must_use]
    pub const fn is_in_every_row(self) -> bool {
        matches!(self.description().said, Said::Always)
    }

    /// The fields of the default format, in order.
    #[must_use]
    pub fn defaults() -> &'static [Self] {
        Self::ALL.split_at(DEFAULT_FIELDS).0
    }

    /// The field of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|field| field.name() == name)
    }

    /// The name that is most like `name`, if one is like it at all.
    #[must_use]
    pub fn nearest_name(name: &str) -> Option<&'static str> {
        let most = (name.len() / 3).max(2);
        let names = Self::ALL.iter().map(|field| field.name());
        let (edits, nearest) = names
            .map(|known| (edits(name, known), known))
            .min_by_key(|(edits, _)| *edits)?;
        (edits <= most).then_some(nearest)
    }
}

/// Bytes to insert, remove or replace to make `other` of `one` (Levenshtein).
fn edits(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(!a.eq_ignore_ascii_case(&b));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The specification's table: name, version, type, column, and what of it is in the default
    /// format and on NODATA rows.
    const SPECIFICATION: &str = include_str!("../../../tests/fixtures/flowlog_fields.csv");

    #[test]
    fn the_table_is_the_specification_and_then_our_own() {
        let mut lines = SPECIFICATION.lines().skip(1);
        let mut defaults = 0;
        let standard = Field::ALL.iter().filter(|field| field.version().is_some());
        for field in standard {
            let line = lines.next().unwrap();
            let cells: Vec<_> = line.split(',').collect();
            let [
                name,
                version,
                column_type,
                column,
                is_default,
                position,
                on_nodata,
            ] = cells[..]
            else {
                panic!("{line}");
            };
            assert_eq!(field.name(), name);
            assert_eq!(field.version().unwrap().to_string(), version, "{name}");
            let made = match field.column_type() {
                ColumnType::Int32 => "INT_32",
                ColumnType::Int64 => "INT_64",
                ColumnType::Text => "STRING",
            };
            assert_eq!(made, column_type, "{name}");
            assert_eq!(field.column_name(), column, "{name}");
            let is_kept = if field.is_in_every_row() {
                "value"
            } else {
                "-"
            };
            assert_eq!(is_kept, on_nodata, "{name}");
            if is_default == "yes" {
                assert_eq!(Field::defaults()[defaults].name(), name);
                defaults += 1;
                assert_eq!(position, defaults.to_string());
            }
        }
        assert_eq!(lines.next(), None);
        assert_eq!(Field::defaults().len(), defaults);
        let own: Vec<_> = Field::ALL[54..].iter().map(|field| field.name()).collect();
        assert_eq!(own.len(), 9);
        assert!(own.iter().all(|name| name.starts_with("bl-")), "{own:?}");
    }

    #[test]
    fn names_lead_to_their_fields_and_to_the_nearest() {
        for field in Field::ALL {
            assert_eq!(Field::of_name(field.name()), Some(*field));
        }
        for (wrong, nearest) in [
            ("log_status", Some("log-status")),
            ("srcadr", Some("srcaddr")),
            ("dst-port", Some("dstport")),
            ("Version", Some("version")),
            ("tgw-attachment-id", None),
            ("", None),
        ] {
            assert_eq!(Field::of_name(wrong), None);
            assert_eq!(Field::nearest_name(wrong), nearest, "{wrong}");
        }
    }
}
