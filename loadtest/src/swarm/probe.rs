//! One client beside the others, which asks every now and then whether the server still listens: how long reads, pings and
//! other topics wait while thousands of sockets are written to.

use super::{Plan, Swarm};
use crate::latency::Latencies;
use crate::wire::frame;
use anyhow::Result;
use std::time::{Duration, Instant};

/// How often it asks.
const STEP: Duration = Duration::from_millis(5);

/// The client that asks.
pub struct Prober {
    connection: usize,
    asked: Instant,
    /// How many answers have been seen, and whether one is awaited.
    answers: u64,
    waits: bool,
    times: Latencies,
}

impl Swarm {
    /// Opens the connection that asks. It must speak the gateway's protocol.
    pub fn open_prober(&mut self, plan: &Plan) -> Result<()> {
        let connection = self.connections.len();
        self.open(std::slice::from_ref(plan), 1, |_| {})?;
        self.prober = Some(Prober {
            connection,
            asked: Instant::now(),
            answers: 0,
            waits: false,
            times: Latencies::default(),
        });
        Ok(())
    }

    /// Asks if it is time to, and takes the time of an answer. Returns when it is to be called again, at the latest.
    pub(super) fn probe(&mut self) -> Result<Duration> {
        let Some(prober) = &mut self.prober else { return Ok(Duration::MAX) };
        let connection = &mut self.connections[prober.connection];
        let past = prober.asked.elapsed();
        if prober.waits && connection.marks > prober.answers {
            prober.times.add(past.as_micros() as u64);
            prober.waits = false;
        }
        if !prober.waits && past >= STEP {
            prober.answers = connection.marks;
            (prober.waits, prober.asked) = (true, Instant::now());
            frame::masked(&mut connection.outbox, 1, br#"{"type":"probe"}"#);
            connection.flush()?;
        }
        Ok(if prober.waits { Duration::MAX } else { STEP.saturating_sub(prober.asked.elapsed()) })
    }

    /// The times of all answers since this was asked last.
    pub(super) fn take_probes(&mut self) -> Latencies {
        self.prober.as_mut().map(|prober| std::mem::take(&mut prober.times)).unwrap_or_default()
    }
}
