//! One node at a time: an exclusive queue, which the broker gives to one connection, and takes back when that ends.

use super::super::fault::Fault;
use super::super::options::Options;
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ErrorKind};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Below the deadline of whoever waits for what is declared in a turn. A turn takes some tens of milliseconds.
const PATIENCE: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(15);

/// Ends with the connection at the latest.
pub(super) struct Turn {
    channel: Channel,
    name: String,
}

/// Waits for its turn.
pub(super) async fn take(connection: &Connection, options: &Options) -> Result<Turn, Fault> {
    let name = options.turn();
    let how = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let began = Instant::now();
    loop {
        let channel = connection.create_channel().await?;
        match channel.queue_declare(name.as_str().into(), how, FieldTable::default()).await {
            Ok(_) => return Ok(Turn { channel, name }),
            Err(error) if is_taken(&error) && began.elapsed() < PATIENCE => sleep(PAUSE).await,
            Err(error) if is_taken(&error) => {
                return Err(Fault::Unreachable(format!(
                    "another gateway has declared for {} s (it holds the queue {name:?})",
                    PATIENCE.as_secs()
                )));
            }
            Err(error) => {
                return Err(match Fault::from(error) {
                    Fault::Refused(text) => Fault::Refused(format!(
                        "the queue {name:?}, by which gateways wait for each other, cannot be used: {text}"
                    )),
                    other => other,
                });
            }
        }
    }
}

/// Whether another connection has the exclusive queue.
pub(in super::super) fn is_taken(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(amqp) = error.kind() else { return false };
    matches!(amqp.kind(), AMQPErrorKind::Soft(AMQPSoftError::RESOURCELOCKED))
}

impl Turn {
    /// The next one need not wait until the connection is closed.
    pub(super) async fn end(self) {
        let deleted =
            self.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default()).await;
        if let Err(error) = deleted {
            tracing::debug!("a turn ends with its connection: {error}");
        }
    }
}
