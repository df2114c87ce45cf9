//! What goes wrong with Redis, in words for whoever must mend it.

use crate::log::AppendError;
use crate::log::open::OpenError;
use crate::log::source::SourceError;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// The commands and keys that the gateway uses, as an ACL rule; `STREAM` stands for the stream's name.
pub const ACL: &str = "~STREAM* ~{STREAM* +ping +eval +exists +xadd +xread +xrange +xrevrange +xlen +xtrim +xinfo|stream \
    +xgroup|create +xgroup|destroy +hget +hset +hdel +time +select +wait +cluster|slots +cluster|keyslot +asking";

/// An error and its remedy. Never shows a password: the library's errors have none.
pub(super) fn explain(error: &RedisError) -> String {
    let remedy = match code(error) {
        "OOM" => "Redis has reached maxmemory: raise it, or keep less (options maxlen and age)",
        "MISCONF" => "Redis cannot save to its disk and takes no writes: see its log, free the disk",
        "READONLY" => "this Redis is a replica: the log's URL must lead to the primary",
        "NOREPLICAS" => "fewer replicas are in step than min-replicas-to-write demands",
        "NOPERM" => {
            return format!("Redis forbids it ({}); the user needs the ACL rules {ACL}", plain(error));
        }
        "WRONGTYPE" => {
            "the key holds something else than a stream, or the hash :anabranch beside it something else than a hash: choose another name with stream="
        }
        "WRONGPASS" | "NOAUTH" => "Redis does not take the user and the password of the log's URL",
        "SELECT" => {
            "this Redis does not have the database whose number ends the log's URL: see databases in its configuration"
        }
        "LOADING" => "Redis reads its data from the disk; it answers when it is done",
        "CLUSTERDOWN" => "a part of the cluster has no primary",
        _ => return plain(error),
    };
    format!("{remedy} ({})", plain(error))
}

/// The error's own words, on one line.
fn plain(error: &RedisError) -> String {
    if error.is_timeout() {
        return "Redis does not answer in time".into();
    }
    if error.is_io_error() {
        return format!("Redis cannot be reached: {error}");
    }
    let text = match (error.code(), error.detail()) {
        _ if error.kind() == ErrorKind::InvalidClientConfig => {
            error.to_string().replacen(" - InvalidClientConfig", "", 1)
        }
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.chars().take(500).collect()
}

/// The word that the server's error begins with; empty if it did not come from a server.
///
/// A script's error hides the code of the command that failed in its text.
fn code(error: &RedisError) -> &str {
    const INSIDE: [&str; 6] = ["OOM", "MISCONF", "READONLY", "NOREPLICAS", "NOPERM", "WRONGTYPE"];
    match error.code() {
        // The library's words; the server's are the detail.
        Some("ERR") if error.to_string().contains("refused to switch database") => "SELECT",
        Some("ERR") => {
            let detail = error.detail().unwrap_or_default();
            // The words of Redis 7, and of Redis 8 and Valkey 8.
            let forbidden = ["Script killed", "can't run this command", "ACL failure in script"];
            if forbidden.into_iter().any(|words| detail.contains(words)) {
                return "NOPERM";
            }
            INSIDE.into_iter().find(|code| detail.starts_with(code)).unwrap_or("ERR")
        }
        Some(code) => code,
        None if error.kind() == ErrorKind::AuthenticationFailed => "WRONGPASS",
        None => "",
    }
}

/// Whether the connection is of no further use.
pub(super) fn breaks_connection(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
        ),
        ErrorKind::Extension => false,
        _ => true,
    }
}

impl From<&RedisError> for OpenError {
    fn from(error: &RedisError) -> OpenError {
        let text = explain(error);
        match code(error) {
            "WRONGPASS" | "NOAUTH" | "NOPERM" | "WRONGTYPE" | "SELECT" => OpenError::Wrong(text),
            _ if error.kind() == ErrorKind::InvalidClientConfig => OpenError::Wrong(text),
            _ => OpenError::Unreachable(text),
        }
    }
}

pub(super) fn source_error(error: &RedisError) -> SourceError {
    SourceError::Unreachable(explain(error))
}

/// What became of an append that the server refused, or did not answer.
pub(super) fn append_error(error: &RedisError) -> AppendError {
    let text = explain(error);
    match code(error) {
        "OOM" => AppendError::Full(text),
        // Without a word from the server it may have taken the record.
        "" => AppendError::Unknown(text),
        _ => AppendError::Blocked(text),
    }
}
