//! What gateways write beside a record, in scalar headers: streams drop nested ones.
//!
//! Nothing proves that a gateway wrote them: whoever may publish may set them. So nothing hangs on that. The writer and its
//! number count only together with the record that was appended ([`echo`](super::echo)); whoever poses as a gateway gets
//! its envelope checked as any other, and merely has nothing filled in; a time is what its publisher says, as a clock that
//! runs wrong would, and none is believed that lies ahead.

use crate::log::now;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};

/// Which opened log appended a record, and as the how manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) writer: u64,
    pub(super) sequence: u64,
}

const WRITER: &str = "anabranch-writer";
const SEQUENCE: &str = "anabranch-sequence";
const TIME: &str = "anabranch-time";
/// Stands on a record that is no message: it makes a stream readable that is empty, or whose newest chunk is not.
const BLANK: &str = "anabranch-blank";

/// Persistent; a stream keeps everything, but an exchange may have other queues.
const PERSISTENT: u8 = 2;

/// The properties of a record that we append.
pub(super) fn properties(mark: Mark) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(WRITER.into(), AMQPValue::LongLongInt(mark.writer as i64));
    headers.insert(SEQUENCE.into(), AMQPValue::LongLongInt(mark.sequence as i64));
    headers.insert(TIME.into(), AMQPValue::LongLongInt(now() as i64));
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

/// The properties of a record that is no message.
pub(super) fn blank() -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(BLANK.into(), AMQPValue::Boolean(true));
    headers.insert(TIME.into(), AMQPValue::LongLongInt(now() as i64));
    BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(headers)
}

fn whole(delivery: &Delivery, header: &str) -> Option<u64> {
    let value = delivery.properties.headers().as_ref()?.inner().get(header)?;
    let number = value.as_long_long_int().or_else(|| value.as_long_int().map(i64::from))?;
    Some(number as u64)
}

/// Who appended it, if a gateway did.
pub(super) fn mark(delivery: &Delivery) -> Option<Mark> {
    Some(Mark { writer: whole(delivery, WRITER)?, sequence: whole(delivery, SEQUENCE)? })
}

/// Whether it is no message. Nobody but who may write to the stream itself can make one: the broker's default exchange
/// is the only way that skips ours.
pub(super) fn is_blank(delivery: &Delivery) -> bool {
    let headers = delivery.properties.headers().as_ref();
    delivery.exchange.as_str().is_empty() && headers.is_some_and(|headers| headers.contains_key(BLANK))
}

/// How far ahead of ours a publisher's clock may be, in milliseconds. What lies further ahead is no time.
const AHEAD_MS: u64 = 60_000;

/// When it was published, in milliseconds since 1970, if anything says so: a gateway, the broker's interceptor for times,
/// or the publisher, in whole seconds.
pub(super) fn time(delivery: &Delivery) -> Option<u64> {
    let seconds = || delivery.properties.timestamp().map(|seconds| seconds.saturating_mul(1000));
    let given = || whole(delivery, "timestamp_in_ms").or_else(seconds);
    let time = whole(delivery, TIME).or_else(given)?;
    (time <= now().saturating_add(AHEAD_MS)).then_some(time)
}
