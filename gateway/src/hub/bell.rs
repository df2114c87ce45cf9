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
    answered: bool,
    shards: Vec<Shard>,
}

struct Shard {
    attention: Attention,
    /// Bytes that others have handed to it since it looked last.
    before_it: usize,
}

enum Attention {
    /// Will look before it sleeps.
    Awake,
    Asleep(Waker),
    Gone,
}

impl Bell {
    /// One that rings already, for so many shards, all of which are awake.
    pub fn new(shards: usize, room: usize) -> Bell {
        let awake = || Shard { attention: Attention::Awake, before_it: 0 };
        let shards = std::iter::repeat_with(awake).take(shards).collect();
        Bell { state: Mutex::new(State { rung: true, answered: false, shards }), room }
    }

    /// The shard is awake, and will look before it sleeps: until then nobody needs to be woken.
    pub fn attend(&self, shard: usize) {
        self.lock().shards[shard].attention = Attention::Awake;
    }

    /// Whether the shard, which has nothing before it, is to answer; it says when it has [done](Bell::done) so. Else it may sleep: it is
    /// woken when the bell rings and nobody else is awake. Cancel safe.
    ///
    /// It is not to answer while another has more before it than there is room for: that one looks when it is through.
    pub fn poll_answer(&self, shard: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        state.shards[shard].before_it = 0;
        let is_full = state.shards.iter().any(|shard| shard.before_it > self.room);
        if state.answered || !state.rung || is_full {
            match &mut state.shards[shard].attention {
                Attention::Asleep(waker) => waker.clone_from(cx.waker()),
                other => *other = Attention::Asleep(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        (state.rung, state.answered) = (false, true);
        state.shards[shard].attention = Attention::Awake;
        Poll::Ready(())
    }

    /// The shard has answered, has handed so many bytes to each of the others, and looks again before it sleeps. `more`: there may be
    /// something left to do.
    pub fn done(&self, shard: usize, handed: usize, more: bool) {
        let mut state = self.lock();
        debug_assert!(state.answered, "one at a time");
        state.rung |= more;
        state.answered = false;
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

    /// The shard has ended; the others answer from here on.
    pub fn leave(&self, shard: usize) {
        let mut state = self.lock();
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
            Attention::Awake | Attention::Gone => None,
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
