//! How one of several shards comes to do what any of them could: whoever is awake does it, one at a time, and if all sleep, one is woken.
//!
//! The rule that makes it safe is the mailbox's: whoever is about to sleep registers under the lock under which it looks whether the
//! bell has rung, and whoever rings looks under that lock whether all sleep. So as long as it rings, somebody is awake who looks
//! again before sleeping. `tests/loom.rs` includes this file and explores its interleavings.

use super::sync::Mutex;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// A bell, and those who may answer it.
pub struct Bell {
    state: Mutex<State>,
    /// Bytes that a shard may have before it, or nobody else answers.
    room: usize,
}

struct State {
    rung: bool,
    /// By which shard.
    answered: Option<usize>,
    shards: Vec<Shard>,
}

struct Shard {
    attention: Attention,
    /// Bytes that others have handed to it since it looked last.
    before_it: usize,
}

enum Attention {
    /// Will look before it sleeps, and before it does much else.
    Awake,
    /// Has so much to do that others are not to wait for it. Will attend before it sleeps.
    Busy,
    Asleep(Waker),
    Gone,
}

impl Bell {
    /// One that rings already, for so many shards, all of which are awake.
    pub fn new(shards: usize, room: usize) -> Bell {
        let awake = || Shard { attention: Attention::Awake, before_it: 0 };
        let shards = std::iter::repeat_with(awake).take(shards).collect();
        Bell { state: Mutex::new(State { rung: true, answered: None, shards }), room }
    }

    /// The shard is awake, and will look before it sleeps: until then nobody needs to be woken.
    pub fn attend(&self, shard: usize) {
        self.lock().shards[shard].attention = Attention::Awake;
    }

    /// The shard will not look for a while, and [attends](Bell::attend) before it sleeps.
    pub fn pass(&self, shard: usize) {
        let mut state = self.lock();
        state.shards[shard].attention = Attention::Busy;
        let woken = if state.rung && !state.is_full(self.room) { state.wake_one() } else { None };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Whether the shard, which has done all that it knows of, is to answer; it must say when it has [done](Bell::done) so. Else it may
    /// sleep: it is woken when the bell rings and nobody else is awake.
    ///
    /// It is not to answer while another has more before it than there is room for: that one looks when it is through. What is handed to a
    /// shard while it looks is not counted, so it may be about twice the room.
    pub fn poll_answer(&self, shard: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        state.shards[shard].before_it = 0;
        if state.answered.is_some() || !state.rung || state.is_full(self.room) {
            match &mut state.shards[shard].attention {
                Attention::Asleep(waker) => waker.clone_from(cx.waker()),
                other => *other = Attention::Asleep(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        (state.rung, state.answered) = (false, Some(shard));
        state.shards[shard].attention = Attention::Awake;
        Poll::Ready(())
    }

    /// The shard has answered, has handed so many bytes to each of the others, and looks again before it sleeps. `more`: there may be
    /// something left to do.
    pub fn done(&self, shard: usize, handed: usize, more: bool) {
        let mut state = self.lock();
        debug_assert_eq!(state.answered, Some(shard), "one at a time");
        state.rung |= more;
        state.answered = None;
        let mut woken = Vec::new();
        for (number, other) in state.shards.iter_mut().enumerate() {
            if number != shard && !matches!(other.attention, Attention::Gone) {
                other.before_it += handed;
                // It may have seen the last of it, and sleep, before this was counted.
                if other.before_it > self.room {
                    woken.extend(other.attention.wake());
                }
            }
        }
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Something is to be done.
    pub fn ring(&self) {
        let mut state = self.lock();
        state.rung = true;
        let woken = state.wake_one();
        drop(state);
        // Outside the lock, as the mailbox does.
        woken.into_iter().for_each(Waker::wake);
    }

    /// The shard has ended, perhaps in the middle of an answer; the others answer from here on.
    pub fn leave(&self, shard: usize) {
        let mut state = self.lock();
        if state.answered == Some(shard) {
            (state.rung, state.answered) = (true, None);
        }
        state.shards[shard] = Shard { attention: Attention::Gone, before_it: 0 };
        let woken = if state.rung { state.wake_one() } else { None };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> super::sync::MutexGuard<'_, State> {
        // As the mailbox's.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    fn is_full(&self, room: usize) -> bool {
        self.shards.iter().any(|shard| shard.before_it > room)
    }

    /// Who is to be woken: one, if all sleep.
    fn wake_one(&mut self) -> Option<Waker> {
        if self.shards.iter().any(|shard| matches!(shard.attention, Attention::Awake)) {
            return None;
        }
        self.shards.iter_mut().find_map(|shard| shard.attention.wake())
    }
}

impl Attention {
    /// Who sleeps is awake from here on, and is to be woken.
    fn wake(&mut self) -> Option<Waker> {
        match self {
            Attention::Asleep(waker) => {
                let waker = waker.clone();
                *self = Attention::Awake;
                Some(waker)
            }
            Attention::Awake | Attention::Busy | Attention::Gone => None,
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}
