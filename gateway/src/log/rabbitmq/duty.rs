//! One node at a time does what a name says: it holds an exclusive queue, which the broker takes back when the connection ends.
//!
//! A broker that cannot hear a node any more frees the queue after two heartbeats; the node finds out as late. Meanwhile both may
//! hold the duty.

use super::fault::Fault;
use super::shared::Shared;
use super::topology::turn::is_taken;
use crate::log::duty::{Claim, Forbidden, changes};
use futures_util::stream::BoxStream;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the broker may take to answer one look.
const PATIENCE: Duration = Duration::from_secs(5);

struct Duty {
    shared: Arc<Shared>,
    queue: String,
    connection: Option<Connection>,
    /// On which the queue was declared.
    holding: Option<Channel>,
}

/// See [`Log::duty`](crate::log::Log::duty).
pub(super) fn hold(shared: Arc<Shared>, name: &str) -> BoxStream<'static, bool> {
    let queue = format!("{}.{name}", shared.options.queue);
    changes(Duty { shared, queue, connection: None, holding: None })
}

impl Claim for Duty {
    const PAUSE: Duration = Duration::from_millis(250);

    async fn look(&mut self) -> Result<bool, Forbidden> {
        match timeout(PATIENCE, self.declare()).await {
            Ok(Ok(holds)) => Ok(holds),
            Ok(Err(Fault::Refused(why))) => {
                Err(Forbidden(format!("the broker forbids the queue {:?}: {why}", self.queue)))
            }
            Ok(Err(fault)) => {
                tracing::debug!("the duty {:?} cannot be held: {fault:?}", self.queue);
                Ok(self.let_go())
            }
            Err(_) => Ok(self.let_go()),
        }
    }
}

impl Duty {
    fn let_go(&mut self) -> bool {
        (self.connection, self.holding) = (None, None);
        false
    }

    /// Declares the queue, again and again: who holds it may, and learns that the connection lives.
    async fn declare(&mut self) -> Result<bool, Fault> {
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
