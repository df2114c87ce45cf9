//! One contestant, once.

use crate::contestant::{Contestant, Programs};
use crate::cpu;
use crate::scenario::fan_out::{Scenario, Shape};
use crate::swarm::{Load, Measured, Pace, Probed, Swarm};
use anyhow::Result;
use indicatif::ProgressBar;
use serde::Serialize;
use std::time::Duration;

/// How long a phase warms up.
const WARM_UP: Duration = Duration::from_millis(500);
/// Handshakes under way at once.
const AT_ONCE: usize = 64;

/// What one contestant has shown in one round.
#[derive(Serialize)]
pub struct Run {
    pub contestant: &'static str,
    pub round: u32,
    /// RSS before the first connection and with all of them, divided by their number.
    pub bytes_per_connection: u64,
    /// In a closed loop.
    pub saturated: Measured,
    /// At the scenario's quiet rate, and at half of saturation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Measured>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half: Option<Measured>,
    /// How long others wait meanwhile, saturated and at the quiet rate: measured apart, because asking costs CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<[Probed; 2]>,
}

/// Starts a contestant, connects everyone, and measures: saturated, and with a `half_rate` the two other phases.
pub async fn one(
    contestant: Contestant,
    programs: &Programs,
    scenario: &Scenario,
    seconds: f64,
    half_rate: Option<f64>,
    round: u32,
    bar: &ProgressBar,
) -> Result<Run> {
    let name = contestant.name();
    bar.set_message(format!("{name}: starting"));
    let server = contestant.start(programs, scenario.connections() + scenario.publishers()).await?;
    let before = cpu::resident_bytes(server.pid())?;
    let mut swarm = Swarm::new(server.address, server.dialect, scenario.payload)?;
    swarm.open(&scenario.plans(&server), AT_ONCE, |count| {
        if count % 100 == 0 {
            bar.set_message(format!("{name}: {count} connections"));
        }
    })?;
    let after = cpu::resident_bytes(server.pid())?;
    let mut phase = |what: &str, pace, deliveries_per_second: f64| {
        let load = Load {
            pace,
            topics: &scenario.topics,
            fan: scenario.fan,
            warm_up: if matches!(pace, Pace::Window(_)) { scenario.warm_up } else { WARM_UP },
            time: Duration::from_secs_f64(seconds),
            // About 10,000 a second are enough for a p99.9.
            sample: (deliveries_per_second / 10_000.0) as u32 | 1,
            server: server.pid(),
        };
        let mut shown = 0.0;
        swarm.load(&load, |past| {
            if past - shown > 0.2 {
                shown = past;
                bar.set_message(format!("{name}: {what}, {past:.1} s"));
            }
        })
    };
    let saturated = phase("saturated", Pace::Window(scenario.window), 1e6)?;
    let fan = scenario.fan as f64;
    let (mut quiet, mut half) = (None, None);
    if let Some(rate) = half_rate {
        quiet = Some(phase("quiet", Pace::Rate(scenario.rate), scenario.rate * fan)?);
        // Half of what the others can do may be more than this one can do at all.
        if saturated.deliveries_per_second > rate * fan * 1.1 {
            half = Some(phase("half of saturation", Pace::Rate(rate), rate * fan)?);
        }
    }
    let mut others = None;
    if half_rate.is_some() && scenario.shape == Shape::Wide {
        let paces = [Pace::Window(scenario.window), Pace::Rate(scenario.rate)];
        let mut probed = Vec::new();
        for pace in paces {
            let Some(probers) = server.probers() else { break };
            let probers = probers?;
            phase("the others, meanwhile", pace, 1e6)?;
            probed.push(probers.finish()?);
        }
        others = probed.try_into().ok();
    }
    let bytes_per_connection = after.saturating_sub(before) / swarm.len().max(1) as u64;
    Ok(Run { contestant: name, round, bytes_per_connection, saturated, quiet, half, others })
}
