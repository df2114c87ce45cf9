//! What the device has said and the gateway has not confirmed yet. Bounded: while the gateway is away, the newest samples
//! are skipped, since the ones that wait already show when it went away; of reports there is one on its way, and what it
//! lacks is found when it has arrived.

use anabranch::{Client, PublishError, Shadow};
use serde_json::Value;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Most samples on their way. At ten a second, enough for a reconnect.
const SAMPLES: usize = 128;

pub struct Outbox {
    client: Client,
    samples: JoinSet<Result<(), PublishError>>,
    shadow: Arc<Shadow>,
    report: JoinSet<Result<(), PublishError>>,
    /// There was more to report while one was on its way.
    more: bool,
    has_reported: bool,
    skipped: u64,
}

impl Outbox {
    pub fn new(client: &Client, shadow: &Arc<Shadow>) -> Outbox {
        Outbox {
            client: client.clone(),
            samples: JoinSet::new(),
            shadow: Arc::clone(shadow),
            report: JoinSet::new(),
            more: false,
            has_reported: false,
            skipped: 0,
        }
    }

    /// Whether the log has taken a report.
    pub fn has_reported(&self) -> bool {
        self.has_reported
    }

    /// Publishes a sample, unless too many are on their way.
    pub fn sample(&mut self, topic: String, payload: Value) {
        if self.samples.len() >= SAMPLES {
            if self.skipped == 0 {
                tracing::warn!("the gateway confirms nothing: samples are skipped from here on");
            }
            self.skipped += 1;
            return;
        }
        self.samples.spawn(send(self.client.clone(), topic, payload));
    }

    /// Publishes a patch of what is reported, unless one is on its way: then [`settle`](Outbox::settle) says when to look again.
    pub fn report(&mut self, patch: Value) {
        if !self.report.is_empty() {
            self.more = true;
            return;
        }
        let shadow = Arc::clone(&self.shadow);
        self.report.spawn(async move { shadow.report(&patch).await.map(|_| ()) });
    }

    /// Takes in confirms as they come. Ends when there may be more to report. Cancel safe.
    pub async fn settle(&mut self) {
        loop {
            tokio::select! {
                Some(joined) = self.samples.join_next() => {
                    if confirmed(joined) && self.skipped > 0 {
                        tracing::info!(skipped = self.skipped, "the gateway confirms again");
                        self.skipped = 0;
                    }
                }
                Some(joined) = self.report.join_next() => {
                    self.has_reported |= confirmed(joined);
                    if std::mem::take(&mut self.more) {
                        return;
                    }
                }
                else => std::future::pending().await,
            }
        }
    }
}

async fn send(client: Client, topic: String, payload: Value) -> Result<(), PublishError> {
    client.publish(&topic).json(&payload)?.send().await.map(|_| ())
}

fn confirmed(joined: Result<Result<(), PublishError>, tokio::task::JoinError>) -> bool {
    match joined {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a message was not published");
            false
        }
        Err(error) => {
            tracing::error!(%error, "a publish ended in a panic");
            false
        }
    }
}
