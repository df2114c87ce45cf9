//! What lives have met, step by step.

use super::super::trace::Mode;
use super::super::{paused, trace};
use super::*;
use anabranch_sdk_core::Phase;

impl World<'_> {
    /// The only client gets a socket to this host.
    fn connect_to(&mut self, host: usize, room: usize) {
        while self.clients[0].dialing.is_none() {
            self.answer(0, Answer::Good);
            self.tick(ROUND_MS);
        }
        let pipe = self.hosts[host].dial(room);
        self.clients[0].dialed(pipe, &self.truth);
    }

    /// What is under way between the only client and this host arrives.
    fn talk_to(&mut self, host: usize) {
        for _ in 0..64 {
            self.clients[0].link.iter_mut().for_each(|link| _ = link.push(usize::MAX));
            for shard in [1, 0] {
                self.hosts[host].turn(shard);
            }
            self.clients[0].receive(usize::MAX, &self.truth);
            self.clients[0].take(usize::MAX, &self.truth);
            self.clients[0].commit(usize::MAX, &self.truth);
            while self.clients[0].tell() {}
        }
    }
}

/// A client comes from a node that is ahead of this one. What it has seen last is taken back by a failover before this node has
/// read it, and something else stands there then.
#[test]
fn who_was_ahead_of_a_node_hears_that_another_record_stands_there() {
    let runtime = paused();
    let _context = runtime.enter();
    let mut world = World::of(&runtime, Dice::new(1), true, trace::Trace::new(Mode::Silent), 2, 1);
    world.begin();
    world.connect_to(0, 100_000);
    world.talk_to(0);
    (0..20).for_each(|_| _ = world.append());
    world.talk_to(0);
    let at_head = |world: &World<'_>| {
        world.clients[0].app.cursors().all(|(cursor, _)| cursor.is_some_and(|at| world.truth.is_at_head(at)))
    };
    assert!(at_head(&world), "{}", world.describe());
    world.hosts[0].kill();
    world.talk_to(0);
    world.connect_to(1, 100_000);
    world.talk_to(1);
    assert_eq!(world.clients[0].machine.state().phase, Phase::Syncing, "the other node has read nothing");
    (0..PARTITIONS).for_each(|partition| world.lie(Lie::FailOver(partition, 1)));
    (0..20).for_each(|_| _ = world.append());
    world.settle();
    world.judge();
    assert!(world.clients[0].gaps_told > 0, "a reset was told");
}

/// Who wants all that there is, behind what was forgotten, waits for a node that has read nothing. The log is then made anew, which
/// that node cannot know, and never comes to that place.
#[test]
fn who_waits_for_the_oldest_record_does_not_wait_for_a_log_that_is_gone() {
    let runtime = paused();
    let _context = runtime.enter();
    let mut world = World::of(&runtime, Dice::new(1), true, trace::Trace::new(Mode::Silent), 1, 1);
    world.begin();
    world.lie(Lie::Stall(true));
    (0..30).for_each(|_| _ = world.append());
    for partition in 0..PARTITIONS {
        let all = world.truth.there(partition).count() as u64;
        assert!(all > 2, "{all} records in partition {partition}");
        world.lie(Lie::Forget(partition, all - 1));
    }
    world.connect_to(0, 100_000);
    world.talk_to(0);
    assert_eq!(world.clients[0].machine.state().phase, Phase::Syncing, "the node has read nothing");
    world.lie(Lie::Recreate);
    world.settle();
    world.judge();
}

/// A client ends a subscription of which something is still due, and then comes with a token that grants less.
#[test]
fn what_is_due_of_an_ended_subscription_does_not_outlive_its_grants() {
    let runtime = paused();
    let _context = runtime.enter();
    let mut world = World::of(&runtime, Dice::new(1), true, trace::Trace::new(Mode::Silent), 1, 1);
    world.begin();
    world.connect_to(0, 300);
    while world.clients[0].request.is_none() {
        world.talk_to(0);
        world.tick(ROUND_MS);
    }
    (0..30).for_each(|_| _ = world.append());
    // The socket is full soon, and the rest is due.
    for _ in 0..4 {
        world.hosts[0].turn(0);
    }
    world.clients[0].unsubscribe(&world.truth);
    world.answer(0, Answer::Narrow);
    // The link checks what comes.
    world.talk_to(0);
    world.settle();
    world.judge();
}
