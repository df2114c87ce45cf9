//! How a socket tells its shard that it can be read or written.

use crate::hub::interest::ConnectionId;
use crate::hub::mailbox::Mailbox;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// One connection's waker: puts its number into the shard's list.
pub struct Ready {
    list: Arc<Mailbox<ConnectionId>>,
    connection: ConnectionId,
}

impl Ready {
    pub fn waker(list: &Arc<Mailbox<ConnectionId>>, connection: ConnectionId) -> Waker {
        Arc::new(Ready { list: Arc::clone(list), connection }).into()
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.list.push(self.connection);
    }
}
