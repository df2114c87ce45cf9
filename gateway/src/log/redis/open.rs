//! Opening: the streams are there, and all nodes call the log by one name.
//!
//! The name stands beside partition 0 and is given last, so whoever finds it finds every stream too. A stream that is
//! missing although the log has a name was deleted while no gateway looked: another history. Whoever makes it notes beside it
//! which name is void, so that a node that dies before it gives another leaves that to the next.
//!
//! How many partitions there are is noted first, where nodes with any number look: with different numbers each would write
//! where the other does not read.

use super::link::Link;
use super::options::{Options, WHOLE};
use super::script::Look;
use super::writer::Writer;
use super::{RedisSource, Shared, entry, script, tend};
use crate::log::open::OpenError;
use crate::log::verified::{Patience, Verified};
use anabranch_protocol::cursor::LogId;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use std::sync::Arc;

/// Opens the log, one attempt.
///
/// # Errors
/// [`OpenError::Unreachable`] is worth another attempt, [`OpenError::Wrong`] is not.
pub async fn open(options: Options, patience: Patience) -> Result<Verified<RedisSource>, OpenError> {
    let shared = Arc::new(Shared::new(options));
    let id = name(&shared).await.map_err(|error| OpenError::from(&error))?;
    let look = shared.links[0].ask(script::look(&shared.keys[0], false, None)).await;
    if Look::read(look.map_err(|error| OpenError::from(&error))?).is_none() {
        return Err(OpenError::Wrong("this server is older than Redis 7.0".into()));
    }
    let partitions = 0..shared.options.partitions.max(1);
    let writers = partitions.map(|partition| Writer::start(shared.clone(), partition)).collect();
    tend::start(&shared);
    Ok(Verified::new(Arc::new(RedisSource { shared, writers }), id, patience))
}

async fn name(shared: &Shared) -> RedisResult<LogId> {
    claim(shared).await?;
    let known = current(shared).await?;
    let whole = make(shared, known).await?;
    match known {
        Some(id) if whole => Ok(id),
        Some(void) => {
            tracing::warn!(%void, "a stream of the log was deleted: another history begins");
            give(shared, &void.to_string()).await
        }
        None => give(shared, "").await,
    }
}

/// A new name after `void`; the same for all who ask.
pub(super) async fn rename(shared: &Shared, void: LogId) -> RedisResult<LogId> {
    claim(shared).await?;
    make(shared, Some(void)).await?;
    give(shared, &void.to_string()).await
}

/// Makes sure that all nodes have the same number of partitions.
async fn claim(shared: &Shared) -> RedisResult<()> {
    // On a link that lives no longer: in a cluster the log as a whole may be on a server of its own.
    let link = Link::new(shared.router.clone(), WHOLE);
    let wanted = shared.options.partitions.max(1);
    let noted = link.ask(script::claim(&shared.options.keys(WHOLE), wanted)).await?;
    same_number(shared, noted)
}

fn same_number(shared: &Shared, noted: Value) -> RedisResult<()> {
    let stream = &shared.options.stream;
    let wanted = shared.options.partitions.max(1).to_string();
    let noted = entry::text(noted).unwrap_or_default();
    if noted == wanted {
        return Ok(());
    }
    let text = format!(
        "the log {stream} has {noted}, this node is set to partitions={wanted}. Set the same number on all nodes. To \
         change it, begin another history: choose another stream=, or stop all nodes and delete the keys {stream}* and \
         {{{stream}*"
    );
    Err((ErrorKind::InvalidClientConfig, "the number of partitions differs", text).into())
}

/// The log's name, if it has one.
pub(super) async fn current(shared: &Shared) -> RedisResult<Option<LogId>> {
    let mut command = redis::cmd("HGET");
    command.arg(&shared.keys[0].beside).arg("id");
    match shared.links[0].ask(command).await? {
        Value::Nil => Ok(None),
        id => read(id).map(Some),
    }
}

/// What a node does that opens the log and dies before it names it.
#[cfg(any(test, feature = "testing"))]
pub async fn die_before_naming(options: Options) -> Result<(), OpenError> {
    let shared = Shared::new(options);
    let dying = async { make(&shared, current(&shared).await?).await };
    dying.await.map(drop).map_err(|error| OpenError::from(&error))
}

/// Makes what is missing of the streams; says whether nothing was, nor had been since the log got its name.
async fn make(shared: &Shared, known: Option<LogId>) -> RedisResult<bool> {
    let known = known.map(|id| id.to_string()).unwrap_or_default();
    let mut whole = true;
    for (keys, link) in shared.keys.iter().zip(&shared.links).rev() {
        whole &= link.ask(script::make(keys, &known)).await? == Value::Int(1);
    }
    Ok(whole)
}

async fn give(shared: &Shared, void: &str) -> RedisResult<LogId> {
    let number = getrandom::u64().map_err(|error| strange(&error.to_string()))?;
    let fresh = LogId(number).to_string();
    let partitions = shared.options.partitions.max(1);
    let answer = shared.links[0].ask(script::name(&shared.keys[0], void, &fresh, partitions)).await?;
    let Value::Array(answer) = answer else { return Err(strange("nothing was answered")) };
    let mut answer = answer.into_iter();
    let (id, noted) = (answer.next().unwrap_or(Value::Nil), answer.next().unwrap_or(Value::Nil));
    same_number(shared, noted)?;
    read(id)
}

fn read(id: Value) -> RedisResult<LogId> {
    let text = entry::text(id).unwrap_or_default();
    let number = u64::from_str_radix(&text, 16).ok().filter(|_| text.len() == 16);
    number.map(LogId).ok_or_else(|| strange(&format!("{text:?} stands where the log's name should")))
}

fn strange(what: &str) -> RedisError {
    (ErrorKind::InvalidClientConfig, "the log has no name", what.to_owned()).into()
}
