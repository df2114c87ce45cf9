//! A shard's mailbox, and what shards share, interleaved in many ways: nothing that was pushed is missed or overtaken, no wake-up is lost.

mod sync {
    pub use loom::sync::{Mutex, MutexGuard};
}
#[path = "../src/hub/bell.rs"]
mod bell;
#[path = "../src/hub/mailbox.rs"]
mod mailbox;
#[path = "../src/hub/relay.rs"]
mod relay;

use bell::Bell;
use loom::thread;
use mailbox::Mailbox;
use relay::{Relay, Source};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

/// Two threads push, one waits. The waiter sleeps only when it is registered: a lost wake-up is a deadlock, which loom
/// reports.
#[test]
fn a_waiting_shard_gets_everything() {
    loom::model(|| {
        let mailbox = Arc::new(Mailbox::default());
        let pushers: Vec<_> = (0..2)
            .map(|n| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || mailbox.push(n))
            })
            .collect();
        let mut got = Vec::new();
        while got.len() < 2 {
            loom::future::block_on(poll_fn(|cx| mailbox.poll_take(cx, &mut got)));
        }
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
        for pusher in pushers {
            pusher.join().unwrap();
        }
    });
}

/// Numbers that somebody sends, one a step.
struct Numbers {
    sent: Arc<Mailbox<usize>>,
    taken: VecDeque<usize>,
}

impl Source for Numbers {
    type Item = usize;

    fn poll_step(&mut self, cx: &mut Context<'_>, mut give: impl FnMut(usize)) -> Poll<ControlFlow<()>> {
        while self.taken.is_empty() {
            ready!(self.sent.poll_take(cx, &mut self.taken));
        }
        self.taken.pop_front().into_iter().for_each(&mut give);
        Poll::Ready(ControlFlow::Continue(()))
    }

    fn size(_: &usize) -> usize {
        1
    }
}

const NUMBERS: usize = 3;

/// Two shards share a source, and have room for so many numbers before them. The first ends when it has so many; the other gets all, and
/// has something else to do first.
fn relayed(room: usize, ends_after: usize) {
    let mut model = loom::model::Builder::new();
    // All interleavings would take minutes.
    model.preemption_bound = Some(2);
    model.check(move || {
        let sent = Arc::<Mailbox<usize>>::default();
        let mailboxes = vec![Arc::<Mailbox<usize>>::default(), Arc::default()];
        let numbers = Numbers { sent: Arc::clone(&sent), taken: VecDeque::new() };
        let mut relays = Relay::share(numbers, mailboxes.clone(), room);
        let (second, first) = (relays.pop().unwrap(), relays.pop().unwrap());
        let first = {
            let mailbox = Arc::clone(&mailboxes[0]);
            thread::spawn(move || get(first, &mailbox, room, false, ends_after))
        };
        let sender = thread::spawn(move || (1..=NUMBERS).for_each(|number| sent.push(number)));
        get(second, &mailboxes[1], room, true, NUMBERS);
        sender.join().unwrap();
        first.join().unwrap();
        let cx = &mut Context::from_waker(Waker::noop());
        let is_empty = |mailbox: &Arc<Mailbox<usize>>| mailbox.poll_take(cx, &mut Vec::new()).is_pending();
        assert!(mailboxes.iter().all(is_empty), "who has ended keeps nothing");
    });
}

/// A shard's life, until it has so many numbers.
fn get(relay: Relay<Numbers>, mailbox: &Mailbox<usize>, room: usize, mut is_busy: bool, count: usize) {
    let mut got = VecDeque::new();
    loom::future::block_on(poll_fn(|cx| {
        relay.attend();
        loop {
            let had = got.len();
            let mut is_all = mailbox.poll_take(cx, &mut got).is_pending();
            assert!(got.len() - had <= 2 * (room + 1), "more than twice the room");
            if got.len() >= count {
                return Poll::Ready(());
            }
            if std::mem::take(&mut is_busy) {
                relay.pass();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            is_all &= relay.poll_step(cx, &mut got).is_pending();
            if is_all {
                return Poll::Pending;
            }
        }
    }));
    mailbox.close();
    let all = got.len();
    assert!(all >= count && got.into_iter().eq(1..=all), "in order, and once");
}

#[test]
fn two_shards_get_all_that_one_of_them_takes() {
    relayed(NUMBERS, NUMBERS);
}

#[test]
fn who_has_much_before_it_keeps_the_other_from_taking_more() {
    relayed(0, NUMBERS);
}

#[test]
fn who_ends_leaves_the_rest_to_the_other() {
    relayed(0, 1);
}

/// Whether a shard was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A bell that has been answered, of two shards: the second sleeps.
fn answered() -> (Bell, Arc<Woken>) {
    let (bell, woken) = (Bell::new(2, 0), Arc::<Woken>::default());
    let waker = Waker::from(Arc::clone(&woken));
    let cx = &mut Context::from_waker(&waker);
    assert!(bell.poll_answer(1, cx).is_ready(), "it rings from the beginning");
    bell.done(1, 0, false);
    assert!(bell.poll_answer(1, cx).is_pending());
    (bell, woken)
}

#[test]
fn nobody_waits_for_who_is_busy() {
    loom::model(|| {
        let (bell, woken) = answered();
        bell.ring();
        assert!(!woken.0.load(Ordering::Relaxed), "the first is awake");
        bell.pass(0);
        assert!(woken.0.load(Ordering::Relaxed), "and does not look for a while");
        let (bell, woken) = answered();
        bell.pass(0);
        bell.ring();
        assert!(woken.0.load(Ordering::Relaxed));
    });
}

#[test]
fn who_ends_in_the_middle_of_an_answer_leaves_it_to_the_other() {
    loom::model(|| {
        let (bell, woken) = answered();
        bell.ring();
        assert!(bell.poll_answer(0, &mut Context::from_waker(Waker::noop())).is_ready());
        bell.leave(0);
        assert!(woken.0.load(Ordering::Relaxed));
        assert!(bell.poll_answer(1, &mut Context::from_waker(Waker::noop())).is_ready());
    });
}
