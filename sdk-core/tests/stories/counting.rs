use crate::body::{Body, cursor, position};
use anabranch_protocol::client_frame::{ClientFrame, SnapshotMode};
use anabranch_protocol::server_frame::{GapReason, Outcome, ServerFrame};
use anabranch_sdk_core::{Effect, Start};

/// The ids of the subscriptions asked for since the last look.
fn asked(body: &mut Body) -> Vec<u32> {
    let id = |effect: Effect| match effect {
        Effect::Send { text, .. } => match ClientFrame::from_json(&text).expect("a frame") {
            ClientFrame::Subscribe(subscribe) => Some(subscribe.id),
            _ => None,
        },
        _ => None,
    };
    std::mem::take(&mut body.effects).into_iter().filter_map(id).collect()
}

#[test]
fn a_loss_before_a_pause_of_the_subscription_is_told_after_it() {
    let mut body = Body::online(1 << 40);
    body.command(|machine, now| {
        machine.subscribe(now, 1, "a", Start::Now, SnapshotMode::None).expect("a filter")
    });
    assert_eq!(asked(&mut body), [1]);
    body.subscribed(1, 10);
    // The gateway has sent 11 and 12, and 11 was lost.
    body.message(12, "a");
    body.command(|machine, now| machine.park(now, 1));
    body.command(|machine, now| machine.unpark(now, 1));
    let again = asked(&mut body);
    assert_eq!(again.len(), 1);
    assert_ne!(again, [1], "a late answer to the first could not be told from one to the second");
    body.receive(&ServerFrame::Subscribed {
        subscription: again[0],
        cursor: cursor(12),
        outcome: Outcome::Resumed,
        snapshot: None,
    });
    body.effects.clear();
    body.receive(&ServerFrame::Mark { cursor: cursor(12), delivered: 2 });
    let [Effect::Gap { subscriptions, gap }] = &body.effects[..] else { panic!("{:?}", body.effects) };
    assert_eq!(subscriptions, &[1]);
    assert_eq!(
        (gap.after, gap.before, gap.reason),
        (position(10).offset, position(13).offset, GapReason::Miscount)
    );
}

#[test]
fn an_answer_to_an_earlier_question_starts_nothing() {
    let mut body = Body::online(1 << 40);
    body.command(|machine, now| {
        machine.subscribe(now, 1, "a", Start::Now, SnapshotMode::None).expect("a filter")
    });
    body.command(|machine, now| machine.park(now, 1));
    body.command(|machine, now| machine.unpark(now, 1));
    body.effects.clear();
    body.subscribed(1, 10);
    body.message(11, "a");
    assert!(body.effects.is_empty(), "{:?}", body.effects);
}

#[test]
fn what_no_log_keeps_moves_no_cursor_and_counts_nothing() {
    let mut body = Body::online(1 << 40);
    body.command(|machine, now| {
        machine.subscribe(now, 1, "a/#", Start::Now, SnapshotMode::None).expect("a filter")
    });
    body.command(|machine, now| {
        machine.subscribe(now, 2, "b", Start::Now, SnapshotMode::None).expect("a filter")
    });
    body.subscribed(1, 10);
    body.subscribed(2, 10);
    body.message(11, "a/x");
    body.effects.clear();
    let envelope = r#"{"metadata":{"topic":"a/y"},"payload":1}"#;
    body.receive(&ServerFrame::Transient { envelope });
    let [Effect::Transient { subscriptions, envelope: told }] = &body.effects[..] else {
        panic!("{:?}", body.effects)
    };
    assert_eq!((&subscriptions[..], &**told), (&[1][..], envelope));
    body.effects.clear();
    body.receive(&ServerFrame::Mark { cursor: cursor(11), delivered: 1 });
    assert!(!body.effects.iter().any(|effect| matches!(effect, Effect::Gap { .. })), "{:?}", body.effects);
    // Who is parked takes none.
    body.command(|machine, now| machine.park(now, 1));
    body.effects.clear();
    body.receive(&ServerFrame::Transient { envelope });
    assert!(body.effects.is_empty(), "{:?}", body.effects);
}
