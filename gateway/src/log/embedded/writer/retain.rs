//! Forgetting the oldest segments.

use super::{Active, Writer};
use crate::log::embedded::segment::Segment;
use crate::log::embedded::shared::{Shared, State};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the age of segments is looked at, at most: ten times as often as the age allowed, if that is more.
const PERIOD: Duration = Duration::from_secs(5);

impl Writer {
    /// Drops what retention does not cover any more.
    pub(in crate::log::embedded) fn retain(&mut self) {
        self.retain_due = None;
        let Some(seconds) = self.shared.options.retention_seconds else {
            return self.shared.forget(|state| state.over(self.shared.options.retention_bytes));
        };
        self.retain_due = Some(Instant::now() + (Duration::from_secs(seconds.max(1)) / 10).min(PERIOD));
        let oldest = (self.shared.clock)().saturating_sub(seconds.saturating_mul(1000));
        // The newest segment stays as it is: a log to which nobody writes forgets by beginning another one.
        if self.active.as_ref().is_some_and(|active: &Active| {
            active.extent.last >= active.segment.base && active.extent.latest < oldest
        }) {
            return self.roll(); // Which comes back here, with an empty segment.
        }
        self.shared
            .forget(|state| state.over(self.shared.options.retention_bytes) || state.older_than(oldest));
    }
}

impl State {
    fn over(&self, bytes: u64) -> bool {
        self.segments.iter().map(|(_, extent)| extent.length).sum::<u64>() > bytes
    }

    fn older_than(&self, oldest: u64) -> bool {
        self.segments.front().is_some_and(|(_, extent)| extent.latest < oldest)
    }
}

impl Shared {
    /// Forgets the oldest segment for as long as `condition` holds, never the newest one.
    pub(in crate::log::embedded) fn forget(&self, condition: impl Fn(&State) -> bool) {
        let mut forgotten: Vec<Arc<Segment>> = Vec::new();
        {
            let mut state = self.lock();
            while state.segments.len() > 1 && condition(&state) {
                forgotten.extend(state.segments.pop_front().map(|(segment, _)| segment));
            }
        }
        if forgotten.is_empty() {
            return;
        }
        // Readers are told first: a reader that finds a file gone finds the segment gone too.
        self.change(|_| ());
        let mut removed = Ok(());
        for segment in &forgotten {
            removed = removed.and(self.disk.remove(&segment.name));
        }
        if let Err(error) = removed.and_then(|()| self.disk.sync()) {
            tracing::warn!(%error, "a forgotten segment could not be removed; it goes with the next start");
        }
    }
}
