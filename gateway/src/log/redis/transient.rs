//! Redis Pub/Sub: what other programs publish on channels that are named as topics are. Nothing is kept, nothing is repeated,
//! and what comes while the connection is lost is lost with it.

use super::link::{self, ANSWER};
use super::options::Options;
use super::route::Place;
use super::trouble;
use crate::log::Transient;
use crate::log::ingest::{self, Arrival, Ward};
use anabranch_protocol::cursor::Offset;
use anabranch_protocol::filter::Filter;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Msg, RedisError, RedisResult};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Messages that may wait for the hub; more are lost.
const QUEUE: usize = 4096;
/// How often a silent connection is asked whether it is alive.
const PING: Duration = Duration::from_secs(2);
/// The pauses between attempts to connect, first and longest.
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Follows the channels; `None` if the configuration names none.
pub(super) fn start(options: Arc<Options>) -> Option<BoxStream<'static, Transient>> {
    if options.transient.is_empty() {
        return None;
    }
    let (messages, taken) = mpsc::channel(QUEUE);
    tokio::spawn(follow(options, messages));
    Some(unfold(taken, |mut taken| async move { taken.recv().await.map(|message| (message, taken)) }).boxed())
}

/// Connects again and again, until nobody takes the messages any more.
async fn follow(options: Arc<Options>, messages: mpsc::Sender<Transient>) {
    let ward = Ward::default();
    let mut pause = BACKOFF;
    let mut node = 0;
    while !messages.is_closed() {
        let error = match connect(&options, node).await {
            Ok((mut sink, mut stream)) => {
                tracing::info!("transient topics are followed");
                metrics::gauge!("anabranch_transient_up").set(1.0);
                pause = BACKOFF;
                let Some(error) = take(&options, &ward, &mut sink, &mut stream, &messages).await else {
                    return;
                };
                error
            }
            Err(error) => error,
        };
        metrics::gauge!("anabranch_transient_up").set(0.0);
        tracing::warn!(
            "transient topics are not followed, what is published now is lost: {}",
            trouble::explain(&error)
        );
        node += 1;
        tokio::select! {
            () = sleep(pause) => {}
            () = messages.closed() => return,
        }
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

/// Any node of a cluster has every message.
async fn connect(options: &Options, number: usize) -> RedisResult<(PubSubSink, PubSubStream)> {
    let nodes = &options.nodes;
    let (host, port) = nodes.get(number % nodes.len().max(1)).cloned().unwrap_or_default();
    let client = link::client(options, &Place { host, port, asking: false }).await?;
    let connecting = async {
        let (mut sink, stream) = client.get_async_pubsub().await?.split();
        for filter in &options.transient {
            sink.psubscribe(pattern(filter)).await?;
        }
        Ok((sink, stream))
    };
    timeout(ANSWER, connecting).await.unwrap_or_else(|_| Err(link::silent()))
}

/// Takes messages until the connection is lost; `None` if nobody wants them any more.
async fn take(
    options: &Options,
    ward: &Ward,
    sink: &mut PubSubSink,
    stream: &mut PubSubStream,
    messages: &mpsc::Sender<Transient>,
) -> Option<RedisError> {
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(message) => {
                    if let Some(message) = read(options, ward, &message)
                        && messages.try_send(message).is_err()
                    {
                        metrics::counter!("anabranch_transient_missed_total").increment(1);
                    }
                }
                None => return Some(lost()),
            },
            _ = pings.tick() => match timeout(ANSWER, sink.ping::<redis::Value>()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Some(error),
                Err(_) => return Some(link::silent()),
            },
            () = messages.closed() => return None,
        }
    }
}

fn lost() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()
}

/// A message on a channel that one of the filters means: a pattern of Redis may match more than its filter.
fn read(options: &Options, ward: &Ward, message: &Msg) -> Option<Transient> {
    let topic = message.get_channel_name();
    let wanted = options.transient.iter().find(|filter| filter.matches(topic))?;
    // With several filters Redis delivers once for each pattern that matches: the first filter's counts.
    if message.get_pattern::<String>().ok()? != pattern(wanted) {
        return None;
    }
    let id = uuid::Uuid::new_v4().to_string();
    let arrival = Arrival {
        partition: 0,
        offset: Offset(0),
        time: crate::log::now(),
        topic,
        body: Bytes::copy_from_slice(message.get_payload_bytes()),
        message_id: Some(&id),
        source: "redis",
        from_gateway: false,
    };
    match ingest::record(arrival) {
        Ok(record) => Some(Transient { topic: record.topic, envelope: record.envelope }),
        Err(why) => {
            ward.note(why, 0, Offset(0));
            None
        }
    }
}

/// The pattern of Redis for a filter, which matches more than that: `*` stands for any text, `/` included. `a/#` means `a`, too.
fn pattern(filter: &Filter) -> String {
    let text = filter.as_str();
    match text.strip_suffix("/#") {
        Some(parent) => format!("{}*", levels(parent)),
        None => levels(text),
    }
}

fn levels(text: &str) -> String {
    text.split('/').map(level).collect::<Vec<_>>().join("/")
}

fn level(level: &str) -> String {
    if matches!(level, "+" | "#") {
        return "*".to_owned();
    }
    let mut out = String::with_capacity(level.len());
    for c in level.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_becomes_a_pattern() {
        let of = |filter: &str| pattern(&Filter::new(filter).expect("a filter"));
        assert_eq!(of("a/b"), "a/b");
        assert_eq!(of("a/+/b"), "a/*/b");
        assert_eq!(of("a/b/#"), "a/b*");
        assert_eq!(of("#"), "*");
        assert_eq!(of("a*/[b]/c?"), r"a\*/\[b\]/c\?");
    }
}
