//! Reading a stream queue: the few sequences of AMQP methods that everything here is made of.

use super::fault::Fault;
use futures_util::future::FutureExt;
use futures_util::stream::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, Consumer};
use std::time::Duration;
use tokio::time::timeout;

/// Where a consumer is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    First,
    /// The beginning of the newest chunk.
    Last,
    /// The broker's offset, not ours. Beyond the end: nothing comes until the stream has grown to there.
    At(u64),
    /// Seconds since 1970: the first chunk that was written then or later.
    Time(u64),
}

impl Place {
    /// Exactly these types: a short string makes the broker drop the connection without a word.
    fn value(self) -> AMQPValue {
        match self {
            Place::First => AMQPValue::LongString("first".into()),
            Place::Last => AMQPValue::LongString("last".into()),
            Place::At(offset) => AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)),
            Place::Time(seconds) => AMQPValue::Timestamp(seconds),
        }
    }
}

/// A consumer and its channel, which closes when this is dropped.
pub(super) struct Attached {
    pub(super) channel: Channel,
    pub(super) consumer: Consumer,
    prefetch: u16,
}

/// Attaches a consumer to a stream.
pub(super) async fn attach(
    connection: &Connection,
    stream: &str,
    place: Place,
    prefetch: u16,
) -> Result<Attached, Fault> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), place.value());
    let consume = channel.basic_consume(stream.into(), "".into(), BasicConsumeOptions::default(), arguments);
    let consumer = consume.await?;
    Ok(Attached { channel, consumer, prefetch })
}

impl Attached {
    /// What has arrived when everything that the broker has sent so far has.
    ///
    /// A channel of the broker reads a whole chunk in one step and answers methods in between, so the answer to any
    /// method stands behind the last record of a chunk of which the first record was seen.
    pub(super) async fn rest(&mut self) -> Result<Vec<Delivery>, Fault> {
        self.channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let mut rest = Vec::new();
        while let Some(next) = self.consumer.next().now_or_never() {
            rest.push(next.ok_or(Fault::Gone)??);
        }
        Ok(rest)
    }

    /// The next record, if one comes in time.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<Option<Delivery>, Fault> {
        match timeout(patience, self.consumer.next()).await {
            Err(_) => Ok(None),
            Ok(None) => Err(Fault::Gone),
            Ok(Some(delivery)) => Ok(Some(delivery?)),
        }
    }
}

/// The newest chunk, as far as it had been written when this was called, and perhaps more. Empty if nothing came in time.
pub(super) async fn newest(
    connection: &Connection,
    stream: &str,
    patience: Duration,
) -> Result<Vec<Delivery>, Fault> {
    let mut attached = attach(connection, stream, Place::Last, 1).await?;
    let Some(first) = attached.next(patience).await? else { return Ok(Vec::new()) };
    let mut chunk = vec![first];
    chunk.extend(attached.rest().await?);
    Ok(chunk)
}

/// The broker's offset of a delivery.
pub(super) fn offset(delivery: &Delivery) -> Result<u64, Fault> {
    let headers = delivery.properties.headers().as_ref();
    let offset = headers.and_then(|headers| headers.inner().get("x-stream-offset"));
    let offset = offset.and_then(AMQPValue::as_long_long_int).and_then(|offset| u64::try_from(offset).ok());
    offset.ok_or_else(|| {
        Fault::Refused("a delivery has no x-stream-offset: the queue is not a stream".to_owned())
    })
}
