//! Silence is not health: a node is ready only while a record of its own comes back through the log.

use super::publish::Publisher;
use crate::log::{MessageKey, NewRecord};
use anabranch_protocol::topic::Topic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
}

impl Canary {
    pub fn new(node: &str) -> Canary {
        let name = format!("$anabranch/canary/{node}");
        let topic = Topic::new(&name).expect("a node's id is a valid level");
        Canary { topic, began: Instant::now(), returned: AtomicU64::new(0) }
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

    /// Sends canaries for ever.
    pub async fn run(self: Arc<Self>, publisher: Arc<Publisher>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let id = uuid::Uuid::new_v4().to_string();
            let key = MessageKey::new(self.topic.as_str(), &id);
            let envelope =
                format!(r#"{{"metadata":{{"messageId":"{id}","topic":"{}"}},"payload":null}}"#, self.topic);
            let record = NewRecord { topic: self.topic.clone(), key, envelope: envelope.into() };
            // A refusal shows itself as a canary that does not come back.
            let _ = publisher.publish(record).await;
        }
    }
}
