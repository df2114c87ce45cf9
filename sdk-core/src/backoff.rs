//! When to come back after a failure, and the random numbers for it.

/// The first retry comes within so many milliseconds.
pub const BASE_MS: u64 = 500;
/// No retry waits longer, unless the gateway says so.
pub const CAP_MS: u64 = 30_000;
/// No retry comes sooner: a gateway that closes at once must not be hammered.
pub const FLOOR_MS: u64 = 50;
/// Only a connection that has lived so long makes the next failure count as the first.
pub const HEALTHY_MS: u64 = 60_000;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). For jitter only.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The seed comes from the body; clients of one program need different ones, or they come back together.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number from 0 to `most`, both included. The bias of the remainder is far below what jitter needs.
    pub fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        if most == u64::MAX { z } else { z % (most + 1) }
    }
}

/// Full jitter (Brooker, "Exponential backoff and jitter", 2015): any time from now up to a ceiling that doubles.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    /// The gateway's slot for this client: not before this moment (monotonic).
    slot: u64,
}

impl Backoff {
    /// Attempts since the last healthy connection.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts an attempt that is being made.
    pub fn attempted(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// The connection was good for long enough: start from the base again.
    pub fn healthy(&mut self) {
        self.failures = 0;
    }

    /// The gateway said when to come back. Up to a fifth is added, so that clients with equal advice spread.
    pub fn advise(&mut self, now: u64, after_ms: u64, random: &mut Random) {
        // Bodies tell the time in whole milliseconds, rounded down: without the one more, a client that was told at the
        // end of a millisecond would be back at the beginning of its slot's, almost one too early.
        let slot = now.saturating_add(after_ms).saturating_add(1 + random.up_to(after_ms / 5));
        self.slot = self.slot.max(slot);
    }

    /// When to try again. The gateway's advice, if it lies ahead, wins over our own guess.
    pub fn next(&self, now: u64, random: &mut Random) -> u64 {
        if self.slot > now {
            self.slot
        } else {
            now.saturating_add(delay(self.failures.saturating_sub(1), random))
        }
    }

    /// The moment asked for, or the slot if that is later: nothing may come back before its slot.
    pub fn not_before(&self, at: u64) -> u64 {
        self.slot.max(at)
    }
}

/// How long to wait after so many failures before this one.
pub fn delay(failures_before: u32, random: &mut Random) -> u64 {
    let ceiling = (BASE_MS << failures_before.min(16)).min(CAP_MS);
    FLOOR_MS + random.up_to(ceiling - FLOOR_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_lie_below_a_ceiling_that_doubles_up_to_the_cap() {
        let mut random = Random::new(7);
        for failures in 0..12 {
            let ceiling = (BASE_MS << failures).min(CAP_MS);
            let longest = (0..2_000).map(|_| delay(failures, &mut random)).max().unwrap_or(0);
            assert!(longest <= ceiling, "{longest} is over {ceiling}");
            assert!(longest > ceiling * 9 / 10, "no jitter up to the ceiling: {longest} of {ceiling}");
        }
    }

    #[test]
    fn the_slot_is_never_undercut() {
        let mut random = Random::new(7);
        let mut backoff = Backoff::default();
        backoff.advise(1_000, 10_000, &mut random);
        assert!(backoff.next(1_000, &mut random) > 11_000);
        assert!(backoff.not_before(1_300) > 11_000);
        assert!(backoff.next(1_000, &mut random) <= 13_001, "at most a fifth is added");
    }

    #[test]
    fn a_clock_that_rounds_down_does_not_undercut_a_slot() {
        let mut random = Random::new(7);
        for told_at_us in [1_000_000_u64, 1_000_001, 1_000_999] {
            let mut backoff = Backoff::default();
            // Too short for jitter to hide it.
            backoff.advise(told_at_us / 1_000, 4, &mut random);
            let back_at_us = backoff.next(told_at_us / 1_000, &mut random) * 1_000;
            assert!(back_at_us >= told_at_us + 4_000, "told at {told_at_us} µs, back at {back_at_us} µs");
        }
    }
}
