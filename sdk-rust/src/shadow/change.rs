//! A change of what is desired, until it has settled.

use super::Inner;
use crate::client::Client;
use crate::error::PublishError;
use crate::shared::Confirmed;
use anabranch_protocol::code::Code;
use anabranch_sdk_core::shadow::Outcome;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::oneshot;

/// A change on its way. Dropping it changes nothing.
#[derive(Debug)]
pub struct Change {
    id: String,
    client: Client,
    state: Awaited,
}

#[derive(Debug)]
enum Awaited {
    Waiting(oneshot::Receiver<Settled>),
    Settled(Settled),
    /// The shadow was dropped: nobody will tell.
    Unknown,
}

/// How a change has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// The device reports all that was asked for, as of this version.
    Applied {
        /// The document's version.
        version: u64,
    },
    /// Somebody has asked for something else since, or the shadow was deleted.
    Superseded,
    /// It does not count: the gateway or the log refused it, its time was over, or the app took it back. The view shows what was before.
    Rejected {
        /// Why; its [remedy](Code::remedy) is what to do.
        code: Code,
        /// What happened, for people.
        message: String,
    },
    /// It is on its way still, or the device has not done it yet. The view goes on to show it.
    StillPending,
}

impl From<Outcome> for Settled {
    fn from(outcome: Outcome) -> Settled {
        match outcome {
            Outcome::Applied { version } => Settled::Applied { version },
            Outcome::Superseded => Settled::Superseded,
            Outcome::Rejected { code, message } => Settled::Rejected { code, message },
        }
    }
}

impl Change {
    pub(super) fn new(id: String, client: Client, settled: oneshot::Receiver<Settled>) -> Change {
        Change { id, client, state: Awaited::Waiting(settled) }
    }

    /// The id of the message that carries it, by which the outbox knows it: that of an earlier change, if both have become one message.
    pub fn message_id(&self) -> &str {
        &self.id
    }

    /// Waits until it has settled, at most for so long. Cancel safe; it may be asked again.
    pub async fn settled(&mut self, patience: Duration) -> Settled {
        if let Awaited::Waiting(settled) = &mut self.state {
            match self.client.shared().at_most(patience, settled).await {
                Some(Ok(settled)) => self.state = Awaited::Settled(settled),
                Some(Err(_)) => self.state = Awaited::Unknown,
                None => {}
            }
        }
        match &self.state {
            Awaited::Settled(settled) => settled.clone(),
            Awaited::Waiting(_) | Awaited::Unknown => Settled::StillPending,
        }
    }
}

/// Tells the shadow what becomes of the message, for all changes that it carries.
pub(super) async fn follow(id: String, confirmed: Confirmed, client: Client, shared: Weak<Inner>) {
    // The client was closed: nothing is known.
    let Ok(confirmed) = confirmed.await else { return };
    if let Err(PublishError::Refused { .. }) = &confirmed {
        // It would stand in the way of the next change.
        client.withdraw(&id);
    }
    let Some(shared) = shared.upgrade() else { return };
    let in_doubt = shared.change(|state| match confirmed {
        Ok(_) => state.core.sent(&id),
        Err(PublishError::Refused { code, message }) => {
            state.core.rejected(&id, code, &message);
            false
        }
        Err(error @ PublishError::Withdrawn { .. }) => {
            state.core.rejected(&id, error.code(), &error.to_string());
            false
        }
        // The client was closed.
        Err(_) => false,
    });
    if in_doubt {
        shared.doubt.notify_one();
    }
}
