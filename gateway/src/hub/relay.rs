//! One source for several shards: whoever is awake takes from it for all, and everyone gets everything in the same order.
//!
//! `tests/loom.rs` includes this file, with its [bell](super::bell) and its mailboxes.

use super::bell::Bell;
use super::mailbox::Mailbox;
use super::sync::Mutex;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

/// What is taken from.
pub trait Source: Send + 'static {
    type Item: Clone;

    /// Takes one thing, or registers to be woken. `give` gets what it makes: nothing, one item or many. Breaks once there will be no more.
    fn poll_step(&mut self, cx: &mut Context<'_>, give: impl FnMut(Self::Item)) -> Poll<ControlFlow<()>>;

    /// About how much memory an item holds, in bytes.
    fn size(item: &Self::Item) -> usize;
}

/// What one shard has of it.
pub struct Relay<S: Source> {
    shared: Arc<Shared<S>>,
    shard: usize,
}

struct Shared<S: Source> {
    /// Until its end. Locked by who answers the bell.
    source: Mutex<Option<S>>,
    bell: Arc<Bell>,
    /// Rings it.
    waker: Waker,
    mailboxes: Vec<Arc<Mailbox<S::Item>>>,
}

impl<S: Source> Relay<S> {
    /// One for each of the shards with these mailboxes. Once one of them has more than `room` bytes before it, nobody else takes from the
    /// source; so in a mailbox there is at most about twice that.
    pub fn share(source: S, mailboxes: Vec<Arc<Mailbox<S::Item>>>, room: usize) -> Vec<Relay<S>> {
        let count = mailboxes.len();
        let bell = Arc::new(Bell::new(count, room));
        let waker = Waker::from(Arc::clone(&bell));
        let shared = Arc::new(Shared { source: Mutex::new(Some(source)), bell, waker, mailboxes });
        (0..count).map(|shard| Relay { shared: Arc::clone(&shared), shard }).collect()
    }

    /// The shard is awake, and will [poll](Relay::poll_step) before it sleeps.
    pub fn attend(&self) {
        self.shared.bell.attend(self.shard);
    }

    /// The shard will not poll for a while, though it does not sleep: the others are not to wait for it.
    pub fn pass(&self) {
        self.shared.bell.pass(self.shard);
    }

    /// Takes one thing, if there is one and no other shard is about it; `items` gets what it makes, behind what others have made before.
    /// Ready: look into the mailbox and ask again. To be asked by a shard that has attended to all that it had.
    pub fn poll_step(&self, cx: &mut Context<'_>, items: &mut VecDeque<S::Item>) -> Poll<()> {
        let Shared { source, bell, waker, mailboxes } = &*self.shared;
        ready!(bell.poll_answer(self.shard, cx));
        // After the answer, not before: until then another may have been about it.
        _ = mailboxes[self.shard].poll_take(cx, items);
        let mut handed = 0;
        let give = |item: S::Item| {
            handed += S::size(&item);
            let others = mailboxes.iter().enumerate().filter(|&(other, _)| other != self.shard);
            others.for_each(|(_, mailbox)| mailbox.push(item.clone()));
            items.push_back(item);
        };
        // Half a step cannot be gone on from: if one shard has panicked in it, each ends, and its clients go elsewhere.
        let mut source = source.lock().expect("no shard has panicked in the source");
        let step = source.as_mut().map(|source| source.poll_step(&mut Context::from_waker(waker), give));
        if let Some(Poll::Ready(ControlFlow::Break(()))) = step {
            *source = None;
        }
        drop(source);
        bell.done(self.shard, handed, matches!(step, Some(Poll::Ready(ControlFlow::Continue(())))));
        Poll::Ready(())
    }
}

impl<S: Source> Drop for Relay<S> {
    fn drop(&mut self) {
        self.shared.bell.leave(self.shard);
    }
}
