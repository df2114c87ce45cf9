//! Readers that are told to be slow, and to hurry again.

use super::Swarm;
use anyhow::Result;
use std::time::{Duration, Instant};

impl Swarm {
    /// From now on these read at most so many bytes a second: none with 0.
    pub fn throttle(&mut self, ids: impl Iterator<Item = usize>, bytes_per_second: u32) {
        for id in ids {
            self.connections[id].throttle = Some(bytes_per_second);
            self.throttled.push(id);
        }
        self.throttled_at = Instant::now();
    }

    /// Everyone reads as fast as it can, until all have read what was published, or for so long. Returns how many still lack
    /// something then.
    pub fn hurry(&mut self, patience: Duration) -> Result<usize> {
        for id in std::mem::take(&mut self.throttled) {
            self.connections[id].throttle = None;
            // What has come meanwhile gives no further event.
            self.read(id, usize::MAX)?;
        }
        let began = Instant::now();
        loop {
            let lacking = self.connections.iter().filter(|c| c.stride > 0 && c.next < self.next).count();
            if lacking == 0 || began.elapsed() > patience {
                return Ok(lacking);
            }
            self.turn(Duration::from_millis(20))?;
        }
    }

    /// Numbers left out and numbers that came again, since the last phase began.
    pub fn mistakes(&self) -> (u64, u64) {
        (self.tally.lost, self.tally.doubled)
    }
}
