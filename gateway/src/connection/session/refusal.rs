//! What is refused, and how that is said.

use super::Action;
use crate::log::AppendError;
use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::code::{Code, Remedy};
use anabranch_protocol::server_frame::{Refused, ServerFrame};
use std::borrow::Cow;

/// A refusal with its reason for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    /// With the code's own advice as the reason.
    pub fn plain(code: Code) -> Refusal {
        Refusal::new(code, code.advice())
    }
}

/// What a failed append means for its publisher.
pub fn append_refusal(error: &AppendError) -> Refusal {
    let whole = || error.to_string();
    let (code, message) = match error {
        // The reason is the operator's: it may hold addresses, paths and permissions.
        AppendError::Blocked(_) => (Code::UPSTREAM_DOWN, "the log takes no records at present".to_owned()),
        AppendError::Full(_) => (Code::LOG_FULL, "the log is full".to_owned()),
        AppendError::Unknown(_) => {
            (Code::UNCONFIRMED, "the log did not confirm, the record may be stored".to_owned())
        }
        AppendError::Closed => (Code::UPSTREAM_DOWN, whole()),
        AppendError::TooLarge { .. } => (Code::TOO_LARGE, whole()),
        AppendError::Unroutable => (Code::BAD_TOPIC, whole()),
        // As with a grant: whose permissions they are is the operator's.
        AppendError::Refused(_) => {
            (Code::NOT_ALLOWED, "the broker's permissions forbid this topic".to_owned())
        }
    };
    tracing::debug!(%error, "a publish is refused");
    Refusal::new(code, message)
}

/// How long a client that is refused for now should wait, in milliseconds.
const RETRY_AFTER_MS: u64 = 1_000;

fn refused(
    subscription: Option<SubscriptionId>,
    message_id: Option<Cow<'static, str>>,
    refusal: Refusal,
) -> Action {
    let retry_after_ms = (refusal.code.remedy() == Remedy::Retry).then_some(RETRY_AFTER_MS);
    let Refusal { code, message } = refusal;
    Action::Say(ServerFrame::Refused(Refused { code, message, retry_after_ms, subscription, message_id }))
}

pub(super) fn refuse_subscription(id: SubscriptionId, refusal: Refusal) -> Action {
    refused(Some(id), None, refusal)
}

pub(super) fn refuse_message(id: Option<&str>, refusal: Refusal) -> Action {
    refused(None, id.map(|id| id.to_owned().into()), refusal)
}
