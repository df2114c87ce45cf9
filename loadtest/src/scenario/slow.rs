//! Some read slowly, a few stop reading: what the others notice, what it costs the gateway, and whether every one of the
//! slow ends with everything once it reads again.

use crate::contestant::{Contestant, Programs};
use crate::cpu;
use crate::report::{Figure, Report};
use crate::swarm::{Load, Pace, Swarm};
use crate::wire::Template;
use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;

/// 16 kbit/s.
const SLOW_BYTES: u32 = 2_000;
/// Of how many clients one is slow, and of how many one stops.
const SLOW_OF: usize = 10;
const STOPPED_OF: usize = 200;
/// How long the slow may take when they hurry.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory for each slow client (issue: the server's memory moves by less).
const MEMORY: u64 = 64 * 1024;

#[derive(clap::Args)]
pub struct Args {
    /// Connections in all
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(200..=19_000))]
    subscribers: u32,

    /// Messages a second
    #[arg(long, default_value_t = 100.0)]
    rate: f64,

    /// Bytes of each payload, about
    #[arg(long, default_value_t = 1_000)]
    payload: usize,

    /// How long each phase takes, in seconds
    #[arg(long, default_value_t = 8)]
    seconds: u32,

    /// How many times both phases are run
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// A further setting of the gateway, KEY=VALUE; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

pub async fn run(args: Args, program: PathBuf) -> Result<Report> {
    let programs = Programs { gateway: program, uws: None, settings: args.settings.clone() };
    let count = args.subscribers as usize;
    super::raise_file_limit(u64::from(args.subscribers))?;
    let bar = ProgressBar::new(u64::from(args.rounds) * 2);
    bar.set_style(ProgressStyle::with_template("{bar:20} {pos}/{len} phases  {msg}")?);
    let server = Contestant::Gateway.start(&programs, count + 1).await?;
    let mut swarm = Swarm::new(server.address, server.dialect, args.payload)?;
    let topics = ["load/one/topic".to_owned()];
    let template = Template::new(args.payload);
    let slow = |number: usize| number.is_multiple_of(SLOW_OF) || number % STOPPED_OF == 1;
    let mut plans = vec![server.publisher(0)];
    for number in 0..count {
        let plan = server.subscriber(number, &topics[0], &topics[0], &template);
        plans.push(if slow(number) { plan.slow() } else { plan });
    }
    swarm.open(&plans, 64, |_| {})?;
    let fast = (0..count).filter(|&number| !slow(number)).count() as u64;
    let slow_ones = count as u64 - fast;

    let mut rows = Vec::new();
    let (mut p99, mut grown) = ([Vec::new(), Vec::new()], Vec::new());
    let (mut lost, mut doubled, mut lacking) = (0, 0, 0);
    for _ in 0..args.rounds {
        let mut before = 0;
        for throttled in [false, true] {
            bar.set_message(if throttled { "some are slow" } else { "all are fast" });
            if throttled {
                before = cpu::resident_bytes(server.pid())?;
                swarm.throttle((0..count).filter(|n| n.is_multiple_of(SLOW_OF)).map(|n| n + 1), SLOW_BYTES);
                let stopped = (0..count).filter(|n| n % STOPPED_OF == 1).map(|n| n + 1);
                swarm.throttle(stopped, 0);
            }
            let load = Load {
                pace: Pace::Rate(args.rate),
                topics: &topics,
                fan: fast,
                warm_up: Duration::from_millis(500),
                time: Duration::from_secs(args.seconds.into()),
                sample: 1,
                server: server.pid(),
            };
            let measured = swarm.load(&load, |_| {})?;
            let memory = cpu::resident_bytes(server.pid())?;
            if throttled {
                grown.push(memory.saturating_sub(before) / slow_ones);
            }
            bar.set_message("the slow ones hurry");
            lacking += swarm.hurry(PATIENCE)?;
            let (more_lost, more_doubled) = swarm.mistakes();
            (lost, doubled) = (lost + more_lost, doubled + more_doubled);
            p99[usize::from(throttled)].push(measured.p99);
            rows.push(vec![
                u64::from(throttled) * slow_ones,
                measured.deliveries,
                measured.p50,
                measured.p99,
                measured.p999,
                measured.max,
                (measured.server_us_per_delivery * 1000.0) as u64,
                memory,
                lacking as u64,
            ]);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    ensure!(!rows.is_empty(), "no round was run");
    let median = |values: &mut Vec<u64>| {
        values.sort_unstable();
        values[values.len() / 2]
    };
    let [calm, with_slow] = p99.each_mut().map(median);
    Ok(Report {
        scenario: "slow",
        figures: vec![
            Figure {
                name: "the others' p99 with slow clients, of that without",
                value: with_slow * 100 / calm.max(1),
                unit: "%",
                budget: Some(110),
            },
            Figure {
                name: "memory for each slow client",
                value: median(&mut grown),
                unit: "bytes",
                budget: Some(MEMORY),
            },
            Figure {
                name: "clients that did not end with everything",
                value: lacking as u64,
                unit: "",
                budget: Some(0),
            },
            Figure { name: "deliveries lost", value: lost, unit: "", budget: Some(0) },
            Figure { name: "deliveries doubled", value: doubled, unit: "", budget: Some(0) },
        ],
        columns: vec![
            "slow clients",
            "deliveries",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "max µs",
            "CPU ns each",
            "RSS",
            "lacking",
        ],
        rows,
    })
}
