//! One node at a time does what a name says: it holds an exclusive queue, which the broker takes back when the connection ends.
//!
//! A broker that cannot hear a node any more frees the queue after two heartbeats; the node finds out as late. Meanwhile both may
//! hold the duty.

use super::fault::Fault;
use super::shared::Shared;
use super::topology::turn::is_taken;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// How long the broker may take to answer one.
const PATIENCE: Duration = Duration::from_secs(5);

struct Duty {
    shared: Arc<Shared>,
    queue: String,
    connection: Option<Connection>,
    /// On which the queue was declared.
    holding: Option<Channel>,
    said: Option<bool>,
    /// The broker forbids such a queue: nobody can agree on anything.
    forbidden: bool,
}

/// See [`Log::duty`](crate::log::Log::duty).
pub(super) fn hold(shared: Arc<Shared>, name: &str) -> BoxStream<'static, bool> {
    let queue = format!("{}.{name}", shared.options.queue);
    let (connection, holding, said) = (None, None, None);
    let duty = Duty { shared, queue, connection, holding, said, forbidden: false };
    unfold(duty, |mut duty| async move { Some((duty.change().await, duty)) }).boxed()
}

impl Duty {
    async fn change(&mut self) -> bool {
        loop {
            if self.said.is_some() {
                sleep(PAUSE).await;
            }
            let now = match timeout(PATIENCE, self.look()).await {
                Ok(Ok(now)) => now,
                Ok(Err(Fault::Refused(why))) => {
                    if !std::mem::replace(&mut self.forbidden, true) {
                        tracing::warn!(
                            "nodes cannot agree on who acts, so each does, which is wasteful and harmless: the broker \
                             forbids the queue {:?}: {why}",
                            self.queue
                        );
                    }
                    true
                }
                Ok(Err(fault)) => {
                    tracing::debug!("the duty {:?} cannot be held: {fault:?}", self.queue);
                    self.let_go()
                }
                Err(_) => self.let_go(),
            };
            if self.said != Some(now) {
                self.said = Some(now);
                return now;
            }
        }
    }

    fn let_go(&mut self) -> bool {
        (self.connection, self.holding) = (None, None);
        false
    }

    /// Declares the queue, again and again: who holds it may, and learns that the connection lives.
    async fn look(&mut self) -> Result<bool, Fault> {
        let connection = match self.connection.take().filter(|connection| connection.status().connected()) {
            Some(connection) => connection,
            None => {
                self.holding = None;
                self.shared.connector.connect("duty").await?
            }
        };
        let connection = self.connection.insert(connection);
        let channel = match self.holding.take() {
            Some(channel) => channel,
            None => connection.create_channel().await?,
        };
        let how =
            QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        match channel.queue_declare(self.queue.as_str().into(), how, FieldTable::default()).await {
            Ok(_) => {
                self.holding = Some(channel);
                Ok(true)
            }
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
