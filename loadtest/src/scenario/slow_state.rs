//! State topics and a few events for 200 clients, of which twenty read at 16 kbit/s for a while: what the others notice, what it
//! costs the gateway, and whether every client ends on the exact final state, with each event or a gap in its place.

use crate::contestant::{Contestant, Programs};
use crate::cpu;
use crate::latency::Latencies;
use crate::report::{Figure, Report};
use crate::watch::{Faults, Kind, Rates, STATE, Watch};
use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;

/// 16 kbit/s.
const SLOW_BYTES: u32 = 2_000;
/// Of how many clients one is slow.
const SLOW_OF: u32 = 10;
/// How long the slow may take when they hurry.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory for each slow client.
const MEMORY: u64 = 64 * 1024;
/// More messages than the window of known ones, the log and the ring hold: they are full before anything is measured.
const FULL: u32 = 300_000;
const WARM_UP: Duration = Duration::from_secs(20);
/// What the gateway remembers: less than what is published in the throttled phase, so that gaps come about.
const SHORT: [&str; 2] = ["log=memory:?records=60000", "limits.ring=8MiB"];

#[derive(clap::Args)]
pub struct Args {
    /// Connections in all
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(20..=19_000))]
    subscribers: u32,

    /// State topics
    #[arg(long, default_value_t = 300)]
    topics: u32,

    /// Updates of them a second
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,

    /// Events a second: more than a slow client can take
    #[arg(long, default_value_t = 10.0)]
    events: f64,

    /// Bytes of each payload, about
    #[arg(long, default_value_t = 100)]
    payload: usize,

    /// How long the slow are slow, in seconds. Half as long all are fast, before and after
    #[arg(long, default_value_t = 60)]
    seconds: u32,

    /// A further setting of the gateway, KEY=VALUE; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

pub async fn run(args: Args, program: PathBuf) -> Result<Report> {
    super::raise_file_limit(args.subscribers.into())?;
    let mut settings: Vec<String> = SHORT.map(str::to_owned).into();
    settings.push(format!("topics.state={STATE}"));
    settings.extend(args.settings.iter().cloned());
    let programs = Programs { gateway: program, uws: None, settings };
    let server = Contestant::Gateway.start(&programs, args.subscribers as usize + 1).await?;
    let bar = ProgressBar::new(3);
    bar.set_style(ProgressStyle::with_template("{bar:20} {pos}/{len} phases  {msg}")?);
    let mut watch = Watch::start(&server, args.topics, args.payload)?;
    watch.fill()?;
    bar.set_message("the gateway's own memory fills");
    // One that reads nothing, and then all that the log still has: that fills what is kept of pages, too.
    let idle = watch.open(Kind::Slow)?;
    watch.throttle(idle, Some(0))?;
    let much = f64::from(FULL) / WARM_UP.as_secs_f64();
    watch.run(Rates { state: much, events: 0.0 }, |_, past| Ok(past < WARM_UP))?;
    watch.throttle(idle, None)?;
    watch.quiesce()?;
    ensure!(watch.settle(PATIENCE)? == 0, "the reader that fills the memory does not come to the end");
    watch.watchers.clear();
    let is_slow = |number: u32| number.is_multiple_of(SLOW_OF);
    for number in 0..args.subscribers {
        watch.open(if is_slow(number) { Kind::Slow } else { Kind::Fast })?;
    }
    let slow: Vec<usize> = (0..args.subscribers).filter(|&n| is_slow(n)).map(|n| n as usize).collect();
    let rates = Rates { state: args.rate, events: args.events };
    let mut rows = Vec::new();
    let mut p99 = Vec::new();
    let (mut grown, mut short) = (0, 0);
    let half = Duration::from_secs(u64::from(args.seconds).div_ceil(2));
    for (throttled, time) in [(false, half), (true, Duration::from_secs(args.seconds.into())), (false, half)]
    {
        bar.set_message(if throttled { "some are slow" } else { "all are fast" });
        let before = cpu::resident_bytes(server.pid())?;
        for &number in &slow {
            watch.throttle(number, throttled.then_some(SLOW_BYTES))?;
        }
        watch.watchers.iter_mut().for_each(|watcher| watcher.latencies = Latencies::default());
        let used = cpu::of(server.pid())?;
        let ran = watch.run(rates, |_, past| Ok(past < time))?;
        let used = used.until_now()?;
        let memory = cpu::resident_bytes(server.pid())?;
        let mut all = Latencies::default();
        for watcher in &mut watch.watchers {
            all.append(&mut watcher.latencies);
        }
        let count = all.count() as u64;
        let [p50, p99_here, p999, max] = all.percentiles([50_000, 99_000, 99_900, 100_000]);
        p99.push(p99_here);
        if throttled {
            grown = memory.saturating_sub(before) / slow.len() as u64;
        }
        bar.set_message("the slow ones hurry");
        for &number in &slow {
            watch.throttle(number, None)?;
        }
        watch.quiesce()?;
        short += watch.settle(PATIENCE)?;
        let of_slow = |count: &dyn Fn(&crate::watch::Watcher) -> u64| {
            slow.iter().map(|&number| count(&watch.watchers[number])).sum::<u64>() / slow.len() as u64
        };
        rows.push(vec![
            if throttled { slow.len() as u64 } else { 0 },
            count,
            p50,
            p99_here,
            p999,
            max,
            (used.as_secs_f64() * 100.0 / ran.as_secs_f64()) as u64,
            memory,
            of_slow(&|watcher| watcher.counts.values),
            of_slow(&|watcher| watcher.counts.others),
            of_slow(&|watcher| watcher.events.len() as u64),
            of_slow(&|watcher| watcher.gaps.len() as u64),
        ]);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut faults = Faults::default();
    for watcher in &watch.watchers {
        faults.add(Faults::at_the_end(watcher, watch.model()));
    }
    ensure!(p99.len() == 3, "three phases");
    let calm = u64::midpoint(p99[0], p99[2]).max(1);
    let zero = |name, value| Figure { name, value, unit: "", budget: Some(0) };
    Ok(Report {
        scenario: "slow-state",
        figures: vec![
            Figure {
                name: "the others' p99 with slow clients, of that without",
                value: p99[1] * 100 / calm,
                unit: "%",
                budget: Some(110),
            },
            Figure { name: "memory for each slow client", value: grown, unit: "bytes", budget: Some(MEMORY) },
            zero("clients that did not come to the end", short as u64),
            zero("topics of a client that are not at their final value", faults.old),
            zero("events that neither came nor lie in a gap", faults.lost),
            zero("deliveries doubled or out of order", faults.doubled),
            zero("deliveries that were never published", faults.invented),
        ],
        columns: vec![
            "slow clients",
            "deliveries",
            "p50 µs",
            "p99 µs",
            "p99.9 µs",
            "max µs",
            "CPU %",
            "RSS",
            "values, a slow one",
            "others",
            "events",
            "gaps",
        ],
        rows,
    })
}
