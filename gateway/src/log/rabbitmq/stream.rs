//! Reading a stream queue: the few sequences of AMQP methods that everything here is made of.

use super::fault::Fault;
use futures_util::future::FutureExt;
use futures_util::stream::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
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

/// Attaches a consumer to a stream. [`Fault::Killed`] if it died of a record at once: the broker's word that it is attached
/// may be lost with the connection.
pub(super) async fn attach(
    connection: &Connection,
    stream: &str,
    place: Place,
    prefetch: u16,
) -> Result<Attached, Fault> {
    let prepared = async {
        let channel = connection.create_channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        Ok(channel)
    };
    // Killed by whatever it was used for before.
    let channel = prepared.await.map_err(|error: lapin::Error| match Fault::from(error) {
        Fault::Killed(text) => Fault::Unreachable(text),
        other => other,
    })?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-stream-offset".into(), place.value());
    let consume = channel.basic_consume(stream.into(), "".into(), BasicConsumeOptions::default(), arguments);
    let consumer = consume.await?;
    Ok(Attached { channel, consumer, prefetch })
}

impl Attached {
    /// The last of what has arrived when everything that the broker has sent so far has, and how many they were.
    ///
    /// A channel of the broker sends all that it has and may in one step, and answers methods in between, so the answer to
    /// any method stands behind the last record that could be read when the first was sent.
    async fn rest(&mut self) -> Result<(Option<Delivery>, usize), Fault> {
        self.channel.basic_qos(self.prefetch, BasicQosOptions::default()).await?;
        let (mut last, mut count) = (None, 0);
        while let Some(next) = self.consumer.next().now_or_never() {
            last = Some(next.ok_or(Fault::Gone)??);
            count += 1;
        }
        Ok((last, count))
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

/// The newest record, as far as it had been written when this was called, or a newer one. `None` if nothing came in time.
///
/// The newest chunk is read from its beginning. 3.10 sends a chunk as a whole whatever the prefetch; 4.0 and later stop in the
/// midst of it, so the prefetch is the greatest there is, and what exhausts it all the same is acknowledged.
pub(super) async fn newest(
    connection: &Connection,
    stream: &str,
    patience: Duration,
) -> Result<Option<Delivery>, Fault> {
    let mut attached = attach(connection, stream, Place::Last, u16::MAX).await?;
    let Some(mut newest) = attached.next(patience).await? else { return Ok(None) };
    let mut unacknowledged = 1;
    loop {
        let (last, count) = attached.rest().await?;
        newest = last.unwrap_or(newest);
        unacknowledged += count;
        if unacknowledged < usize::from(u16::MAX) {
            return Ok(Some(newest));
        }
        newest.acker.ack(BasicAckOptions { multiple: true }).await?;
        unacknowledged = 0;
    }
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
