//! The pump of a node's only shard: it runs within the shard's turns, so that what a turn appends leaves in that turn.
//!
//! As a task beside the shard it cost each message of a quiet gateway a second turn, and a look at every socket before it: the first
//! wrote the confirm, the other the message. Several shards have one pump, on a thread of its own.

use super::ShardEvent;
use crate::hub::mailbox::Mailbox;
use crate::hub::pump::Pump;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

pub(super) struct OwnPump {
    /// Until the log is closed.
    pump: Option<Pump>,
    bell: Arc<Bell>,
    waker: Waker,
    /// Whether the pump may have something.
    rung: bool,
}

/// Rung when the log has something. It wakes a shard that sleeps, and no other: most of what it rings for, the shard has appended
/// itself.
#[derive(Default)]
struct Bell(Mailbox<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.push(());
    }
}

impl OwnPump {
    pub(super) fn new(pump: Pump) -> OwnPump {
        let bell = Arc::<Bell>::default();
        OwnPump { pump: Some(pump), waker: Waker::from(Arc::clone(&bell)), bell, rung: true }
    }

    /// The shard is awake, and will [poll](OwnPump::poll_step) before it sleeps.
    pub(super) fn attend(&self) {
        self.bell.0.attend();
    }

    /// Takes one thing that the log says, or registers to be woken.
    pub(super) fn poll_step(&mut self, cx: &mut Context<'_>, events: &mut VecDeque<ShardEvent>) -> Poll<()> {
        while let Some(pump) = &mut self.pump {
            if !self.rung && self.bell.0.poll_take(cx, &mut Vec::new()).is_pending() {
                return Poll::Pending;
            }
            let step = pump.poll_step(&mut Context::from_waker(&self.waker), |event| events.push_back(event));
            self.rung = step.is_ready();
            match step {
                Poll::Ready(ControlFlow::Continue(())) => return Poll::Ready(()),
                Poll::Ready(ControlFlow::Break(())) => self.pump = None,
                // It may have been rung since.
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}
