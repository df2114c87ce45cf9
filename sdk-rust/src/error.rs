//! One narrow error for each operation.
//!
//! Each says whether the same thing may work later (`is_retryable`), so that an app need not know the reasons to act rightly; those after which it is not known
//! whether something has happened say that, too (`could_have_happened`). What the client itself tries again (a lost connection, a publish without a confirm, a
//! token that could not be fetched) is no error at all: it shows in [`Client::states`](crate::Client::states).
//!
//! | error | of |
//! |---|---|
//! | [`BuildError`] | `ClientBuilder::build` |
//! | [`WaitError`] | `Client::wait_live` |
//! | [`SubscribeError`] | `Subscribe::open`, `OpenShadow::open`, `Client::commands` |
//! | [`PublishError`] | `Publish::send`, `Publish::queue`, `Queued::confirmed`, `Shadow::set_desired`, `Shadow::report`, `Commands::send` |
//! | [`CommandError`] | `Job::reply` |
//! | [`ServeError`] | `Serve::open`, `Serve::run`, `Serving::next_request`, `Serving::answer` |
//! | [`NameError`] | `CachedRead::read`; inside others |
//! | [`StoreError`] | `SqliteStore::open`, `Client::flush`, `Client::log_out` |
//! | [`CursorError`] | reading a [`Cursor`](crate::Cursor) from text |

pub use anabranch_protocol::cursor::CursorError;
pub use anabranch_protocol::topic::NameError;
pub use anabranch_sdk_core::PublishRefused;
pub use anabranch_sdk_core::store::StoreError;

use anabranch_protocol::code::{Code, Remedy};
use anabranch_sdk_core::Phase;
use thiserror::Error;

/// A client cannot be built like this.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Not a `ws://` or `wss://` URL with a host.
    #[error("not a WebSocket URL: {url}: {reason}")]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Over 128 bytes.
    #[error("the client id is over 128 bytes")]
    ClientId,
    /// The client needs a tokio runtime, which it takes from where it is built.
    #[error("no tokio runtime here: build the client inside one, or name one with `runtime`")]
    NoRuntime,
    /// The system has no random numbers to give.
    #[error("no random numbers from the system: {0}")]
    Random(getrandom::Error),
    /// The TLS library refused its own defaults.
    #[cfg(feature = "tls")]
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
    /// The system has no thread for the store.
    #[error("no thread for the store: {0}")]
    Thread(std::io::Error),
}

impl BuildError {
    /// Whether it may work later: the system had no random numbers, or no thread.
    pub fn is_retryable(&self) -> bool {
        matches!(self, BuildError::Random(_) | BuildError::Thread(_))
    }
}

/// A subscription cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The filter is not one.
    #[error("not a filter: {0}")]
    Filter(#[from] NameError),
    /// Another subscription goes by the name that was given to [`keep_as`](crate::Subscribe::keep_as).
    #[error("another subscription is kept as {0:?}: drop it first, or choose another name")]
    NameInUse(String),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
}

impl SubscribeError {
    /// The gateway's code that says the same.
    pub fn code(&self) -> Code {
        match self {
            SubscribeError::Filter(_) => Code::BAD_FILTER,
            SubscribeError::NameInUse(_) => Code::SUBSCRIPTION_IN_USE,
            SubscribeError::Closed => Code::GOING_AWAY,
        }
    }

    /// Always `false`: none gets better by itself.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A command was not done, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It was refused, or the device could not do it, or not wholly.
    #[error("{0}")]
    Failed(String),
    /// It was not begun in time, and will not be.
    #[error("the command was not begun in time, and will not be")]
    Expired,
    /// It was taken back before it was sent.
    #[error("the command was taken back before it was sent")]
    Cancelled,
    /// Its time is over and there is no answer: it may have been done.
    #[error("no answer in time: whether the command was done is not known")]
    Unanswered,
    /// The device's result is not what was expected.
    #[error("the result is of another shape: {0}")]
    Result(String),
}

impl CommandError {
    /// Whether giving the command anew is safe and may work: it was not begun.
    pub fn is_retryable(&self) -> bool {
        matches!(self, CommandError::Expired)
    }

    /// Whether the device may have done it all the same, or a part of it.
    pub fn could_have_happened(&self) -> bool {
        matches!(self, CommandError::Failed(_) | CommandError::Unanswered | CommandError::Result(_))
    }
}

/// Commands cannot be served, or no longer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The requests cannot be subscribed to.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// The gateway ended the subscription.
    #[error("the gateway ended the requests: {0:?}")]
    Closed(crate::Closed),
    /// What was handled cannot be written down, so nothing more is done.
    #[error("the journal {file}: {error}")]
    Journal {
        /// The journal.
        file: String,
        /// What the system says.
        error: std::io::Error,
    },
}

impl ServeError {
    /// Whether serving anew may work: another process serves with this journal and may end, or the gateway says so.
    pub fn is_retryable(&self) -> bool {
        match self {
            ServeError::Subscribe(error) => error.is_retryable(),
            ServeError::Closed(why) => why.is_retryable(),
            ServeError::Journal { error, .. } => error.kind() == std::io::ErrorKind::AlreadyExists,
        }
    }
}

/// `wait_live` ended without the connection being live.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Time is up. The client goes on trying.
    #[error("not live in time: {}{}", .phase.name(), failure(.last_failure))]
    TimedOut {
        /// Where the connection stands.
        phase: Phase,
        /// What went wrong last, for people.
        last_failure: Option<String>,
    },
    /// The gateway refuses the tokens; see [`Client::connect`](crate::Client::connect).
    #[error("the gateway accepts none of the tokens{}", failure(.last_failure))]
    NeedsAuth {
        /// What went wrong last, for people.
        last_failure: Option<String>,
    },
    /// The client was closed, or told by the gateway to stop.
    #[error("the client is closed{}", failure(.last_failure))]
    Closed {
        /// Why, if the gateway said so.
        code: Option<Code>,
        /// What went wrong last, for people.
        last_failure: Option<String>,
    },
}

fn failure(last: &Option<String>) -> String {
    last.as_ref().map(|text| format!(" ({text})")).unwrap_or_default()
}

impl WaitError {
    /// Whether waiting longer may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, WaitError::TimedOut { .. })
    }
}

/// A message was not published, or it is not known whether it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The topic is not one.
    #[error("not a topic: {0}")]
    Topic(#[from] NameError),
    /// The value cannot be written as JSON.
    #[error("the payload cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It was not even queued.
    #[error("not queued: {0}")]
    NotQueued(#[from] PublishRefused),
    /// The gateway will not have it.
    #[error("refused by the gateway: {code}: {message}")]
    Refused {
        /// Why; its [remedy](Code::remedy) is what to do.
        code: Code,
        /// What happened, for people.
        message: String,
    },
    /// The app has taken it back. The gateway never had it, or had refused it.
    #[error("{message_id} was withdrawn")]
    Withdrawn {
        /// Which message.
        message_id: String,
    },
    /// The store could not take it. It is published all the same, but ends with the process.
    #[error("the store could not take {message_id}: {why}")]
    NotKept {
        /// Which message.
        message_id: String,
        /// What the store could not do, for people.
        why: String,
    },
    /// The client was closed before the confirm. The log may have it: publish again under the same message id.
    #[error("the client was closed before the gateway confirmed {message_id}")]
    Unconfirmed {
        /// Which message.
        message_id: String,
    },
}

impl PublishError {
    /// The gateway's code, or the one that says the same.
    pub fn code(&self) -> Code {
        match self {
            PublishError::Topic(_) => Code::BAD_TOPIC,
            PublishError::Json(_) => Code::BAD_ENVELOPE,
            PublishError::NotQueued(refused) => refused.code(),
            PublishError::Refused { code, .. } => *code,
            PublishError::Withdrawn { .. } => Code::EXPIRED,
            PublishError::Unconfirmed { .. } | PublishError::NotKept { .. } => Code::UNCONFIRMED,
        }
    }

    /// Whether the same thing may work later, under the same message id.
    pub fn is_retryable(&self) -> bool {
        match self {
            PublishError::NotQueued(refused) => refused.is_retryable(),
            _ => self.code().remedy() == Remedy::Retry,
        }
    }

    /// Whether the log may have the message all the same.
    pub fn could_have_happened(&self) -> bool {
        matches!(self, PublishError::Unconfirmed { .. } | PublishError::NotKept { .. })
    }
}
