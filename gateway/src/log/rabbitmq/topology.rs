//! Exchange, streams and bindings: declared, or checked.
//!
//! ```text
//!   publishers ──▶ exchange (topic) ──bindings──▶ stream
//!   other exchange ──▲
//!
//!   with partitions:  exchange ──bindings──▶ QUEUE.partitions (consistent hash) ──▶ QUEUE-0, QUEUE-1, …
//!   always:           QUEUE.history, the names of the histories
//!   for a moment:     QUEUE.turn, which one node at a time can have
//! ```

pub(super) mod turn;

use super::fault::Fault;
use super::history;
use super::options::Options;
use super::shared::Shared;
use anabranch_protocol::cursor::LogId;
use lapin::options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ExchangeKind};

/// Declares or checks everything, and says which history there is.
///
/// One node at a time, so none acts on what another is about to change. If a stream is missing from a history that was made,
/// another history begins; one that was not made is completed under its name. No step is lost if a node dies between two: the
/// next one finds what was done, and nobody has been told the name before the last.
pub(super) async fn establish(shared: &Shared) -> Result<LogId, Fault> {
    let _one_at_a_time = shared.declaring.lock().await;
    let options = &*shared.options;
    let connection = shared.connector.connect("declarations").await?;
    exchange(&connection, options).await?;
    queue(&connection, options, &options.history(), FieldTable::default()).await?;
    // Who may not declare makes no stream either.
    let turn = if options.declare { Some(turn::take(&connection, options).await?) } else { None };
    let mut chain = history::read_or_begin(shared).await?;
    let mut forget = false;
    // Looked at again after each link: another node's may have come first, and that history may have ended as well.
    loop {
        let divided = chain.partitions().unwrap_or(options.partitions);
        let mut found = 0;
        for name in options.streams(divided) {
            found += usize::from(exists(&connection, &name).await?);
        }
        let missing = found < usize::from(divided);
        forget |= missing;
        let same = divided == options.partitions;
        let ended = if chain.was_made() { missing && (same || found == 0) } else { !same };
        if chain.name().is_some() && !(options.declare && ended) {
            break;
        }
        chain = history::append(shared, chain.end()).await?;
    }
    chain.agreed(options)?;
    for name in options.streams(options.partitions) {
        queue(&connection, options, &name, retention(options)).await?;
    }
    if options.declare {
        bind(&connection, options).await?;
    }
    if !chain.was_made() || chain.partitions().is_none() {
        chain = history::made(shared, chain.end()).await?;
    }
    if forget {
        shared.sights().iter().for_each(super::sight::Sight::forget);
    }
    if let Some(turn) = turn {
        turn.end().await;
    }
    chain.agreed(options)?.ok_or_else(|| Fault::Unreachable("the history has no name".to_owned()))
}

/// What a stream is asked to keep.
fn retention(options: &Options) -> FieldTable {
    let whole = |number: u64| AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX));
    let mut arguments = FieldTable::default();
    if let Some(bytes) = options.retention_bytes {
        arguments.insert("x-max-length-bytes".into(), whole(bytes));
    }
    if let Some(age) = options.retention_age {
        arguments.insert("x-max-age".into(), AMQPValue::LongString(format!("{}s", age.as_secs()).into()));
    }
    arguments.insert("x-stream-max-segment-size-bytes".into(), whole(options.segment_bytes));
    arguments
}

async fn exchange(connection: &Connection, options: &Options) -> Result<(), Fault> {
    let name = &options.exchange;
    // Declaring one that is there checks its type, of the broker's own too.
    let how = ExchangeDeclareOptions {
        durable: true,
        passive: !options.declare,
        ..ExchangeDeclareOptions::default()
    };
    let channel = connection.create_channel().await?;
    let declared =
        channel.exchange_declare(name.as_str().into(), ExchangeKind::Topic, how, FieldTable::default()).await;
    declared.map_err(|error| match Fault::from(error) {
        Fault::Refused(text) => Fault::Refused(format!(
            "the exchange {name:?} cannot be used: {text}. It must be a durable topic exchange, and we must be \
             allowed to configure and write it"
        )),
        other => other,
    })
}

/// Whether a queue is there.
async fn exists(connection: &Connection, name: &str) -> Result<bool, Fault> {
    let how = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = connection.create_channel().await?;
    match channel.queue_declare(name.into(), how, FieldTable::default()).await.map_err(Fault::from) {
        Ok(_) => Ok(true),
        Err(Fault::Gone) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Declares a stream, or checks that it is there.
async fn queue(
    connection: &Connection,
    options: &Options,
    name: &str,
    mut arguments: FieldTable,
) -> Result<(), Fault> {
    if !options.declare {
        return match exists(connection, name).await? {
            true => Ok(()),
            false => Err(Fault::Refused(format!(
                "the queue {name:?} does not exist, and declare=no forbids to make it: declare it as durable, with \
                 x-queue-type=stream"
            ))),
        };
    }
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    let how = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let channel = connection.create_channel().await?;
    match channel.queue_declare(name.into(), how, arguments).await.map_err(Fault::from) {
        Ok(_) => Ok(()),
        // The broker names both values.
        Err(Fault::Refused(text)) if text.contains("inequivalent arg") => Err(Fault::Refused(format!(
            "the queue {name:?} exists with other settings: {text}. Make retention, age and segment agree with it, \
             delete the queue, or say declare=no and set its retention by a policy"
        ))),
        Err(Fault::Refused(text)) => {
            Err(Fault::Refused(format!("the queue {name:?} cannot be used: {text}")))
        }
        Err(fault) => Err(fault),
    }
}

/// Binds what is declared. A binding that is there already stays; one that is no longer wanted stays too.
async fn bind(connection: &Connection, options: &Options) -> Result<(), Fault> {
    let refused = |what: String| {
        move |error: lapin::Error| match Fault::from(error) {
            Fault::Refused(text) => Fault::Refused(format!("{what}: {text}")),
            other => other,
        }
    };
    let channel = connection.create_channel().await?;
    let ours = options.exchange.as_str();
    let none = FieldTable::default;
    for feed in &options.from {
        let (from, key) = (feed.exchange.as_str(), feed.binding.as_str());
        let bound = channel
            .exchange_bind(ours.into(), from.into(), key.into(), ExchangeBindOptions::default(), none())
            .await;
        bound.map_err(refused(format!("{ours:?} cannot be bound to the exchange {from:?}")))?;
    }
    if options.partitions == 1 {
        for key in options.keys() {
            let queue = options.queue.as_str();
            let bound = channel
                .queue_bind(queue.into(), ours.into(), key.into(), QueueBindOptions::default(), none())
                .await;
            bound.map_err(refused(format!("the queue {queue:?} cannot be bound to {ours:?}")))?;
        }
        return Ok(());
    }
    let divider = options.divider();
    let how = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let kind = ExchangeKind::Custom("x-consistent-hash".to_owned());
    channel.exchange_declare(divider.as_str().into(), kind, how, none()).await.map_err(refused(format!(
        "the exchange {divider:?} cannot be used (partitions need RabbitMQ's plugin \
         rabbitmq_consistent_hash_exchange)"
    )))?;
    for queue in options.streams(options.partitions) {
        // The key is the partition's weight.
        let bound = channel
            .queue_bind(
                queue.as_str().into(),
                divider.as_str().into(),
                "1".into(),
                QueueBindOptions::default(),
                none(),
            )
            .await;
        bound.map_err(refused(format!("the queue {queue:?} cannot be bound to {divider:?}")))?;
    }
    for key in options.keys() {
        let bound = channel
            .exchange_bind(
                divider.as_str().into(),
                ours.into(),
                key.into(),
                ExchangeBindOptions::default(),
                none(),
            )
            .await;
        bound.map_err(refused(format!("{divider:?} cannot be bound to {ours:?}")))?;
    }
    Ok(())
}
