//! The machine in a small world of its own: a log that trims and is replaced, a gateway that follows
//! `docs/PROTOCOL.md`, a network that cuts, duplicates, loses and delivers late, clocks that jump.
//!
//! proptest writes the scripts and prints the seed of one that fails. After every input the oracle checks:
//!
//! * I1: every record up to a subscription's cursor was delivered or lies in a gap that was told before;
//! * I2, I3: offsets of one partition strictly grow for each subscription;
//! * I8: no attempt before the slot that the gateway gave;
//! * I9: no attempt while the app has paused, disconnected or closed;
//! * a gap is told only if something was lost;
//! * a timer that has fired is not wanted again for the same moment.
//!
//! At the end the world is left in peace, and everything must arrive.

#[path = "simulation/gateway.rs"]
mod gateway;
#[path = "simulation/log.rs"]
mod log;
#[path = "simulation/oracle.rs"]
mod oracle;
#[path = "simulation/world.rs"]
mod world;

use proptest::prelude::*;
use world::{Action, World};

/// What happens to every client.
fn harmless() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => (0..5usize, 0..2u16, 1..4u64).prop_map(|(topic, partition, step)| Action::Append { topic, partition, step }),
        12 => (1..8usize).prop_map(Action::Flow),
        6 => (1..6usize).prop_map(Action::Pump),
        6 => (1..6usize).prop_map(Action::ToClient),
        4 => (1..6usize).prop_map(Action::ToGateway),
        3 => Just(Action::Token),
        3 => Just(Action::Open),
        4 => Just(Action::Mark),
        2 => Just(Action::Ping),
        3 => any::<bool>().prop_map(Action::Cut),
        2 => Just(Action::Late),
        4 => (0..4usize, 0..5u8).prop_map(|(filter, start)| Action::Subscribe { filter, start }),
        2 => (0..6usize).prop_map(Action::Unsubscribe),
        2 => (0..6usize).prop_map(Action::Park),
        3 => (0..6usize).prop_map(Action::Unpark),
        3 => Just(Action::Publish),
        1 => Just(Action::RefuseSubscription),
        1 => Just(Action::RejectToken),
        1 => Just(Action::TokenFails),
        5 => (0..40_000u64).prop_map(Action::Pass),
        1 => (0..100_000u64).prop_map(Action::Sleep),
        2 => Just(Action::Wake),
        1 => (0..20_000u64).prop_map(Action::GoAway),
        1 => Just(Action::Nonsense),
        1 => Just(Action::Disconnect),
        4 => Just(Action::Connect),
        1 => (0..2usize).prop_map(Action::Pause),
        3 => (0..2usize).prop_map(Action::Resume),
    ]
}

/// And what makes records disappear, or publishes overtake each other.
fn harmful() -> impl Strategy<Value = Action> {
    prop_oneof![
        2 => Just(Action::Duplicate),
        2 => Just(Action::Lose),
        3 => (0..2u16, 1..4usize).prop_map(|(partition, count)| Action::Trim { partition, count }),
        1 => Just(Action::NewLog),
        2 => Just(Action::RefusePublish),
    ]
}

fn script<A: Strategy<Value = Action>>(action: A) -> impl Strategy<Value = Vec<Action>> {
    let begin = || vec![Action::Subscribe { filter: 0, start: 1 }, Action::Connect, Action::Flow(4)];
    (any::<bool>(), prop::collection::vec(action, 1..150)).prop_map(move |(connected, mut rest)| {
        let mut script = if connected { begin() } else { Vec::new() };
        script.append(&mut rest);
        script
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_without_a_word(seed: u64, script in script(prop_oneof![9 => harmless(), 1 => harmful()])) {
        let mut world = World::new(seed);
        for action in script {
            world.act(action);
        }
        world.settle();
    }

    /// With a network that only cuts, there is nothing to tell: no gap, and every publish in order, once.
    #[test]
    fn a_network_that_only_cuts_costs_nothing(
        seed: u64,
        script in script(harmless()),
    ) {
        let mut world = World::new(seed);
        for action in script {
            world.act(action);
        }
        world.settle();
        world.expect_no_gaps_and_ordered_publishes();
    }

    /// Any text at any time: no panic, and the client comes back.
    #[test]
    fn nonsense_is_survived(seed: u64, texts in prop::collection::vec("\\PC{0,60}|\\{\"type\":\"(welcome|mark|gap|subscribed|message)\"[^}]{0,40}\\}?", 1..20)) {
        let mut world = World::new(seed);
        for text in texts {
            world.act(Action::Connect);
            world.act(Action::Token);
            world.act(Action::Open);
            world.say(&text);
        }
        world.settle();
    }
}

/// Every single place at which a connection can break, in one ordinary story.
#[test]
fn a_cut_after_every_single_frame_is_healed() {
    for cut in 0..60 {
        for keep in [false, true] {
            let mut world = World::new(cut);
            world.act(Action::Subscribe { filter: 0, start: 0 });
            world.act(Action::Subscribe { filter: 1, start: 1 });
            world.act(Action::Connect);
            let mut frames = 0;
            for round in 0..10 {
                world.act(Action::Append { topic: round % 5, partition: (round % 2) as u16, step: 1 });
                world.act(Action::Publish);
                for _ in 0..6 {
                    for step in [
                        Action::Token,
                        Action::Open,
                        Action::ToGateway(1),
                        Action::Pump(1),
                        Action::ToClient(1),
                    ] {
                        world.act(step);
                    }
                    frames += 1;
                    if frames == cut {
                        world.act(Action::Cut(keep));
                    }
                }
                world.act(Action::Mark);
            }
            world.settle();
            world.expect_no_gaps_and_ordered_publishes();
        }
    }
}
