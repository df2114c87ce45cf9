//! The pump runs within the shards' turns, so that what a turn appends leaves in that turn.
//!
//! As a task beside the shards it cost each message of a quiet gateway a second turn, and a look at every socket before it: the first
//! wrote the confirm, the other the message. Of several shards, whoever is awake pumps for all: always the same one would keep the others
//! waiting while it writes, and a thread of its own gets to it when the shards leave it a core.

use super::ShardEvent;
use crate::hub::mailbox::Mailbox;
use crate::hub::pump::Pump;
use crate::hub::relay::{Relay, Source};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::Handle;

/// What a shard has of its node's pump.
pub type Pumping = Relay<Pumped>;

/// A pump that shards poll.
pub struct Pumped {
    pump: Pump,
    /// Where its timers and sockets live, if it may outlive the shard that polls it first.
    home: Option<Handle>,
}

impl Pumped {
    /// One for each of the shards with these mailboxes, each of which may have about as much before it as its ring holds. To be called in
    /// a runtime that outlives them.
    pub fn share(pump: Pump, mailboxes: Vec<Arc<Mailbox<ShardEvent>>>, ring_bytes: usize) -> Vec<Pumping> {
        let home = (mailboxes.len() > 1).then(Handle::current);
        Relay::share(Pumped { pump, home }, mailboxes, ring_bytes)
    }
}

impl Source for Pumped {
    type Item = ShardEvent;

    fn poll_step(&mut self, cx: &mut Context<'_>, give: impl FnMut(ShardEvent)) -> Poll<ControlFlow<()>> {
        let _home = self.home.as_ref().map(Handle::enter);
        self.pump.poll_step(cx, give)
    }

    fn size(event: &ShardEvent) -> usize {
        let frames = match event {
            ShardEvent::Block(block) | ShardEvent::State(block, _) => block.size(),
            _ => 0,
        };
        size_of::<ShardEvent>() + frames
    }
}
