//! Clients that ask to be conflated: newest values at most every so often, although their sockets would take more.
//!
//! ```text
//!   resting at the head ──something comes──▶ held: behind on purpose ──time, or something urgent──▶ catches up ──▶ resting
//! ```
//!
//! Whoever is held reads later, from where it stood, as all do that are behind: events as they were, of state the newest values. So
//! nothing is lost, nothing comes out of order, and there is nothing to remember but a place and a time. Everything that is held
//! leaves with the first message that may not wait: there is one order of messages on a connection, and no second one for
//! state.

use super::session::Millis;
use super::subscriptions::Subscriptions;
use anabranch_protocol::limits;

/// How long one that is hidden waits. Short in tests.
const HIDDEN: Millis = if cfg!(test) { 300 } else { limits::HIDDEN_MS as Millis };
const LONGEST: Millis = limits::CONFLATE_MS as Millis;

/// The pace of one connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Pace {
    period: Millis,
    /// Nobody looks: events wait too.
    hidden: bool,
    /// When it was last let go.
    last: Option<Millis>,
    /// It is held until then.
    until: Option<Millis>,
}

impl Pace {
    /// What the subscriptions of a connection ask for together: the shortest of their times. `None`: everything as it comes.
    pub fn of(subscriptions: &Subscriptions, hidden: bool) -> Option<Pace> {
        let asked = subscriptions.iter().map(|s| Millis::from(s.conflate_ms)).filter(|&ms| ms > 0).min();
        let all = subscriptions.iter().all(|s| s.conflate_ms > 0);
        let period = match asked {
            None if !hidden => return None,
            None => HIDDEN,
            Some(ms) if hidden && all => ms.max(HIDDEN),
            Some(_) if hidden => HIDDEN,
            Some(ms) => ms,
        };
        Some(Pace { period, hidden, last: None, until: None })
    }

    /// Another pace takes this one's place: what is held stays held, for no longer than either of them says.
    pub fn replaced_by(self, other: Pace) -> Pace {
        let until = self.until.map(|until| match self.last {
            Some(last) => until.min(last + other.period),
            None => until,
        });
        Pace { last: self.last, until, ..other }
    }

    /// Something comes that may wait, or must not. Returns until when it waits; `None`: it leaves now.
    pub fn arrive(&mut self, urgent: bool, now: Millis) -> Option<Millis> {
        let due = match (self.until, self.last) {
            (Some(until), _) => until,
            (None, Some(last)) => last + self.period,
            (None, None) => now,
        };
        let waits = due > now && (!urgent || self.hidden);
        self.until = waits.then_some(due);
        self.until
    }

    /// Until when it is held, if it still is. From there on it is let go.
    pub fn holds(&mut self, now: Millis) -> bool {
        self.until.take_if(|until| *until <= now);
        if self.until.is_none() {
            self.last = Some(now);
        }
        self.until.is_some()
    }

    /// Until when it is held.
    pub fn until(&self) -> Option<Millis> {
        self.until
    }

    /// It may go on at once: it begins to read somewhere else.
    pub fn let_go(&mut self) {
        self.until = None;
    }
}

/// What a client asked for, as it is kept.
pub fn bounded(ms: u64) -> u16 {
    // Below 65,536 by its limit.
    ms.min(LONGEST) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(period: Millis) -> Pace {
        Pace { period, ..Pace::default() }
    }

    /// When, of what comes at these times, it is let go.
    fn let_go(pace: &mut Pace, comes: impl IntoIterator<Item = (Millis, bool)>, end: Millis) -> Vec<Millis> {
        let mut comes = comes.into_iter().peekable();
        let (mut went, mut waiting) = (Vec::new(), false);
        for now in 0..end {
            while let Some((_, urgent)) = comes.next_if(|(at, _)| *at == now) {
                pace.arrive(urgent, now);
                waiting = true;
            }
            if waiting && !pace.holds(now) {
                went.push(now);
                waiting = false;
            }
        }
        assert!(!waiting, "something is held for ever");
        went
    }

    #[test]
    fn what_comes_alone_leaves_at_once_and_what_comes_often_once_a_period() {
        assert_eq!(let_go(&mut every(100), [(7, false), (300, false)], 1000), [7, 300]);
        assert_eq!(let_go(&mut every(100), (7..300).map(|at| (at, false)), 1000), [7, 107, 207, 307]);
    }

    #[test]
    fn the_last_of_a_burst_is_not_lost() {
        assert_eq!(let_go(&mut every(100), [(0, false), (1, false)], 1000), [0, 100]);
    }

    #[test]
    fn what_is_urgent_takes_along_what_is_held_unless_nobody_looks() {
        assert_eq!(let_go(&mut every(100), [(0, false), (1, false), (5, true)], 1000), [0, 5]);
        let hidden = &mut Pace { hidden: true, ..every(100) };
        assert_eq!(let_go(hidden, [(0, false), (1, false), (5, true)], 1000), [0, 100]);
    }

    #[test]
    fn a_faster_pace_lets_go_sooner_and_a_slower_one_no_later() {
        for (period, until) in [(20, 20), (5_000, 100)] {
            let mut pace = every(100);
            assert!(!pace.holds(0));
            assert_eq!(pace.arrive(false, 1), Some(100));
            assert_eq!(pace.replaced_by(every(period)).until(), Some(until));
        }
    }
}
