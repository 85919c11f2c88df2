//! The loaded programs, a small VPC in their maps, and one test run. It computes nothing.

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRunOptions,
    maps::{Array, HashMap, MapData, ProgramArray},
    programs::{ProgramFd, SchedClassifier, TestRun},
};
use branchline::{
    datapath::{Datapath, OBJECT, Settings, program},
    policy::Trees,
};
use branchline_common::{
    bench::{KEY_WORDS, Preparation, VALUE_WORDS},
    conntrack::default_timeouts,
    flow::{Address, mapped},
    maps::{self, Endpoint, Eni, eni},
};

use branchline_tests::rules::Rule;

use crate::frames::{End, Frame};

/// The link that every test run's frame comes in by: the loopback of the bench's namespace.
const LINK: u32 = 1;
const POLICY: u32 = 1;

/// The port that the rules allow.
pub(crate) const PORT: u16 = 80;
/// A port that they do not.
pub(crate) const DENIED_PORT: u16 = 81;

/// An ENI of the bench, also its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// A branch ENI.
    Branch = 1,
    /// Another branch ENI.
    Other = 2,
    /// A whole ENI, without VLAN.
    Whole = 3,
}

impl Which {
    fn vlan(self) -> u16 {
        match self {
            Self::Branch => 7,
            Self::Other => 8,
            Self::Whole => 0,
        }
    }

    /// The task's end of a flow.
    pub(crate) fn end(self, is_ipv4: bool, port: u16) -> End {
        let number = self as u8;
        End {
            mac: [2, 0, 0, 0, 1, number],
            address: if is_ipv4 {
                mapped([10, 0, 0, number])
            } else {
                ipv6(0, number)
            },
            port,
        }
    }
}

/// The other end of every flow, before its number goes in. Its MAC address is the router's.
pub(crate) fn remote(is_ipv4: bool) -> End {
    End {
        mac: [2, 0, 0, 0, 0, 1],
        address: if is_ipv4 {
            mapped([10, 1, 0, 0])
        } else {
            ipv6(1, 0)
        },
        port: 0,
    }
}

fn ipv6(subnet: u8, host: u8) -> Address {
    let mut address = [0; 16];
    (address[0], address[7], address[15]) = (0xfd, subnet, host);
    address
}

/// The loaded programs.
pub(crate) struct Rig {
    pub(crate) datapath: Datapath,
    runner: Runner,
    flows: HashMap<MapData, [u64; KEY_WORDS], [u64; VALUE_WORDS]>,
    /// How many are in `flows`.
    known_flows: u32,
}

/// The bench's own programs, `prepare` and what runs behind it.
pub(crate) struct Runner {
    bench: Ebpf,
    preparation: Array<MapData, Preparation>,
    measured: ProgramArray<MapData>,
}

/// What runs behind `prepare`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measured {
    /// A program of the agent's object.
    Program(&'static str),
    /// The bench's `pop`.
    Pop,
    /// The bench's `lookup`.
    Lookup,
}

impl Rig {
    /// Loads the agent's programs, with room for as many connections, and the bench's from `object`.
    pub(crate) fn load(object: &str, connections: u32) -> Result<Self> {
        Self::load_measured(OBJECT, object, connections)
    }

    /// As [`Rig::load`], with the programs to be measured from another object than the agent's.
    pub(crate) fn load_measured(measured: &[u8], object: &str, connections: u32) -> Result<Self> {
        let settings = Settings {
            pins: None,
            connections,
            rows: maps::ROWS,
            log_drops: false,
            tcp_strict: false,
        };
        let mut datapath = Datapath::load_object(measured, &settings)?;
        let mut bench = EbpfLoader::new()
            .load_file(object)
            .with_context(|| format!("load {object}"))?;
        for name in ["prepare", "pop", "find", "lookup"] {
            classifier(&mut bench, name)?.load()?;
        }
        let preparation = bench.take_map("PREPARATION").context("no PREPARATION")?;
        let measured = bench.take_map("MEASURED").context("no MEASURED")?;
        let flows = bench.take_map("FLOWS").context("no FLOWS")?;
        let found = bench.map_mut("FOUND").context("no FOUND")?;
        HashMap::<_, [u64; 5], u64>::try_from(found)?.insert([1; 5], 1, 0)?;
        fill(&mut datapath)?;
        Ok(Self {
            datapath,
            runner: Runner {
                bench,
                preparation: Array::try_from(preparation)?,
                measured: ProgramArray::try_from(measured)?,
            },
            flows: HashMap::try_from(flows)?,
            known_flows: 0,
        })
    }

    /// The data plane by itself, for somebody who reads its tables while packets run.
    pub(crate) fn into_parts(self) -> (Runner, Datapath) {
        (self.runner, self.datapath)
    }

    /// Lets the link be the branch of `which`, and forgets its flows.
    pub(crate) fn reset(&mut self, which: Which) -> Result<()> {
        self.datapath.forget_eni(which as u32)?;
        plug(&mut self.datapath, which)?;
        Ok(self.datapath.set_branch(LINK, which as u32)?)
    }

    /// Lets `lookup` know the flows below `flows`, in the order in which they are opened elsewhere.
    pub(crate) fn know_flows(&mut self, flows: u32) -> Result<()> {
        for flow in 0..self.known_flows {
            self.flows.remove(&[u64::from(flow); KEY_WORDS])?;
        }
        for flow in 0..flows {
            let value = [0; VALUE_WORDS];
            self.flows.insert([u64::from(flow); KEY_WORDS], value, 0)?;
        }
        self.known_flows = flows;
        Ok(())
    }

    /// Replaces the rules by those of [`rules`] and `more`.
    pub(crate) fn set_rules(&mut self, more: u32) -> Result<()> {
        enter(&mut self.datapath, &rules(more))
    }

    /// Runs `measured` behind `prepare`; returns nanoseconds per packet. It must return `code`.
    /// The preparation's state is carried on, as `prepare` leaves it.
    pub(crate) fn prepared(
        &mut self,
        measured: Measured,
        frame: &Frame,
        preparation: &mut Preparation,
        repeat: u32,
        code: i32,
    ) -> Result<f64> {
        let runner = &mut self.runner;
        match measured {
            Measured::Program(name) => {
                runner.set_measured(self.datapath.classifier(name)?.fd()?)?
            }
            Measured::Pop => runner.set_own("pop")?,
            Measured::Lookup => runner.set_own("lookup")?,
        }
        let nanos = runner.run(frame, preparation, repeat, code);
        nanos.with_context(|| format!("{measured:?} behind {preparation:?}"))
    }

    /// Where a program of the agent's object sends the frame: its destination MAC address then.
    pub(crate) fn destination(&mut self, name: &'static str, frame: &Frame) -> Result<[u8; 6]> {
        let mut out = vec![0; frame.bytes.len() + 8];
        self.datapath.classifier(name)?.test_run(TestRunOptions {
            data_in: Some(&frame.bytes),
            data_out: Some(&mut out),
            ..TestRunOptions::default()
        })?;
        Ok(*out.first_chunk().context("no frame came back")?)
    }

    /// Nanoseconds of one lookup of 40 bytes in a hash map, with what `empty` costs.
    pub(crate) fn lookup(&mut self, frame: &Frame, repeat: u32) -> Result<f64> {
        run(
            classifier(&mut self.runner.bench, "find")?,
            frame,
            repeat,
            0,
        )
        .context("find")
    }

    /// Runs a program of the agent's object by itself.
    pub(crate) fn alone(
        &mut self,
        name: &'static str,
        frame: &Frame,
        repeat: u32,
        code: i32,
    ) -> Result<f64> {
        run(self.datapath.classifier(name)?, frame, repeat, code).context(name)
    }
}

impl Runner {
    /// Lets a program run behind `prepare`.
    pub(crate) fn set_measured(&mut self, program: &ProgramFd) -> Result<()> {
        Ok(self.measured.set(0, program, 0)?)
    }

    fn set_own(&mut self, name: &str) -> Result<()> {
        let program = classifier(&mut self.bench, name)?.fd()?;
        Ok(self.measured.set(0, program, 0)?)
    }

    /// Runs what was set; returns nanoseconds per packet, as [`Rig::prepared`] does.
    pub(crate) fn run(
        &mut self,
        frame: &Frame,
        preparation: &mut Preparation,
        repeat: u32,
        code: i32,
    ) -> Result<f64> {
        preparation.address_at = frame.address_at;
        preparation.port_at = frame.port_at;
        preparation.destination.copy_from_slice(&frame.bytes[..6]);
        self.preparation.set(0, *preparation, 0)?;
        let nanos = run(classifier(&mut self.bench, "prepare")?, frame, repeat, code)?;
        *preparation = self.preparation.get(&0, 0)?;
        Ok(nanos)
    }
}

/// The VLAN on which `trunk_ingress` finds an ENI.
pub(crate) fn vlan(which: Which) -> u16 {
    which.vlan()
}

fn run(program: &SchedClassifier, frame: &Frame, repeat: u32, code: i32) -> Result<f64> {
    let result = program.test_run(TestRunOptions {
        data_in: Some(&frame.bytes),
        repeat,
        ..TestRunOptions::default()
    })?;
    ensure!(
        result.return_value as i32 == code,
        "the program returned {} where {code} is to be measured",
        result.return_value as i32
    );
    // The kernel hands out whole nanoseconds, the average of the run.
    Ok(result.duration.as_nanos() as f64)
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the bench's object has no {name}"))?;
    Ok(program.try_into()?)
}

fn fill(datapath: &mut Datapath) -> Result<()> {
    let router = Eni {
        mac: remote(true).mac,
        ..Eni::default()
    };
    datapath.set_eni(0, &router)?;
    enter(datapath, &rules(0))?;
    for which in [Which::Branch, Which::Other, Which::Whole] {
        plug(datapath, which)?;
        let Eni {
            vlan,
            mac,
            ipv4,
            ipv6,
            ..
        } = eni_of(datapath, which);
        let endpoint = Endpoint {
            trunk_ifindex: LINK,
            vlan,
            mac,
        };
        datapath.set_endpoint(endpoint, which as u32)?;
        datapath.set_address(ipv4, which as u32)?;
        datapath.set_address(ipv6, which as u32)?;
    }
    Ok(())
}

/// Lets all ENIs obey `rules`.
fn enter(datapath: &mut Datapath, rules: &[Rule]) -> Result<()> {
    let mut trees = Trees::default();
    let policy = branchline_tests::rules::compile(&mut trees, rules);
    datapath.write_trees(&trees.unwritten())?;
    Ok(datapath.write_policy(POLICY, &policy.entry)?)
}

fn plug(datapath: &mut Datapath, which: Which) -> Result<()> {
    let eni = eni_of(datapath, which);
    Ok(datapath.set_eni(which as u32, &eni)?)
}

pub(crate) fn eni_of(datapath: &Datapath, which: Which) -> Eni {
    Eni {
        trunk_ifindex: LINK,
        branch_ifindex: LINK,
        fabric_ifindex: LINK,
        policy: POLICY,
        flags: eni::SOURCE_DEST_CHECK,
        vlan: which.vlan(),
        mac: which.end(true, 0).mac,
        ipv4: which.end(true, 0).address,
        ipv6: which.end(false, 0).address,
        router_ipv4: mapped([10, 0, 0, 254]),
        router_ipv6: ipv6(0, 254),
        timeouts: default_timeouts(datapath.clock().ticks_per_second()),
        ..Eni::default()
    }
}

/// Everyone may reach the port, by TCP and UDP; `more` rules beside them let others reach others.
fn rules(more: u32) -> Vec<Rule> {
    let mut lines = Vec::new();
    for transport in ["tcp", "udp"] {
        for peer in ["0.0.0.0/0", "::/0"] {
            lines.push(format!("ingress {transport} {PORT} {peer}"));
        }
    }
    for number in 0..more {
        // Addresses of the same /16 as the flows', and ports all over (Knuth's multiplicative hash).
        let spread = number.wrapping_mul(0x9e37_79b1);
        let [a, b, c, d] = spread.to_be_bytes();
        let port = u16::from_be_bytes([c, d]).max(DENIED_PORT + 1);
        lines.push(format!("ingress tcp {port} 10.1.{a}.{b}/32"));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    branchline_tests::rules::rules(&lines)
}

/// A program that does nothing.
pub(crate) const EMPTY: Measured = Measured::Program(program::EMPTY);
