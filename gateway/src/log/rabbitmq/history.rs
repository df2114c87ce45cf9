//! The names of the histories, kept by the broker so that all nodes agree.
//!
//! A stream of its own, `QUEUE.history`, holds a chain: each link says which history ended and which began. Many
//! nodes may write at once; of several links that end the same history the first one holds, and the stream's order
//! is the same for all.
//!
//! ```text
//!   0 → a      a → b      a → c      b → d          0 → a → b → d: the history is d
//!                          └ too late, ignored
//! ```
//!
//! A link is written before its streams are made: whoever finds the streams finds the name too. When all are there, that is
//! written down as well ("made d"), and only then is the name told to anybody. So streams that are missing from a history
//! that was made were deleted, and another history begins; one that was not made belongs to nobody's cursor, and is made
//! under its name by the next node (see `topology`).

mod chain;

use super::blank;
use super::fault::Fault;
use super::shared::Shared;
use super::stream::{self, Place, attach};
use super::topology;
use crate::log::now;
use anabranch_protocol::cursor::LogId;
use chain::{Chain, Entry, text};
use lapin::BasicProperties;
use std::time::Duration;
use tokio::sync::Mutex;

/// A stream that answers nothing for so long has nothing. If that is wrong, one record too many is written, and ignored.
const SILENCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(3);

/// The chain as it was read last: histories change once in a blue moon, and their name is asked for every few seconds.
#[derive(Debug, Default)]
pub(super) struct Read {
    last: Mutex<Option<Known>>,
}

/// What was read, up to the broker's offset of its last record, and that record.
#[derive(Clone, Debug)]
struct Known {
    chain: Chain,
    offset: u64,
    body: Vec<u8>,
}

/// Reads the chain. One look at its end, if nothing has changed.
pub(super) async fn read(shared: &Shared) -> Result<Chain, Fault> {
    let mut known = shared.history.last.lock().await;
    let queue = shared.options.history();
    let lane = shared.questions.take().await?;
    let newest = stream::newest(lane.connection(), &queue, SILENCE).await?;
    let Some(newest) = newest.last() else {
        *known = None;
        lane.give_back();
        return Ok(Chain::default());
    };
    let last = stream::offset(newest)?;
    if let Some(known) = &*known
        && (known.offset, &known.body) == (last, &newest.data)
    {
        lane.give_back();
        return Ok(known.chain.clone());
    }
    let mut attached = attach(lane.connection(), &queue, Place::First, u16::MAX).await?;
    let mut chain = Chain::default();
    let body = loop {
        let Some(delivery) = attached.next(PATIENCE).await? else {
            return Err(Fault::Unreachable(format!("the stream {queue} delivers nothing")));
        };
        chain.add(&delivery.data);
        if stream::offset(&delivery)? >= last {
            break delivery.data;
        }
    };
    drop(attached);
    lane.give_back();
    *known = Some(Known { chain: chain.clone(), offset: last, body });
    Ok(chain)
}

/// Ends the history `void` with a new one, unless it has ended already, and reads the chain.
pub(super) async fn append(shared: &Shared, void: LogId) -> Result<Chain, Fault> {
    let id = getrandom::u64().map_err(|error| Fault::Unreachable(format!("no random numbers: {error}")))?;
    let partitions = Some(shared.options.partitions);
    write(shared, &Entry::Link { void: text(void), id: text(LogId(id.max(1))), time: now(), partitions })
        .await
}

/// Writes down that every stream of a history is there.
pub(super) async fn made(shared: &Shared, made: LogId) -> Result<Chain, Fault> {
    let partitions = shared.options.partitions;
    write(shared, &Entry::Made { made: text(made), partitions, time: now() }).await
}

async fn write(shared: &Shared, entry: &Entry) -> Result<Chain, Fault> {
    let body = serde_json::to_vec(entry).map_err(|error| Fault::Refused(error.to_string()))?;
    let properties =
        BasicProperties::default().with_content_type("application/json".into()).with_delivery_mode(2);
    let queue = shared.options.history();
    blank::publish(shared, &queue, properties, &body).await?;
    let chain = read(shared).await?;
    if chain.name().is_none() {
        return Err(Fault::Unreachable(format!("the stream {queue} does not deliver what it confirmed")));
    }
    Ok(chain)
}

/// The name of the newest history; `None` if none has one any more.
pub(super) async fn current(shared: &Shared) -> Result<Option<LogId>, Fault> {
    match read(shared).await {
        Ok(chain) => chain.agreed(&shared.options),
        // Deleted, with the streams or without: `rename` makes it anew.
        Err(Fault::Gone) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// The history after `void`. If no history has a name any more, the first of another chain.
pub(super) async fn rename(shared: &Shared, void: LogId) -> Result<LogId, Fault> {
    match read(shared).await {
        // Its streams are there, as far as anybody knows; whose they are is written down below.
        Ok(chain) if chain.end() == void => drop(append(shared, void).await?),
        Ok(_) | Err(Fault::Gone) => {}
        Err(fault) => return Err(fault),
    }
    topology::establish(shared).await
}
