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
use super::mark;
use super::shared::Shared;
use super::stream::{self, Place, attach};
use super::topology;
use crate::log::now;
use anabranch_protocol::cursor::LogId;
use chain::{Chain, Entry, text};
use lapin::BasicProperties;
use std::time::Duration;
use tokio::sync::Mutex;

/// A stream that is not empty answers in a few milliseconds. Whoever may write does so after this and reads on up to there:
/// silence means trouble, and never that no history has a name.
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

/// Reads the chain. An error if the stream delivers nothing, be it empty or the broker busy.
async fn read(shared: &Shared) -> Result<Chain, Fault> {
    look(shared, PATIENCE).await?.ok_or_else(|| silent(shared))
}

/// Reads the chain, or finds that it is empty: not by silence, but by a record that the chain ignores, with nothing before it.
pub(super) async fn read_or_begin(shared: &Shared) -> Result<Chain, Fault> {
    if let Some(chain) = look(shared, SILENCE).await? {
        return Ok(chain);
    }
    let blank = format!("{{\"blank\":\"{}\"}}", text(LogId(random()?)));
    blank::publish(shared, &shared.options.history(), mark::blank(), blank.as_bytes()).await?;
    read_up_to(shared, |_, body| body == blank.as_bytes()).await
}

/// One look at the chain's end, and the whole chain if that has changed. `None` if nothing is delivered in time, which says
/// nothing.
async fn look(shared: &Shared, patience: Duration) -> Result<Option<Chain>, Fault> {
    let queue = shared.options.history();
    let lane = shared.questions.take().await?;
    let newest = stream::newest(lane.connection(), &queue, patience).await?;
    let Some(newest) = newest else { return Ok(None) };
    let last = stream::offset(&newest)?;
    lane.give_back();
    if let Some(known) = &*shared.history.last.lock().await
        && (known.offset, &known.body) == (last, &newest.data)
    {
        return Ok(Some(known.chain.clone()));
    }
    read_up_to(shared, |offset, _| offset >= last).await.map(Some)
}

/// Reads the chain from its beginning up to a record: its broker's offset and its body.
async fn read_up_to(shared: &Shared, end: impl Fn(u64, &[u8]) -> bool) -> Result<Chain, Fault> {
    let lane = shared.questions.take().await?;
    let mut attached = attach(lane.connection(), &shared.options.history(), Place::First, u16::MAX).await?;
    let mut chain = Chain::default();
    let known = loop {
        let Some(delivery) = attached.next(PATIENCE).await? else { return Err(silent(shared)) };
        chain.add(&delivery.data);
        let offset = stream::offset(&delivery)?;
        if end(offset, &delivery.data) {
            break Known { chain: chain.clone(), offset, body: delivery.data };
        }
    };
    drop(attached);
    lane.give_back();
    *shared.history.last.lock().await = Some(known);
    Ok(chain)
}

fn silent(shared: &Shared) -> Fault {
    Fault::Unreachable(format!("the stream {} delivers nothing", shared.options.history()))
}

fn random() -> Result<u64, Fault> {
    getrandom::u64().map_err(|error| Fault::Unreachable(format!("no random numbers: {error}")))
}

/// Ends the history `void` with a new one, unless it has ended already, and reads the chain up to there.
pub(super) async fn append(shared: &Shared, void: LogId) -> Result<Chain, Fault> {
    let id = LogId(random()?.max(1));
    let partitions = Some(shared.options.partitions);
    write(shared, &Entry::Link { void: text(void), id: text(id), time: now(), partitions }).await
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
    read_up_to(shared, |_, written| written == body).await
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
    match look(shared, SILENCE).await {
        // Its streams are there, as far as anybody knows; whose they are is written down below.
        Ok(Some(chain)) if chain.end() == void => drop(append(shared, void).await?),
        // Whether it is empty is found out below too.
        Ok(_) | Err(Fault::Gone) => {}
        Err(fault) => return Err(fault),
    }
    match topology::establish(shared).await? {
        same if same == void => Err(silent(shared)),
        id => Ok(id),
    }
}
