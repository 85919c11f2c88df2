//! 1,000,000 flows in one interval: whether a packet is lost or held up while the agent's own flow log
//! reads the tables and writes the rows.
//!
//! Packets run on one CPU and the flow log on another. Its files are memory: how fast a disk is
//! shows elsewhere.

use std::{
    fs::{self, File},
    hint::black_box,
    io::{BufRead, BufReader},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use branchline::{
    config::FlowRecordConfig,
    datapath::{Datapath, lock, program::TRUNK_INGRESS},
    delivery::FlowLog,
    flows::{Exporter, ExporterSettings, Identities, Identity},
    policy::RuleBook,
    provider::RouteTables,
    state::{RuleStore, Store},
    upload::Environment,
};
use branchline_common::bench::{Preparation, preparation};
use flate2::read::GzDecoder;
use tokio::runtime::{Builder, Runtime};

use crate::{
    cases::{Around, REDIRECT, around, arriving, establish, established, median},
    cpus::{Cpus, pin},
    frames::Frame,
    report::{Amount, amount},
    rig::{Rig, Runner},
};

const CONNECTIONS: u32 = 1_048_576;
const FLOWS: u32 = 1_000_000;
/// Intervals that are ended.
const ROUNDS: usize = 2;
/// Packets of a run.
const BATCH: u32 = 2_000;
/// How long packets run without the flow log at work, each round: by themselves, and beside a program
/// that reads memory on its CPU.
const ALONE: Duration = Duration::from_secs(2);
/// The sandbox's own `/run`, which is gone with it.
const FOLDER: &str = "/run/branchline-bench";
/// Words that this program reads, more than caches hold.
const WORDS: usize = 1 << 24;
/// Most that a packet may cost meanwhile, as a multiple of what it costs beside that program: more
/// than sharing the caches, and packets wait for the flow log.
const GOAL: f64 = 1.1;
/// Where the number of packets stands in a line of the default format.
const PACKETS: usize = 8;

/// Measures it.
pub(crate) fn measure(object: &str, cpus: &Cpus) -> Result<Vec<Amount>> {
    let mut rig = Rig::load(object, CONNECTIONS)?;
    let group = established(FLOWS);
    rig.reset(group.which)?;
    let around = around(&mut rig, &group)?;
    let opening = establish(&mut rig, &group)?;
    let (frame, preparation) = arriving(&group);
    let (runner, datapath) = rig.into_parts();
    let datapath = Arc::new(Mutex::new(datapath));
    let mut traffic = Traffic::new(runner, &datapath, (frame, preparation), around)?;
    traffic.sent = opening;
    let cpu = cpus.other()?;
    let log = Log::start(datapath, group.which as u32, cpu)?;
    let figures = rounds(&mut traffic, &log, cpu)?;
    log.flush()?;
    log.stop()?;
    let logged = packets_below(&Path::new(FOLDER).join("flows"))?;
    fs::remove_dir_all(FOLDER)?;
    Ok(amounts(figures, traffic.sent, logged))
}

/// Nanoseconds of a packet and seconds of an interval's end, of all rounds.
#[derive(Default)]
struct Figures {
    alone: Vec<f64>,
    beside: Vec<f64>,
    meanwhile: Vec<f64>,
    ends: Vec<f64>,
}

fn rounds(traffic: &mut Traffic, log: &Log, cpu: usize) -> Result<Figures> {
    let mut figures = Figures::default();
    for _ in 0..ROUNDS {
        traffic.every_flow()?;
        traffic.batches_for(ALONE, &mut figures.alone)?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| read_memory(cpu, &stop));
            let done = traffic.batches_for(ALONE, &mut figures.beside);
            stop.store(true, Ordering::Relaxed);
            done
        })?;
        let start = Instant::now();
        let end = log.begin_flush();
        while !end.is_finished() {
            figures.meanwhile.push(traffic.batch()?);
        }
        figures.ends.push(start.elapsed().as_secs_f64());
        log.runtime.block_on(end)??;
    }
    Ok(figures)
}

/// What any program on the other CPU may do.
fn read_memory(cpu: usize, stop: &AtomicBool) {
    if let Err(error) = pin(&[cpu]) {
        eprintln!("memory is read on the packets' CPU: {error}");
    }
    let words = vec![1_u64; WORDS];
    while !stop.load(Ordering::Relaxed) {
        black_box(
            words
                .iter()
                .fold(0, |sum: u64, word| sum.wrapping_add(*word)),
        );
    }
}

fn amounts(figures: Figures, sent: u64, logged: u64) -> Vec<Amount> {
    let Figures {
        alone,
        mut beside,
        mut meanwhile,
        ends,
    } = figures;
    let slow = slowest_hundredth(&mut meanwhile) / slowest_hundredth(&mut beside);
    let (alone, beside, meanwhile) = (median(alone), median(beside), median(meanwhile));
    let lost = sent.abs_diff(logged) as f64;
    let of = "1,000,000 flows in one interval";
    vec![
        amount(&format!("{of}: packets sent"), sent as f64, "packets", None),
        amount(
            "... of them in no row, or in two",
            lost,
            "packets",
            Some(0.0),
        ),
        amount(
            "... from the interval's end to files",
            median(ends),
            "s",
            None,
        ),
        amount("... a packet otherwise, net", alone, "ns", None),
        amount("... while a CPU reads memory", beside, "ns", None),
        amount("... while a CPU ends the interval", meanwhile, "ns", None),
        amount(
            "... the last / the one before",
            meanwhile / beside,
            "x",
            Some(GOAL),
        ),
        amount(
            "... the same of the slowest 1 % of runs",
            slow,
            "x",
            Some(GOAL),
        ),
    ]
}

fn slowest_hundredth(nets: &mut [f64]) -> f64 {
    nets.sort_by(f64::total_cmp);
    nets.get(nets.len() * 99 / 100).copied().unwrap_or(f64::NAN)
}

/// Packets of the flows in the table.
struct Traffic {
    runner: Runner,
    frame: Frame,
    preparation: Preparation,
    around: Around,
    sent: u64,
}

impl Traffic {
    fn new(
        mut runner: Runner,
        datapath: &Mutex<Datapath>,
        (frame, preparation): (Frame, Preparation),
        around: Around,
    ) -> Result<Self> {
        runner.set_measured(lock(datapath).classifier(TRUNK_INGRESS)?.fd()?)?;
        Ok(Self {
            runner,
            frame,
            preparation,
            around,
            sent: 0,
        })
    }

    /// A packet of each flow, so that each has a row in this interval.
    fn every_flow(&mut self) -> Result<()> {
        let mut sequence = Preparation {
            state: 0,
            flags: self.preparation.flags | preparation::SEQUENCE,
            ..self.preparation
        };
        self.runner
            .run(&self.frame, &mut sequence, FLOWS, REDIRECT)?;
        self.sent += u64::from(FLOWS);
        Ok(())
    }

    /// Runs of packets for a while; their net nanoseconds go to the end of `nets`.
    fn batches_for(&mut self, time: Duration, nets: &mut Vec<f64>) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < time {
            nets.push(self.batch()?);
        }
        Ok(())
    }

    /// Packets of flows at random; returns net nanoseconds of each.
    fn batch(&mut self) -> Result<f64> {
        let (frame, preparation) = (&self.frame, &mut self.preparation);
        let all = self.runner.run(frame, preparation, BATCH, REDIRECT)?;
        self.sent += u64::from(BATCH);
        Ok(self.around.net(1, all))
    }
}

/// The agent's flow log over the tables, on a CPU of its own.
struct Log {
    runtime: Runtime,
    exporter: Arc<Exporter>,
}

impl Log {
    fn start(datapath: Arc<Mutex<Datapath>>, slot: u32, cpu: usize) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .on_thread_start(move || {
                if let Err(error) = pin(&[cpu]) {
                    eprintln!("the flow log stays on the packets' CPU: {error}");
                }
            })
            .build()?;
        let folder = Path::new(FOLDER);
        let log = FlowLog {
            dir: folder.join("flows"),
            max_aggregation_interval: 600,
            rotation: 86_400,
            ..FlowLog::of_host()
        };
        let settings = ExporterSettings {
            spool: folder.join("spool"),
            records: FlowRecordConfig::default(),
            logs: vec![log],
            rules: RuleBook::default(),
            environment: Environment::default(),
            ip_ranges: Arc::default(),
            routes: RouteTables::default(),
            traffic: branchline::metrics::Traffic::default(),
        };
        let identities = Identities::default();
        identities.insert(slot, Identity::named("eni-0123456789abcdef0", None));
        let store = Arc::new(Store::open(folder)?);
        let rules = Arc::new(RuleStore::open(folder)?);
        // On a thread of the runtime, so that what it starts stays on its CPU.
        let started = runtime.spawn(Exporter::start(
            datapath, store, rules, settings, identities,
        ));
        let exporter = Arc::new(runtime.block_on(started)??);
        Ok(Self { runtime, exporter })
    }

    /// Ends the interval, and has its rows in files when the task ends.
    fn begin_flush(&self) -> tokio::task::JoinHandle<Result<()>> {
        let exporter = Arc::clone(&self.exporter);
        self.runtime
            .spawn(async move { Ok(exporter.flush().await?) })
    }

    fn flush(&self) -> Result<()> {
        self.runtime.block_on(self.begin_flush())?
    }

    fn stop(self) -> Result<()> {
        let exporter = Arc::into_inner(self.exporter).context("the flow log is at work still")?;
        Ok(self.runtime.block_on(exporter.stop())?)
    }
}

/// Packets of all rows in all files below a folder.
fn packets_below(folder: &Path) -> Result<u64> {
    let mut packets = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        packets += if path.is_dir() {
            packets_below(&path)?
        } else {
            packets_of(&path).with_context(|| format!("read {}", path.display()))?
        };
    }
    Ok(packets)
}

fn packets_of(path: &Path) -> Result<u64> {
    let mut packets = 0;
    for line in BufReader::new(GzDecoder::new(File::open(path)?))
        .lines()
        .skip(1)
    {
        let line = line?;
        ensure!(!line.ends_with("SKIPDATA"), "{line}");
        let word = line.split(' ').nth(PACKETS).context("a short line")?;
        // A line of the last interval may be NODATA.
        packets += if word == "-" { 0 } else { word.parse::<u64>()? };
    }
    Ok(packets)
}
