//! Explains on request what becomes of a packet: finds tasks, ENIs and loaded policies for `explain`.
//!
//! It decides nothing and changes nothing.

use std::net::IpAddr;

use branchline_common::{memory::Memory, verdict::Direction};
use ipnet::IpNet;

use super::{Agent, requests::failed};
use crate::{
    datapath::lock,
    eni_settings::EniSettings,
    explain::{
        self, EniJudgement, ExplainRequest, Explanation, Interface, LoadedPolicy, Opening, Scene,
        address_of,
    },
    field_error::FieldError,
    server::ControlError,
    spec::TaskId,
    task_record::TaskRecord,
};

/// One end of the packet.
enum End {
    Task(Box<TaskRecord>),
    Address(IpAddr),
}

impl Agent {
    pub(super) fn explain_packet(
        &self,
        request: &ExplainRequest,
    ) -> Result<Explanation, ControlError> {
        let from = self.end("from", &request.from)?;
        let to = self.end("to", &request.to)?;
        let (source, destination) =
            addresses(&from, &to, request.ipv6).map_err(ControlError::Invalid)?;
        let packet = request
            .opening(source, destination)
            .map_err(ControlError::Invalid)?;
        let mut judgements = Vec::new();
        for (end, direction) in [(&from, Direction::Egress), (&to, Direction::Ingress)] {
            if let End::Task(task) = end {
                judgements.push(self.judge(task, direction, &packet)?);
            }
        }
        Ok(Explanation {
            allowed: judgements.iter().all(|judgement| judgement.allowed),
            packet,
            judgements,
        })
    }

    fn end(&self, field: &str, text: &str) -> Result<End, ControlError> {
        if let Ok(address) = text.parse() {
            return Ok(End::Address(address));
        }
        let id = TaskId::try_from(text.to_owned()).map_err(|error| {
            let fix = "write a task's id or an address";
            ControlError::Invalid(FieldError::new(field, error.to_string(), fix))
        })?;
        match self.tasks.task(&id) {
            Some(task) => Ok(End::Task(Box::new(task))),
            None => Err(ControlError::Unknown(id)),
        }
    }

    fn judge(
        &self,
        task: &TaskRecord,
        direction: Direction,
        packet: &Opening,
    ) -> Result<EniJudgement, ControlError> {
        let attributes = task.spec.network_interface_attributes();
        let settings = EniSettings::resolve(&self.config.conntrack, attributes);
        let vpc_cidrs = self.host.provider.vpc().cidrs();
        let auto_track = self.config.conntrack.auto_track.iter();
        let auto_track: Vec<IpNet> = auto_track.map(|network| network.get()).collect();
        // No change of policies comes between the two answers.
        let plugs = self.host.plugs();
        let policies = plugs.policies();
        let slot = plugs.slot(&task.eni.eni_id);
        let compiled = slot.and_then(|slot| Some((slot, policies.of_slot(slot)?)));
        let Some((slot, compiled)) = compiled else {
            return Err(ControlError::Conflict(format!(
                "task {} is not in the data plane; see `branchline task show {0}`",
                task.spec.task_id
            )));
        };
        let loaded = {
            let datapath = lock(&self.host.datapath);
            let index = datapath.eni(slot).map_err(failed)?.policy;
            let tables = Memory {
                compiled: datapath.compiled(index).map_err(failed)?,
                ..Memory::default()
            };
            LoadedPolicy {
                entry: datapath.policy(index).map_err(failed)?,
                tables,
                rules: compiled.rules.clone(),
            }
        };
        let scene = Scene {
            directory: policies.directory(),
            members: policies.members(),
            vpc_cidrs: &vpc_cidrs,
            auto_track: &auto_track,
        };
        let interface = Interface {
            task_id: task.spec.task_id.as_str(),
            eni: &task.eni,
            settings: &settings,
        };
        explain::judge(&scene, &interface, direction, packet, &loaded).map_err(failed)
    }
}

/// The addresses of both ends, in the family of an address that is given; else by IPv4 if both tasks have it and IPv6
/// is not asked for.
fn addresses(from: &End, to: &End, ipv6: bool) -> Result<(IpAddr, IpAddr), FieldError> {
    let has = |end: &End, ipv6| match end {
        End::Task(task) => address_of(&task.eni, ipv6).is_some(),
        End::Address(address) => address.is_ipv6() == ipv6,
    };
    let is_ipv6 = match (from, to) {
        (End::Address(_), End::Address(_)) => {
            let problem = "is an address, as the other end is";
            let fix = "name a task of this host as one of the two";
            return Err(FieldError::new("from", problem, fix));
        }
        (End::Address(address), End::Task(_)) | (End::Task(_), End::Address(address)) => {
            address.is_ipv6()
        }
        (End::Task(_), End::Task(_)) => ipv6 || !(has(from, false) && has(to, false)),
    };
    let address = |field: &str, end: &End| match end {
        End::Address(address) => Ok(*address),
        End::Task(task) => address_of(&task.eni, is_ipv6).ok_or_else(|| {
            let family = if is_ipv6 { "IPv6" } else { "IPv4" };
            let problem = format!("task {} has no {family} address", task.spec.task_id);
            FieldError::new(field, problem, "ask for ends of one family")
        }),
    };
    Ok((address("from", from)?, address("to", to)?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::task_record::tests::record;

    fn task(has_ipv4: bool, has_ipv6: bool) -> End {
        let mut task = record("web");
        task.eni.ipv4 = task.eni.ipv4.filter(|_| has_ipv4);
        task.eni.ipv6 = task.eni.ipv6.filter(|_| has_ipv6);
        End::Task(Box::new(task))
    }

    fn given(text: &str) -> End {
        End::Address(text.parse().unwrap())
    }

    #[test]
    fn ends_meet_in_one_family() {
        let (four, six) = ("10.0.1.10 10.0.1.10", "2001:db8::1 2001:db8::1");
        let rows = [
            (task(true, true), task(true, true), false, four),
            (task(true, true), task(true, true), true, six),
            (task(true, true), task(false, true), false, six),
            (
                task(true, true),
                given("192.0.2.1"),
                true,
                "10.0.1.10 192.0.2.1",
            ),
            (
                given("2001:db8::9"),
                task(true, true),
                false,
                "2001:db8::9 2001:db8::1",
            ),
            (
                task(true, false),
                given("2001:db8::9"),
                false,
                "from: task web has no IPv6",
            ),
            (
                task(true, false),
                task(false, true),
                false,
                "from: task web has no IPv6",
            ),
            (
                given("192.0.2.1"),
                given("192.0.2.2"),
                false,
                "from: is an address",
            ),
        ];
        for (from, to, ipv6, expected) in rows {
            let found = match addresses(&from, &to, ipv6) {
                Ok((source, destination)) => format!("{source} {destination}"),
                Err(error) => error.to_string(),
            };
            assert!(found.starts_with(expected), "{found}: {expected}");
        }
    }
}
