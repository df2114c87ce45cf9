use crate::body::{Body, cursor};
use anabranch_protocol::client_frame::SnapshotMode;
use anabranch_protocol::code::Code;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Refused, ServerFrame};
use anabranch_sdk_core::{Effect, Start};

fn subscribe(body: &mut Body, id: u32, filter: &str) {
    body.command(|machine, now| {
        machine.subscribe(now, id, filter, Start::Now, SnapshotMode::None).expect("a filter")
    });
}

#[test]
fn what_may_not_be_shown_any_more_leaves_the_cache() {
    let mut body = Body::online(1 << 40);
    subscribe(&mut body, 1, "a/#");
    subscribe(&mut body, 2, "a/public");
    body.subscribed(1, 0);
    body.subscribed(2, 0);
    body.message(1, "a/secret");
    body.message(2, "a/public");
    let all = Filter::new("#").expect("a filter");
    assert_eq!(body.machine.cached(&all, 10).len(), 2);
    body.effects.clear();
    body.receive(&ServerFrame::Revoked { subscription: 1, cursor: cursor(2), code: Code::NOT_ALLOWED });
    assert_eq!(body.effects, [Effect::Revoked { subscription: 1, code: Code::NOT_ALLOWED }]);
    assert_eq!(body.machine.cached(&all, 10).len(), 1, "the other subscription still covers its topic");
    body.message(3, "a/secret");
    assert_eq!(body.effects.len(), 1, "nothing is delivered after it");
}

#[test]
fn closing_forgets_everything_that_names_a_user() {
    let mut body = Body::online(1 << 40);
    subscribe(&mut body, 1, "#");
    body.subscribed(1, 0);
    body.message(1, "a");
    body.command(|machine, now| machine.publish(now, "m", "{}").expect("room"));
    body.command(|machine, now| machine.close(now));
    assert!(body.effects.iter().any(|e| matches!(e, Effect::Failed { retryable: true, .. })));
    assert!(body.machine.cached(&Filter::new("#").expect("a filter"), 10).is_empty());
    assert_eq!(body.machine.cursor(1), None);
}

#[test]
fn a_subscription_refused_for_now_is_asked_for_again_from_its_cursor() {
    let mut body = Body::online(1 << 40);
    let start = Start::After(cursor(5));
    body.command(|machine, now| machine.subscribe(now, 1, "a", start, SnapshotMode::None).expect("a filter"));
    assert_eq!(body.sent(), ["subscribe"]);
    body.receive(&ServerFrame::Refused(Refused {
        code: Code::UPSTREAM_DOWN,
        message: "the log is away".into(),
        retry_after_ms: Some(3_000),
        subscription: Some(1),
        message_id: None,
    }));
    body.pass(2_999);
    assert!(body.sent().is_empty());
    body.pass(1);
    let Some(Effect::Send { text, .. }) = body.effects.last() else { panic!("not asked again") };
    assert!(text.contains(&cursor(5).to_string()), "{text}");
}
