//! What waits to be published, over restarts where there is a store.

use crate::client::{Client, Handle};
use crate::error::PublishError;
use crate::publish::Published;
use anabranch_protocol::code::Code;
use std::sync::Arc;
use tokio::sync::oneshot;

/// A message in the outbox. Dropping it changes nothing: the message is published all the same.
///
/// ```
/// # anabranch_gateway::testing::example(async |url, token| {
/// # use anabranch::Client;
/// # let client = Client::builder(url).token(token).build()?;
/// let kept = client.publish("site/door").payload_text("\"open\"").queue().await?;
/// let regretted = client.publish("site/door").payload_text("\"ajar\"").queue().await?;
/// assert!(regretted.withdraw());                       // it was not sent
/// assert_eq!(client.outbox().len(), 1);
/// client.connect();
/// let published = kept.confirmed().await?;
/// # assert!(!published.duplicate && client.outbox().is_empty());
/// # Ok(()) });
/// ```
#[derive(Debug)]
pub struct Queued {
    pub(crate) handle: Arc<Handle>,
    pub(crate) message_id: String,
    pub(crate) confirm: oneshot::Receiver<Result<Published, PublishError>>,
}

impl Queued {
    /// Under which the log keeps one copy, and [`Client::outbox`] shows it.
    pub fn message_id(&self) -> &str {
        &self.message_id
    }

    /// Waits until the log has it.
    ///
    /// Cancel safe: dropping the future gives up waiting, not the message.
    ///
    /// # Errors
    /// [`PublishError::Refused`]: it stays in the outbox, [wedged](Outboxed::wedged). [`Code::EXPIRED`] in it: its time to live has ended, and it is
    /// gone.
    pub async fn confirmed(self) -> Result<Published, PublishError> {
        match self.confirm.await {
            Ok(result) => result,
            Err(_) => Err(PublishError::Unconfirmed { message_id: self.message_id }),
        }
    }

    /// Takes it back. `false`: it may have been sent already.
    pub fn withdraw(&self) -> bool {
        self.handle.shared().withdraw(&self.message_id)
    }
}

/// A message that waits for its confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outboxed {
    /// Under which the log will keep one copy.
    pub message_id: String,
    /// Where it goes.
    pub topic: String,
    /// The whole of it, as JSON text.
    pub envelope: String,
    /// Whether the gateway may have seen it.
    pub sent: bool,
    /// Why the gateway refused it for good. It waits for [`Client::retry`] or [`Client::withdraw`], and so does what stands behind it on its
    /// topic.
    pub wedged: Option<(Code, String)>,
}

impl Client {
    /// What waits for its confirm, oldest first, and what was refused and is kept.
    pub fn outbox(&self) -> Vec<Outboxed> {
        let locked = self.shared().lock();
        let waiting = locked.machine.outbox().map(|one| Outboxed {
            message_id: one.message_id.to_owned(),
            topic: one.topic.to_owned(),
            envelope: one.envelope.to_owned(),
            sent: one.sent,
            wedged: one.wedged.map(|(code, message)| (code, message.to_owned())),
        });
        waiting.collect()
    }

    /// Takes a message out of the outbox that never was sent, or is wedged. `false` if there is none.
    pub fn withdraw(&self, message_id: &str) -> bool {
        self.shared().withdraw(message_id)
    }

    /// Tries a wedged message again, under the same id. `false` if there is none.
    pub fn retry(&self, message_id: &str) -> bool {
        let mut there = false;
        self.shared().command(|machine, now| there = machine.retry(now, message_id));
        there
    }
}
