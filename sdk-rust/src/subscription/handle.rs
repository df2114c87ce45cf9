//! What others than the one who takes a subscription's events may do with it.

use super::period_ms;
use super::queue::Queue;
use crate::client::Handle;
use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::cursor::Cursor;
use std::fmt;
use std::sync::{Arc, Weak};

/// Asks a [`Subscription`](crate::Subscription) where its app stands, slows it down, or ends it, while somebody else waits for its next event. Cheap
/// to clone. Keeps neither the subscription nor the client.
///
/// ```
/// # anabranch_gateway::testing::example(async |url, token| {
/// # use anabranch::Client;
/// let client = Client::builder(url).token(token).build()?;
/// client.connect();
/// let mut events = client.subscribe("site/#").open()?;
/// let handle = events.handle();
/// let reading = tokio::spawn(async move { while events.next().await.is_some() {} });
/// client.wait_live(std::time::Duration::from_secs(5)).await?;
/// handle.close();                                      // the loop above ends
/// reading.await?;
/// # Ok(()) });
/// ```
#[derive(Clone)]
pub struct SubscriptionHandle {
    client: Weak<Handle>,
    id: SubscriptionId,
    queue: Arc<Queue>,
}

impl SubscriptionHandle {
    pub(super) fn new(client: &Arc<Handle>, id: SubscriptionId, queue: &Arc<Queue>) -> SubscriptionHandle {
        SubscriptionHandle { client: Arc::downgrade(client), id, queue: Arc::clone(queue) }
    }

    /// As [`Subscription::cursor`](crate::Subscription::cursor). After the end, where the app stood then.
    pub fn cursor(&self) -> Option<Cursor> {
        self.queue.cursor()
    }

    /// As [`Subscription::set_max_hz`](crate::Subscription::set_max_hz).
    pub fn set_max_hz(&self, hz: f64) {
        if let Some(client) = self.client.upgrade() {
            client.shared().command(|machine, now| machine.conflate(now, self.id, period_ms(hz)));
        }
    }

    /// Ends the subscription, as dropping it does: whoever waits for its next event gets `None`. Events that wait are dropped, and the one in hand counts as not
    /// handled.
    pub fn close(&self) {
        if let Some(client) = self.client.upgrade() {
            client.shared().unsubscribe(self.id);
        }
    }
}

impl fmt::Debug for SubscriptionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionHandle").field("id", &self.id).finish_non_exhaustive()
    }
}
