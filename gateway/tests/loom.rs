//! The shard's mailbox under every interleaving: nothing that was pushed is missed, no wake-up is lost.

mod sync {
    pub use loom::sync::{Mutex, MutexGuard};
}
#[path = "../src/hub/mailbox.rs"]
mod mailbox;

use loom::sync::Arc;
use loom::thread;
use mailbox::Mailbox;

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
            loom::future::block_on(std::future::poll_fn(|cx| {
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
