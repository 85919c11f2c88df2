//! Flow-log files of the default version 2 format, read as strictly as it is written.

use std::{
    fs::{self, File},
    io::Read,
    net::IpAddr,
    path::Path,
    str::FromStr,
};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;

/// The first line of every file.
const HEADER: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol \
                      packets bytes start end action log-status";

/// One line of a flow-log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// The ENI.
    pub eni_id: String,
    /// What was counted; `None` on a NODATA or SKIPDATA line.
    pub flow: Option<Flow>,
    /// Unix seconds of the first packet, or the window's start.
    pub start: u64,
    /// Unix seconds of the last packet, or the window's end.
    pub end: u64,
    /// `OK`, `NODATA` or `SKIPDATA`.
    pub log_status: String,
}

/// What an OK line counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// 0 where the protocol has no ports.
    pub src_port: u16,
    /// As `src_port`.
    pub dst_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Packets as the wire carries them.
    pub packets: u64,
    /// Bytes from the IP header on.
    pub bytes: u64,
    /// `true` for ACCEPT, `false` for REJECT.
    pub accepted: bool,
}

impl FlowRow {
    /// Every row of every `*.log.gz` below `dir`, in the order of their paths; none if there is no
    /// such folder.
    ///
    /// # Errors
    /// Names the file and line that is not of the format.
    pub fn read_dir(dir: &Path) -> Result<Vec<Self>> {
        let mut paths = Vec::new();
        let mut folders = vec![dir.to_owned()];
        while let Some(folder) = folders.pop() {
            if !folder.exists() {
                continue;
            }
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_string_lossy().ends_with(".log.gz") {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        let mut rows = Vec::new();
        for path in paths {
            let name = path.display().to_string();
            let file = File::open(&path).map_err(anyhow::Error::from);
            let read = file.and_then(Self::read);
            rows.extend(read.with_context(|| format!("read {name}"))?);
        }
        Ok(rows)
    }

    /// Every row of one file.
    ///
    /// # Errors
    /// It is not of the format.
    pub fn read(file: impl Read) -> Result<Vec<Self>> {
        let mut text = String::new();
        GzDecoder::new(file).read_to_string(&mut text)?;
        let rows = text
            .strip_prefix(HEADER)
            .and_then(|rest| rest.strip_prefix('\n'))
            .with_context(|| format!("the first line is not {HEADER:?}"))?;
        ensure!(
            rows.is_empty() || rows.ends_with('\n'),
            "the last line has no end"
        );
        rows.lines().map(Self::from_str).collect()
    }
}

impl FromStr for FlowRow {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [version, account, eni_id, flow @ .., log_status] = words.as_slice() else {
            bail!("{line:?} is too short");
        };
        let [
            src,
            dst,
            src_port,
            dst_port,
            protocol,
            packets,
            bytes,
            start,
            end,
            action,
        ] = flow
        else {
            bail!("{line:?} has {} fields, not 14", words.len());
        };
        ensure!(*version == "2", "version {version}");
        ensure!(account.len() == 12, "account {account}");
        let counted = [
            src, dst, src_port, dst_port, protocol, packets, bytes, action,
        ];
        let flow = if *log_status == "OK" {
            Some(Flow {
                src: src.parse()?,
                dst: dst.parse()?,
                src_port: src_port.parse()?,
                dst_port: dst_port.parse()?,
                protocol: protocol.parse()?,
                packets: packets.parse()?,
                bytes: bytes.parse()?,
                accepted: match *action {
                    "ACCEPT" => true,
                    "REJECT" => false,
                    other => bail!("action {other}"),
                },
            })
        } else {
            ensure!(
                matches!(*log_status, "NODATA" | "SKIPDATA"),
                "log-status {log_status}"
            );
            ensure!(counted.iter().all(|word| **word == "-"), "{line:?}");
            None
        };
        let row = Self {
            eni_id: (*eni_id).to_owned(),
            flow,
            start: start.parse()?,
            end: end.parse()?,
            log_status: (*log_status).to_owned(),
        };
        ensure!(row.start <= row.end, "{line:?} ends before it starts");
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn reads_the_three_kinds_of_line_and_nothing_else() {
        let accepted =
            "2 123456789010 eni-1 10.0.1.4 10.0.1.5 20641 22 6 20 4249 1418530010 1418530070";
        let row: FlowRow = format!("{accepted} ACCEPT OK").parse().unwrap();
        let flow = row.flow.unwrap();
        assert_eq!((flow.packets, flow.bytes, flow.accepted), (20, 4249, true));
        let silent = "2 123456789010 eni-1 - - - - - - - 1431280876 1431280934 - NODATA";
        assert_eq!(silent.parse::<FlowRow>().unwrap().flow, None);
        for wrong in [
            format!("{accepted} ALLOW OK"),
            format!("{accepted} ACCEPT"),
            format!("{accepted} ACCEPT NODATA"),
            silent.replace("NODATA", "OK"),
            silent.replace("1431280934", "1431280875"),
        ] {
            assert!(wrong.parse::<FlowRow>().is_err(), "{wrong}");
        }
    }
}
