//! How many updates of one device are too many.

/// By the generic cell rate algorithm (ITU-T I.371): as many at once as come in a second.
///
/// By two clocks, and an update is in time if either says so. The log's knows how far apart updates came that waited while nobody acted;
/// this node's goes on while the log's stands still or has been set back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When the next update would be due if they came evenly, in microseconds of the log's clock.
    log: u64,
    /// The same, on the clock of the node that acts.
    node: u64,
}

const SECOND: u64 = 1_000_000;

impl Pace {
    /// Counts one more update, unless it is too many. Times are milliseconds.
    pub fn keeps(&mut self, log: u64, node: u64, rate: u32) -> bool {
        let each = SECOND / u64::from(rate.max(1));
        let after = |due: u64, time: u64| {
            let time = time.saturating_mul(1_000);
            // Far ahead of it, it was reckoned from a later time: the clock was set back, or partitions are read each at its own pace.
            let ahead = due.saturating_sub(time);
            let ahead = if ahead > 2 * SECOND { 0 } else { ahead.min(SECOND) };
            (time.saturating_add(ahead + each), time.saturating_add(SECOND))
        };
        let ((log, latest), (node, last)) = (after(self.log, log), after(self.node, node));
        let keeps = log <= latest || node <= last;
        if keeps {
            *self = Pace { log, node };
        }
        keeps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many updates keep a pace of 10 a second, each so many milliseconds after the one before, by either clock.
    fn kept(pace: &mut Pace, count: u64, log: impl Fn(u64) -> u64, node: impl Fn(u64) -> u64) -> usize {
        (0..count).filter(|at| pace.keeps(log(*at), node(*at), 10)).count()
    }

    #[test]
    fn a_burst_of_a_second_and_then_as_many_as_may_come() {
        let mut pace = Pace::default();
        assert_eq!(kept(&mut pace, 50, |_| 5_000, |_| 0), 10);
        assert_eq!(
            kept(&mut pace, 50, |at| 5_000 + at * 20, |at| at * 20),
            9,
            "one for each 100 ms, of the 980 that pass"
        );
        assert_eq!(kept(&mut pace, 20, |at| 7_000 + at * 100, |at| 2_000 + at * 100), 20);
    }

    #[test]
    fn what_waited_is_judged_by_when_it_came() {
        assert_eq!(kept(&mut Pace::default(), 500, |at| 5_000 + at * 100, |_| 0), 500);
    }

    /// Partitions of a log are read each at its own pace, when there is much to be read.
    #[test]
    fn what_came_earlier_and_is_read_later_is_judged_by_when_it_came() {
        let mut pace = Pace::default();
        assert_eq!(kept(&mut pace, 500, |at| 1_000_000 + at * 100, |_| 0), 500);
        assert_eq!(kept(&mut pace, 500, |at| 1_000_050 + at * 100, |_| 0), 500);
        // But a little disorder is no way round it.
        let mut pace = Pace::default();
        assert!(kept(&mut pace, 1_000, |at| 5_000 + at - 500 * (at % 2), |at| at) <= 25);
    }

    #[test]
    fn a_log_whose_clock_stands_or_was_set_back_holds_up_nobody() {
        let mut pace = Pace::default();
        assert_eq!(kept(&mut pace, 5, |_| 3_600_000_000, |_| 0), 5);
        assert_eq!(kept(&mut pace, 100, |at| 5_000 + at * 100, |at| 1_000 + at * 100), 100, "an hour back");
        assert_eq!(kept(&mut pace, 100, |_| 20_000, |at| 20_000 + at * 100), 100, "it stands");
        assert_eq!(kept(&mut pace, 100, |_| 20_000, |_| 30_000), 10, "a burst, and too many by both");
        assert_eq!(
            kept(&mut pace, 5, |_| u64::MAX, |_| 40_000),
            5,
            "no record's time is too late to be reckoned with"
        );
    }
}
