//! All clients lose their connection at once and come back at once, each a hundred messages behind.
//!
//! Three storms of each size: nothing missed (what handshakes cost), the messages still in the ring, and the ring too short
//! for them, so that they are read from the log.

use crate::contestant::{Contestant, Programs, Running};
use crate::cpu;
use crate::report::{Figure, Report};
use crate::swarm::{Plan, Swarm};
use crate::wire::Template;
use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

const TOPIC: &str = "load/one/topic";
/// What pushes messages out of a ring of 1 MiB: of another topic, so that nobody gets them.
const FILLERS: u64 = 160;
const FILLER_BYTES: usize = 16 * 1024;

#[derive(clap::Args)]
pub struct Args {
    /// Connections; several sizes are tried one after the other
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    clients: Vec<u32>,

    /// How many messages each has missed
    #[arg(long, default_value_t = 100)]
    behind: u64,
}

/// Where the missed messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missed {
    Nothing,
    InRing,
    InLog,
}

pub async fn run(args: Args, program: PathBuf) -> Result<Report> {
    let mut rows = Vec::new();
    let (mut lost, mut doubled, mut gaps) = (0, 0, 0);
    let mut reads = Vec::new();
    let bar = ProgressBar::new(args.clients.len() as u64 * 3);
    bar.set_style(ProgressStyle::with_template("{bar:20} {pos}/{len} storms  {msg}")?);
    for &clients in &args.clients {
        super::raise_file_limit(clients.into())?;
        let mut handshake = 0.0;
        for missed in [Missed::Nothing, Missed::InRing, Missed::InLog] {
            bar.set_message(format!("{clients} clients, missed: {missed:?}"));
            let settings =
                if missed == Missed::InLog { vec!["limits.ring=1MiB".to_owned()] } else { Vec::new() };
            let programs = Programs { gateway: program.clone(), uws: None, settings };
            // Twice as many: some come back before the gateway has seen that they had gone.
            let server = Contestant::Gateway.start(&programs, 2 * clients as usize + 1).await?;
            let seen = storm(&server, clients as usize, missed, args.behind, &bar)?;
            let micros = seen.cpu * 1e6 / f64::from(clients);
            if missed == Missed::Nothing {
                handshake = micros;
            }
            lost += seen.storm.lost;
            doubled += seen.storm.doubled;
            gaps += seen.storm.gaps;
            if missed == Missed::InLog {
                reads.push(seen.reads);
            }
            rows.push(vec![
                clients.into(),
                if missed == Missed::Nothing { 0 } else { args.behind },
                u64::from(missed == Missed::InLog),
                seen.storm.half.as_millis() as u64,
                seen.storm.most.as_millis() as u64,
                seen.storm.last.as_millis() as u64,
                micros as u64,
                (handshake * 100.0 / micros) as u64,
                seen.reads,
                seen.storm.deliveries,
            ]);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let most = reads.iter().copied().max().unwrap_or(0);
    let least = reads.iter().copied().min().unwrap_or(0);
    Ok(Report {
        scenario: "storm",
        figures: vec![
            Figure { name: "deliveries lost", value: lost, unit: "", budget: Some(0) },
            Figure { name: "deliveries doubled", value: doubled, unit: "", budget: Some(0) },
            Figure { name: "gaps", value: gaps, unit: "", budget: Some(0) },
            Figure {
                name: "reads from the log, at most",
                value: most,
                unit: "",
                budget: Some(least.max(1) * 2),
            },
        ],
        columns: vec![
            "clients",
            "behind",
            "from log",
            "half ms",
            "99 % ms",
            "all ms",
            "CPU µs each",
            "handshake %",
            "log reads",
            "deliveries",
        ],
        rows,
    })
}

struct Seen {
    storm: crate::swarm::Storm,
    cpu: f64,
    reads: u64,
}

fn storm(server: &Running, clients: usize, missed: Missed, behind: u64, bar: &ProgressBar) -> Result<Seen> {
    let mut swarm = Swarm::new(server.address, server.dialect, 200)?;
    let template = Template::new(200);
    let mut plans = vec![server.publisher(0)];
    plans.extend((0..clients).map(|number| server.subscriber(number, TOPIC, TOPIC, &template)));
    // The first of them says where all stand.
    swarm.open(&plans[..1], 1, |_| {})?;
    swarm.open_and_keep_place(&plans[1])?;
    swarm.open(&plans[2..], 64, |_| {})?;
    swarm.publish(TOPIC, 1)?;
    ensure!(
        swarm.hurry(std::time::Duration::from_secs(20))? == 0,
        "the first message did not reach everyone"
    );
    let cursor = swarm.cursor(1)?;
    let back: Vec<(usize, Plan)> =
        (0..clients).map(|number| (number + 1, server.resumes(number, TOPIC, &cursor))).collect();
    swarm.cut(&back);
    if missed != Missed::Nothing {
        swarm.publish(TOPIC, behind)?;
    }
    if missed == Missed::InLog {
        swarm.fill("load/filler", FILLERS, FILLER_BYTES)?;
    }
    let before = log_reads(server.address)?;
    let cpu = cpu::of(server.pid())?;
    let storm = swarm.come_back(&back, |count| {
        if count % 500 == 0 {
            bar.set_message(format!("{count} of {clients} are back"));
        }
    })?;
    let cpu = cpu.until_now()?.as_secs_f64();
    Ok(Seen { storm, cpu, reads: log_reads(server.address)? - before })
}

/// What the gateway says it has read from the log for those who were behind.
fn log_reads(address: SocketAddr) -> Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: loadtest\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    ensure!(
        text.starts_with("HTTP/1.1 200"),
        "the gateway has no /metrics: {}",
        text.lines().next().unwrap_or_default()
    );
    let line = text.lines().find_map(|line| line.strip_prefix("anabranch_replay_reads_total "));
    line.map_or(Ok(0), |count| count.trim().parse().context("a count of reads"))
}
