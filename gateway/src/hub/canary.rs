//! Silence is not health: a node is ready only while a record of its own comes back through the log.

use super::publish::Publisher;
use crate::log::{MessageKey, NewRecord};
use anabranch_protocol::topic::Topic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

/// How often a canary is sent.
const INTERVAL: Duration = Duration::from_secs(2);
/// Without a canary for so long, the node is not ready; nor with a partition that was out of reach for so long.
pub const LATE: Duration = Duration::from_secs(6);

/// This node's canary. Its topic begins with `$`, which no wildcard reaches.
pub struct Canary {
    topic: Topic,
    began: Instant,
    /// When one came back last, in milliseconds since `began`, plus one; zero if none did.
    returned: AtomicU64,
    /// Why the log did not take the last one.
    refused: Mutex<Option<String>>,
}

impl Canary {
    pub fn new(node: &str) -> Canary {
        let name = format!("$anabranch/canary/{node}");
        let topic = Topic::new(&name).expect("a node's id is a valid level");
        Canary { topic, began: Instant::now(), returned: AtomicU64::new(0), refused: Mutex::default() }
    }

    /// A record was read from the log.
    pub fn observe(&self, topic: &str) {
        if topic == self.topic.as_str() {
            self.returned.store(self.began.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
        }
    }

    /// How long ago one came back; `None` if none did yet.
    pub fn age(&self) -> Option<Duration> {
        let at = self.returned.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.began.elapsed().saturating_sub(Duration::from_millis(at)))
    }

    /// Whether the way through the log works.
    pub fn sings(&self) -> bool {
        self.age().is_some_and(|age| age < LATE)
    }

    /// Why the log did not take the last one; `None` if it did.
    pub fn refusal(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends canaries for ever.
    pub async fn run(self: Arc<Self>, publisher: Arc<Publisher>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let id = crate::outside::fresh_id();
            let key = MessageKey::new(self.topic.as_str(), &id);
            let envelope =
                format!(r#"{{"metadata":{{"messageId":"{id}","topic":"{}"}},"payload":null}}"#, self.topic);
            let record = NewRecord { topic: self.topic.clone(), key, envelope: envelope.into() };
            // To be ready or not is decided by what comes back alone: this is the reason, for the operator.
            let refused = publisher.publish(record).await.err().map(|error| error.to_string());
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::memory::{self, MemoryLog, Publishing};

    /// Runs until the canary's refusal is as wanted.
    async fn until(canary: &Arc<Canary>, publisher: &Arc<Publisher>, wanted: fn(Option<String>) -> bool) {
        let run = canary.clone().run(publisher.clone());
        let found = async {
            while !wanted(canary.refusal()) {
                tokio::time::advance(INTERVAL / 4).await;
            }
        };
        tokio::select! {
            () = found => {}
            () = run => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn why_it_was_not_taken_is_known_until_it_is_taken() {
        let log = MemoryLog::new(memory::Options::default());
        let publisher = Publisher::new(log.clone());
        let canary = Arc::new(Canary::new("n"));
        log.lies().publishing(Publishing::Refuses("alarm".into()));
        until(&canary, &publisher, |refusal| refusal.is_some_and(|why| why.contains("alarm"))).await;
        log.lies().publishing(Publishing::Works);
        until(&canary, &publisher, |refusal| refusal.is_none()).await;
    }
}
