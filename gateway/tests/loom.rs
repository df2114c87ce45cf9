//! A shard's mailbox, and what shards share, under every interleaving: nothing that was pushed is missed or overtaken, no wake-up is lost.

mod sync {
    pub use loom::sync::{Mutex, MutexGuard};
}
#[path = "../src/hub/bell.rs"]
mod bell;
#[path = "../src/hub/mailbox.rs"]
mod mailbox;
#[path = "../src/hub/relay.rs"]
mod relay;

use loom::thread;
use mailbox::Mailbox;
use relay::{Relay, Source};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Two threads push, one waits. The waiter sleeps only when it is registered: a lost wake-up is a deadlock, which loom
/// reports.
#[test]
fn a_waiting_shard_gets_everything() {
    received(false);
}

/// Nor is anything lost by one that says each time that it is awake.
#[test]
fn an_attending_shard_gets_everything() {
    received(true);
}

fn received(attends: bool) {
    loom::model(move || {
        let mailbox = Arc::new(Mailbox::default());
        let pushers: Vec<_> = (0..2)
            .map(|n| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || mailbox.push(n))
            })
            .collect();
        let mut got = Vec::new();
        while got.len() < 2 {
            loom::future::block_on(poll_fn(|cx| {
                if attends {
                    mailbox.attend();
                }
                mailbox.poll_take(cx, &mut got)
            }));
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

/// Two shards share a source, and have room for so many numbers before them. The first ends when it has so many; the other gets all.
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
            thread::spawn(move || get(first, &mailbox, room, ends_after))
        };
        let sender = thread::spawn(move || (1..=NUMBERS).for_each(|number| sent.push(number)));
        get(second, &mailboxes[1], room, NUMBERS);
        sender.join().unwrap();
        first.join().unwrap();
    });
}

/// A shard's life, until it has so many numbers.
fn get(relay: Relay<Numbers>, mailbox: &Mailbox<usize>, room: usize, count: usize) {
    let mut got = VecDeque::new();
    loom::future::block_on(poll_fn(|cx| {
        relay.attend();
        loop {
            let had = got.len();
            let mut is_all = mailbox.poll_take(cx, &mut got).is_pending();
            // One more is not counted yet if it looks for more right after it came.
            assert!(got.len() - had <= room + 2, "as much as there is room for, and one step");
            if got.len() >= count {
                return Poll::Ready(());
            }
            is_all &= relay.poll_step(cx, &mut got).is_pending();
            if is_all {
                return Poll::Pending;
            }
        }
    }));
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
