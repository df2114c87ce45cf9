//! Blank records: no message, only something that can be read.

use super::fault::Fault;
use super::mark;
use super::shared::Shared;
use anabranch_protocol::cursor::Partition;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation};
use std::time::Duration;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(2);

/// Appends a blank record to a partition's stream.
pub(super) async fn append(shared: &Shared, partition: Partition) -> Result<(), Fault> {
    publish(shared, shared.stream(partition), mark::blank(), &[]).await
}

/// Publishes straight to a queue, by the broker's default exchange, and waits for the confirm. On a connection of its
/// own: one that has published is stopped by the broker's alarms.
pub(super) async fn publish(
    shared: &Shared,
    queue: &str,
    properties: BasicProperties,
    body: &[u8],
) -> Result<(), Fault> {
    let connection = shared.connector.connect("marks").await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let confirm = channel.basic_publish("".into(), queue.into(), mandatory, body, properties).await?;
    match timeout(PATIENCE, confirm).await {
        Ok(Ok(Confirmation::Ack(None))) => Ok(()),
        Ok(Ok(Confirmation::Ack(Some(_)))) => Err(Fault::Gone),
        Ok(Ok(_)) => Err(Fault::Unreachable(format!("the stream {queue} did not take a record"))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Fault::Unreachable(format!(
            "RabbitMQ confirms nothing: perhaps it blocks publishers, low on memory or disk ({queue})"
        ))),
    }
}
