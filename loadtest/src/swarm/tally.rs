//! What was received.

use crate::latency::Latencies;

/// Counts of one phase. Slow readers count apart.
#[derive(Debug, Default)]
pub struct Tally {
    /// Of those that read at once.
    pub deliveries: u64,
    /// Reads of sockets: deliveries that came in one say how well the server coalesces.
    pub reads: u64,
    /// Of those that were told to read slowly.
    pub slow: u64,
    /// Numbers that were left out, and numbers that came again, or late.
    pub lost: u64,
    pub doubled: u64,
    /// Gaps that the server told of.
    pub gaps: u64,
    /// Publishes that were confirmed.
    pub published: u64,
    pub latencies: Latencies,
    /// Of how many deliveries the time of one is taken.
    pub every: u32,
    pub countdown: u32,
}

impl Tally {
    pub fn new(every: u32) -> Tally {
        Tally { every: every.max(1), countdown: 1, ..Tally::default() }
    }

    /// Whether the time of this delivery is to be taken.
    #[inline]
    pub fn samples(&mut self) -> bool {
        if self.countdown > 1 {
            self.countdown -= 1;
            return false;
        }
        self.countdown = self.every;
        self.every > 0
    }
}
