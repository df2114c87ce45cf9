//! Forgets what is too much or too old, once in a while, whoever wrote it.
//!
//! Every node does it; who comes second finds nothing to do. Not with each `XADD`, because that leaves no note of the
//! last entry that went (see [`script`]), and does nothing about what other programs write.

use super::{Shared, script};
use redis::{RedisResult, Value};
use std::sync::{Arc, Weak};
use tokio::time::{MissedTickBehavior, interval};

/// Starts the task. It ends with the log.
pub(super) fn start(shared: &Arc<Shared>) {
    if shared.options.max_length.is_none() && shared.options.max_age.is_none() {
        return;
    }
    let mut ticks = interval(shared.options.tend_every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let shared = Arc::downgrade(shared);
    tokio::spawn(async move {
        loop {
            ticks.tick().await;
            if tend(&shared).await.is_none() {
                return;
            }
        }
    });
}

/// One round through all partitions; `None` if the log is closed.
async fn tend(shared: &Weak<Shared>) -> Option<()> {
    let partitions = shared.upgrade()?.keys.len();
    for index in 0..partitions {
        let shared = shared.upgrade()?;
        let options = &shared.options;
        let age = options.max_age.map(|age| age.as_millis() as u64);
        if let Err(error) = until_at_most(&shared, index, options.max_length, age).await {
            tracing::debug!("the log cannot be trimmed at present: {}", super::trouble::explain(&error));
        }
    }
    Some(())
}

/// Drops page by page what is more than `most`, or older than `age`; says how many entries that were.
pub(super) async fn until_at_most(
    shared: &Shared,
    index: usize,
    most: Option<u64>,
    age: Option<u64>,
) -> RedisResult<u64> {
    let mut all = 0;
    loop {
        let answer = shared.links[index].ask(script::tend(&shared.keys[index], most, age)).await?;
        let dropped = match answer {
            Value::Int(dropped) => u64::try_from(dropped).unwrap_or(0),
            _ => 0,
        };
        all += dropped;
        if dropped < script::PAGE {
            return Ok(all);
        }
    }
}
