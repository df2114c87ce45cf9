//! One wildcard, 100,000 state topics, and updates that go on meanwhile: is the snapshot whole and as of one offset, is there a
//! hole or a double where it joins what follows, does it survive being cut, and what does it cost.
//!
//! What is right is known: the generator writes down where the log has put each of its messages, and compares.

use crate::contestant::{Contestant, Programs, Running};
use crate::cpu;
use crate::report::{Figure, Report};
use crate::watch::{Faults, Kind, Rates, STATE, Watch};
use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;

/// How long updates go on behind `caught_up`, and without anybody watching, to know what they cost by themselves.
const AFTER: Duration = Duration::from_secs(1);
const ALONE: Duration = Duration::from_secs(2);
/// How long one snapshot may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub struct Args {
    /// State topics
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    topics: u32,

    /// Updates a second meanwhile
    #[arg(long, default_value_t = 5_000.0)]
    rate: f64,

    /// How many times a snapshot is cut, of those that are
    #[arg(long, default_value_t = 10)]
    cuts: u32,

    /// Bytes a second that a slow reader takes
    #[arg(long, default_value_t = 4_000_000)]
    slow: u32,

    /// Bytes of each payload, about
    #[arg(long, default_value_t = 200)]
    payload: usize,

    /// How many times all of that is run
    #[arg(long, default_value_t = 2)]
    rounds: u32,

    /// A further setting of the gateway, KEY=VALUE; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// How one snapshot is read.
#[derive(Clone, Copy)]
struct Reader {
    cuts: u32,
    bytes_per_second: Option<u32>,
}

pub async fn run(args: Args, program: PathBuf) -> Result<Report> {
    let mut settings = vec![format!("topics.state={STATE}")];
    settings.extend(args.settings.iter().cloned());
    let server = Contestant::Gateway.start(&Programs { gateway: program, uws: None, settings }, 10).await?;
    let readers = [(0, None), (args.cuts, None), (0, Some(args.slow)), (args.cuts, Some(args.slow))]
        .map(|(cuts, bytes_per_second)| Reader { cuts, bytes_per_second });
    let bar = ProgressBar::new(u64::from(args.rounds) * readers.len() as u64);
    bar.set_style(ProgressStyle::with_template("{bar:20} {pos}/{len} snapshots  {msg}")?);
    let mut watch = Watch::start(&server, args.topics, args.payload)?;
    bar.set_message("first values");
    watch.fill()?;
    let rates = Rates { state: args.rate, events: 0.0 };
    bar.set_message("updates alone");
    let before = cpu::of(server.pid())?;
    let alone = watch.run(rates, |_, past| Ok(past < ALONE))?;
    let updates_cost = before.until_now()?.as_secs_f64() / alone.as_secs_f64();

    let mut rows = Vec::new();
    let mut faults = Faults::default();
    let (mut longest, mut nanos) = (Duration::ZERO, Vec::new());
    for _ in 0..args.rounds {
        for reader in readers {
            bar.set_message(format!("cut {} times", reader.cuts));
            let seen = snapshot(&mut watch, &server, rates, reader)?;
            faults.add(seen.faults);
            if reader.bytes_per_second.is_none() {
                longest = longest.max(seen.took);
            }
            let alone = updates_cost * seen.took.as_secs_f64();
            if reader.bytes_per_second.is_none() {
                let own = (seen.cpu.as_secs_f64() - alone).max(0.0);
                nanos.push((own * 1e9 / seen.values.max(1) as f64) as u64);
            }
            rows.push(vec![
                u64::from(seen.cuts),
                u64::from(reader.bytes_per_second.unwrap_or(0)) / 1000,
                seen.took.as_millis() as u64,
                seen.values,
                seen.others,
                seen.updates,
                (seen.updates as f64 / seen.took.as_secs_f64()) as u64,
                seen.cpu.as_millis() as u64,
                (alone * 1000.0) as u64,
                seen.live,
                seen.faults.sum(),
            ]);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    nanos.sort_unstable();
    let each = nanos.get(nanos.len() / 2).copied().unwrap_or(0);
    let zero = |name, value| Figure { name, value, unit: "", budget: Some(0) };
    Ok(Report {
        scenario: "snapshot",
        figures: vec![
            Figure {
                name: "longest, of those read at once",
                value: longest.as_millis() as u64,
                unit: "ms",
                budget: None,
            },
            Figure {
                name: "CPU for each value, of those read at once",
                value: each,
                unit: "ns",
                budget: None,
            },
            zero("topics not at their newest value as of the told offset", faults.old),
            zero("messages lost behind it", faults.lost),
            zero("deliveries doubled or out of order", faults.doubled),
            zero("deliveries that were never published", faults.invented),
        ],
        columns: vec![
            "cuts",
            "reads kB/s",
            "ms",
            "values",
            "others",
            "updates",
            "updates/s",
            "CPU ms",
            "updates alone",
            "live after",
            "faults",
        ],
        rows,
    })
}

struct Seen {
    /// How many times it was cut, of those that were asked for.
    cuts: u32,
    took: Duration,
    values: u64,
    /// Messages as they were published, before `caught_up`.
    others: u64,
    /// Updates while it was under way.
    updates: u64,
    cpu: Duration,
    /// Messages behind `caught_up` that were compared.
    live: u64,
    faults: Faults,
}

/// A new watcher takes a snapshot, and what follows it for a while.
fn snapshot(watch: &mut Watch, server: &Running, rates: Rates, reader: Reader) -> Result<Seen> {
    watch.watchers.clear();
    let cpu = cpu::of(server.pid())?;
    let before = watch.model().len() as u64;
    let topics = u64::from(watch.model().topics());
    let number = watch.open(Kind::Witness)?;
    watch.throttle(number, reader.bytes_per_second)?;
    let mut cut = 0;
    let took = watch.run(rates, |watch, past| {
        ensure!(past < PATIENCE, "a snapshot is not complete after {PATIENCE:?}");
        let counts = watch.watchers[number].counts;
        let share = topics * u64::from(cut + 1) / u64::from(reader.cuts + 1);
        if cut < reader.cuts && counts.values >= share {
            cut += 1;
            watch.cut(number)?;
            watch.throttle(number, reader.bytes_per_second)?;
        }
        Ok(watch.watchers[number].caught_up.is_none())
    })?;
    let cpu = cpu.until_now()?;
    let counts = watch.watchers[number].counts;
    let updates = watch.model().len() as u64 - before;
    let caught_up = watch.watchers[number].caught_up;
    watch.throttle(number, None)?;
    watch.run(rates, |_, past| Ok(past < AFTER))?;
    watch.quiesce()?;
    let short = watch.settle(PATIENCE)?;
    ensure!(short == 0, "the watcher does not come to the last record");
    let watcher = &watch.watchers[number];
    ensure!(watcher.caught_up == caught_up, "it fell behind at once: nothing can be said of the seam");
    let as_of = caught_up.unwrap_or_default();
    Ok(Seen {
        cuts: cut,
        took,
        values: counts.values,
        others: counts.others,
        updates,
        cpu,
        live: watcher.taken.iter().filter(|(at, _)| *at > as_of).count() as u64,
        faults: Faults::of_snapshot(watcher, watch.model()),
    })
}
