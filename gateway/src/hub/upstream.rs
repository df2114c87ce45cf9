//! How the log is doing, partition by partition: for clients in a word, for the operator with lag and reason.

use crate::log::{Budget, Health, Log, ReadError};
use anabranch_protocol::cursor::{Offset, Partition};
use anabranch_protocol::json::ObjectWriter;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// How often the lag is measured.
const INTERVAL: Duration = Duration::from_secs(2);
/// Where offsets do not count records, no more than so many are counted.
const COUNTED: Budget = Budget { records: 1_000, bytes: 1 << 20 };

/// What the node knows of its log.
pub struct Upstream {
    partitions: Mutex<Vec<State>>,
}

#[derive(Clone, Debug)]
struct State {
    /// `None` until the tail has said something.
    health: Option<Health>,
    since: Instant,
    /// Up to where the tail has read, and the time of the newest record there, in milliseconds since 1970.
    read_to: Offset,
    read_time: u64,
    lag: Lag,
}

/// How far the tail is behind the log's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lag {
    records: u64,
    milliseconds: u64,
}

/// What clients are told of the log's health. The reason is the operator's: it may hold addresses, paths and permissions.
pub fn told(health: &Health) -> &'static str {
    match health {
        Health::Connected => "",
        Health::Blocked(_) => "the log takes no records at present; what it has is delivered",
        Health::Retrying(_) => "the log is out of reach; it is tried again and again",
    }
}

impl Upstream {
    pub fn new(partitions: Partition) -> Upstream {
        let state = State {
            health: None,
            since: Instant::now(),
            read_to: Offset(0),
            read_time: 0,
            lag: Lag::default(),
        };
        Upstream { partitions: Mutex::new(vec![state; usize::from(partitions)]) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.partitions.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Notes what a tail says of itself. Returns the whole log's health if it is another than before.
    pub fn note(&self, partition: Partition, health: Health) -> Option<Health> {
        let mut partitions = self.lock();
        let before = whole(&partitions);
        let up = health == Health::Connected;
        metrics::gauge!("anabranch_log_up", "partition" => partition.to_string())
            .set(f64::from(u8::from(up)));
        let state = partitions.get_mut(usize::from(partition))?;
        // Another reason for the same trouble does not begin it anew.
        if state.health.as_ref().map(name) != Some(name(&health)) {
            state.since = Instant::now();
        }
        state.health = Some(health);
        let after = whole(&partitions);
        (after != before).then_some(after).flatten()
    }

    /// Whether a partition is out of reach, and has been for so long.
    pub fn is_lost(&self, patience: Duration) -> bool {
        let lost = |state: &State| {
            matches!(state.health, Some(Health::Retrying(_))) && state.since.elapsed() >= patience
        };
        self.lock().iter().any(lost)
    }

    /// Notes how far a tail has read.
    pub fn read(&self, partition: Partition, offset: Offset, time: Option<u64>) {
        if let Some(state) = self.lock().get_mut(usize::from(partition)) {
            state.read_to = offset;
            state.read_time = time.unwrap_or(state.read_time);
        }
    }

    /// Another history: what was read of the old one means nothing in it.
    pub fn reset(&self) {
        for state in self.lock().iter_mut() {
            (state.read_to, state.read_time, state.lag) = (Offset(0), 0, Lag::default());
        }
    }

    /// Measures the lag for ever.
    pub async fn watch(self: Arc<Self>, log: Arc<dyn Log>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for partition in 0..log.capabilities().partitions {
                // While nothing can be asked, the last answer stands.
                if let Ok(records) = self.behind(partition, &*log).await {
                    self.measured(partition, records);
                }
            }
        }
    }

    async fn behind(&self, partition: Partition, log: &dyn Log) -> Result<u64, ReadError> {
        let newest = log.bounds(partition).await?.newest.map_or(Offset(0), |newest| newest.offset);
        let Some(read_to) = self.lock().get(usize::from(partition)).map(|state| state.read_to) else {
            return Ok(0);
        };
        if newest <= read_to || log.capabilities().dense {
            return Ok(newest.0.saturating_sub(read_to.0));
        }
        let unread = log.read(partition, read_to, COUNTED).await?;
        Ok(unread.records.len() as u64)
    }

    fn measured(&self, partition: Partition, records: u64) {
        let mut partitions = self.lock();
        let Some(state) = partitions.get_mut(usize::from(partition)) else { return };
        let milliseconds = match (records, state.read_time) {
            (0, _) => 0,
            // Nothing was read yet: nobody knows how old that is, but at least since when it is tried.
            (_, 0) => state.since.elapsed().as_millis() as u64,
            (_, time) => crate::log::now().saturating_sub(time),
        };
        state.lag = Lag { records, milliseconds };
        let label = partition.to_string();
        metrics::gauge!("anabranch_log_lag_records", "partition" => label.clone()).set(records as f64);
        metrics::gauge!("anabranch_log_lag_seconds", "partition" => label).set(milliseconds as f64 / 1000.0);
    }

    /// Writes what is known as a JSON array, one object for each partition.
    pub fn describe(&self) -> String {
        let mut text = String::from("[");
        for (partition, state) in self.lock().iter().enumerate() {
            if partition > 0 {
                text.push(',');
            }
            let mut object = ObjectWriter::begin(&mut text);
            object.number("partition", partition as u64);
            object.string("state", state.health.as_ref().map_or("starting", name));
            object.number("forMs", state.since.elapsed().as_millis() as u64);
            if let Some(Health::Blocked(why) | Health::Retrying(why)) = &state.health {
                object.string("why", why);
            }
            object.number("lagRecords", state.lag.records).number("lagMs", state.lag.milliseconds);
            object.end();
        }
        text.push(']');
        text
    }
}

fn name(health: &Health) -> &'static str {
    match health {
        Health::Connected => "connected",
        Health::Blocked(_) => "blocked",
        Health::Retrying(_) => "retrying",
    }
}

/// The worst of any partition. `None` until every tail has spoken or one is in trouble.
fn whole(partitions: &[State]) -> Option<Health> {
    let worst =
        |is: fn(&Health) -> bool| partitions.iter().filter_map(|state| state.health.as_ref()).find(|h| is(h));
    if let Some(trouble) = worst(|health| matches!(health, Health::Retrying(_)))
        .or_else(|| worst(|health| matches!(health, Health::Blocked(_))))
    {
        return Some(trouble.clone());
    }
    partitions.iter().all(|state| state.health.is_some()).then_some(Health::Connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_as_well_as_its_worst_partition() {
        let refused = || Health::Retrying("refused".into());
        let alarm = || Health::Blocked("memory alarm".into());
        let upstream = Upstream::new(2);
        assert_eq!(upstream.note(0, Health::Connected), None, "the other has not spoken");
        assert_eq!(upstream.note(1, Health::Connected), Some(Health::Connected));
        assert_eq!(upstream.note(1, Health::Connected), None, "nothing new");
        assert_eq!(upstream.note(0, alarm()), Some(alarm()));
        assert_eq!(upstream.note(1, refused()), Some(refused()), "out of reach is worse than blocked");
        assert_eq!(upstream.note(0, refused()), None);
        assert_eq!(upstream.note(0, Health::Connected), None, "one is still down, and for the same reason");
        assert_eq!(upstream.note(1, Health::Connected), Some(Health::Connected));
        assert_eq!(upstream.note(7, Health::Connected), None, "no such partition");
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_lasts_since_it_began_whatever_its_reason() {
        let upstream = Upstream::new(1);
        upstream.note(0, Health::Retrying("refused".into()));
        tokio::time::advance(Duration::from_secs(3)).await;
        upstream.note(0, Health::Retrying("no route".into()));
        assert!(!upstream.is_lost(Duration::from_secs(4)) && upstream.is_lost(Duration::from_secs(3)));
        let told = upstream.describe();
        assert_eq!(
            told,
            r#"[{"partition":0,"state":"retrying","forMs":3000,"why":"no route","lagRecords":0,"lagMs":0}]"#
        );
    }
}
