//! Whether the connection is alive.
//!
//! The gateway pings; the client only counts how long it has heard nothing. Browsers throttle timers and stop them in
//! background tabs, so nothing here depends on a timer that fires in time: a late one makes a probe, not a verdict.

use crate::Now;

/// How long an answer to a probe may take, in milliseconds.
pub const PROBE_MS: u64 = 2_000;
/// A timer that fires this much too late means that the process was frozen, in milliseconds.
const FROZEN_MS: u64 = 5_000;
/// The wall clock ran ahead of the monotonic one by this much: the machine slept, in milliseconds.
const SLEPT_MS: u64 = 5_000;

/// What is known about one connection.
#[derive(Clone, Debug)]
pub struct Liveness {
    heard: u64,
    allowance: u64,
    probe: Option<u64>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Alive,
    /// Send a probe: silence may be our own sleep.
    Probe,
    /// Replace the connection.
    Dead,
}

impl Liveness {
    /// A connection that was just heard of. `allowance_ms` is the gateway's ping interval and its grace.
    pub fn new(now: u64, allowance_ms: u64) -> Liveness {
        Liveness { heard: now, allowance: allowance_ms.max(1_000), probe: None }
    }

    /// Any frame arrived. What the kernel had buffered before a sleep also arrives, so it only extends a probe.
    pub fn heard(&mut self, now: u64) {
        self.heard = now;
        if let Some(until) = &mut self.probe {
            *until = now.saturating_add(PROBE_MS);
        }
    }

    /// A `mark` arrived: the answer to a probe.
    pub fn answered(&mut self) {
        self.probe = None;
    }

    /// A probe is to be sent, unless one is under way.
    pub fn probe(&mut self, now: u64) -> bool {
        let fresh = self.probe.is_none();
        if fresh {
            self.probe = Some(now.saturating_add(PROBE_MS));
        }
        fresh
    }

    /// When to look again.
    pub fn deadline(&self) -> u64 {
        self.probe.unwrap_or_else(|| self.heard.saturating_add(self.allowance))
    }

    /// Looks at the clock.
    pub fn check(&self, now: u64) -> Verdict {
        let deadline = self.deadline();
        if now < deadline {
            Verdict::Alive
        } else if self.probe.is_none() && now - deadline > FROZEN_MS {
            Verdict::Probe
        } else {
            Verdict::Dead
        }
    }
}

/// Notices sleep: the monotonic clock stands still in it on most systems, the wall clock does not.
#[derive(Clone, Debug, Default)]
pub struct SleepWatch {
    last: Option<Now>,
}

impl SleepWatch {
    /// Takes the time of an input; says whether the machine slept since the one before.
    /// A wall clock that is set back or forward only costs a probe.
    pub fn observe(&mut self, now: Now) -> bool {
        let Some(last) = self.last.replace(now) else { return false };
        let wall = now.wall.saturating_sub(last.wall);
        let mono = now.mono.saturating_sub(last.mono);
        wall.saturating_sub(mono) > SLEPT_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_dead_at_the_deadline_but_probed_after_a_freeze() {
        let live = Liveness::new(0, 20_000);
        assert_eq!(live.check(19_999), Verdict::Alive);
        assert_eq!(live.check(20_000), Verdict::Dead);
        assert_eq!(live.check(26_000), Verdict::Probe);
    }

    #[test]
    fn a_probe_is_answered_by_a_mark_and_only_extended_by_what_was_buffered() {
        let mut live = Liveness::new(0, 20_000);
        assert!(live.probe(1_000));
        assert!(!live.probe(1_500), "one probe at a time");
        live.heard(2_000);
        assert_eq!(live.deadline(), 4_000);
        assert_eq!(live.check(4_000), Verdict::Dead);
        live.answered();
        assert_eq!(live.check(4_000), Verdict::Alive);
    }

    #[test]
    fn sleep_shows_as_a_wall_clock_that_ran_ahead() {
        let mut watch = SleepWatch::default();
        assert!(!watch.observe(Now { mono: 0, wall: 1_000_000 }));
        assert!(!watch.observe(Now { mono: 60_000, wall: 1_060_000 }), "time passed on both");
        assert!(watch.observe(Now { mono: 60_100, wall: 1_660_100 }), "ten minutes are missing");
        assert!(!watch.observe(Now { mono: 60_200, wall: 1_000_000 }), "set back");
    }
}
