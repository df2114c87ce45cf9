//! The same scenario on several servers, in turns, so that what the machine does otherwise meets them all alike.
//!
//! Each round starts every contestant once, one after the other, in an order that turns from round to round. Ratios are
//! taken inside each round; what is reported is their median. Absolute figures belong to the machine and the hour.

mod run;
mod table;

use crate::contestant::{Contestant, Programs};
use crate::report;
use crate::scenario::fan_out::{self, Shape};
use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use run::{Run, one};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Which scenario
    #[arg(value_enum)]
    shape: Shape,

    /// Who takes part [default: everyone who is installed, without gateway-2 and gateway-tls]
    #[arg(long, value_enum, value_delimiter = ',')]
    with: Vec<Contestant>,

    /// How many rounds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,

    /// A folder in whose node_modules uWebSockets.js is
    #[arg(long, value_name = "FOLDER")]
    uws: Option<PathBuf>,

    #[command(flatten)]
    scenario: fan_out::Args,
}

/// All that was found.
#[derive(Serialize)]
pub struct Comparison {
    pub scenario: &'static str,
    pub machine: Machine,
    /// Messages a second in the phase at half of what the slower of gateway and floor can do.
    pub half_rate: f64,
    pub runs: Vec<Run>,
    pub left_out: Vec<String>,
}

/// Where it was found.
#[derive(Serialize)]
pub struct Machine {
    pub processor: String,
    pub kernel: String,
    /// What else ran, by the load of the last minute before and after; the comparison itself makes up to 2 of it.
    pub load_before: f64,
    pub load_after: f64,
}

/// A scenario on our gateway alone.
pub async fn alone(shape: Shape, args: fan_out::Args, program: PathBuf, json: Option<&Path>) -> Result<()> {
    let with = vec![Contestant::Gateway];
    run(Args { shape, with, rounds: 1, uws: None, scenario: args }, program, json).await
}

pub async fn run(args: Args, program: PathBuf, json: Option<&Path>) -> Result<()> {
    let programs = Programs { gateway: program, uws: args.uws, settings: args.scenario.settings.clone() };
    let asked = if args.with.is_empty() { Contestant::ALL.to_vec() } else { args.with };
    let (mut contestants, mut left_out) = (Vec::new(), Vec::new());
    for contestant in asked {
        match contestant.missing(&programs) {
            None => contestants.push(contestant),
            Some(why) => left_out.push(format!("{}: {why}", contestant.name())),
        }
    }
    ensure!(!contestants.is_empty(), "nobody takes part: {}", left_out.join("; "));
    let scenario = args.shape.scenario(&args.scenario);
    crate::scenario::raise_file_limit(scenario.connections() as u64 + scenario.publishers() as u64)?;
    let load_before = load();
    let bar = ProgressBar::new(u64::from(args.rounds) * contestants.len() as u64 + 1);
    bar.set_style(ProgressStyle::with_template("{bar:20} {pos}/{len}  {msg}")?);
    let seconds = f64::from(args.scenario.seconds.max(1));

    // What half of saturation is, the same for all.
    let mut slowest = f64::MAX;
    for contestant in [Contestant::Floor, Contestant::Gateway] {
        if contestants.contains(&contestant) {
            let run = one(contestant, &programs, &scenario, seconds.min(1.5), None, 0, &bar).await?;
            slowest = slowest.min(run.saturated.deliveries_per_second / scenario.fan as f64);
        }
    }
    let half_rate = if slowest == f64::MAX { scenario.rate } else { slowest / 2.0 };
    bar.inc(1);
    let mut runs = Vec::new();
    for round in 0..args.rounds {
        for at in 0..contestants.len() {
            let contestant = contestants[(at + round as usize) % contestants.len()];
            match one(contestant, &programs, &scenario, seconds, Some(half_rate), round, &bar).await {
                Ok(run) => runs.push(run),
                Err(error) if contestant == Contestant::Gateway => return Err(error),
                Err(error) => {
                    bar.suspend(|| eprintln!("{} failed: {error:#}", contestant.name()));
                    left_out.push(format!("{}, round {round}: {error:#}", contestant.name()));
                }
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let comparison = Comparison {
        scenario: args.shape.name(),
        machine: Machine { processor: processor(), kernel: kernel(), load_before, load_after: load() },
        half_rate,
        runs,
        left_out,
    };
    let text = table::table(&comparison, &contestants, scenario.rate);
    report::print(&comparison, &text, json)
}

fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0.0)
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or_else(String::new, |line| line.trim_start_matches([' ', '\t', ':']).to_owned())
}
