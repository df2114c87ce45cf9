//! What the device has said and the gateway has not confirmed yet. Bounded: while the gateway is away, the newest samples
//! are skipped, since the ones that wait already show when it went away; the report is never skipped, but only the newest
//! one is sent.

use anabranch::{Client, PublishError};
use serde_json::Value;
use tokio::task::JoinSet;

/// Most samples on their way. At ten a second, enough for a reconnect.
const SAMPLES: usize = 128;

pub struct Outbox {
    client: Client,
    samples: JoinSet<Result<(), PublishError>>,
    report: JoinSet<Result<(), PublishError>>,
    /// A report that waits for the one before it.
    next_report: Option<(String, Value)>,
    skipped: u64,
}

impl Outbox {
    pub fn new(client: &Client) -> Outbox {
        Outbox {
            client: client.clone(),
            samples: JoinSet::new(),
            report: JoinSet::new(),
            next_report: None,
            skipped: 0,
        }
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

    /// Publishes a report, after the one before it is confirmed, so that an older one can never overtake a newer.
    pub fn report(&mut self, topic: String, payload: Value) {
        if self.report.is_empty() {
            self.report.spawn(send(self.client.clone(), topic, payload));
        } else {
            self.next_report = Some((topic, payload));
        }
    }

    /// Takes in confirms as they come; for ever. Cancel safe.
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
                    confirmed(joined);
                    if let Some((topic, payload)) = self.next_report.take() {
                        self.report(topic, payload);
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
