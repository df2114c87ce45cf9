use crate::body::{Body, cursor, position};
use anabranch_protocol::client_frame::{ClientFrame, SnapshotMode, StartAt, Subscribe};
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::server_frame::{About, Gap, GapReason, Outcome, ServerFrame, Snapshot};
use anabranch_sdk_core::{Effect, Start};

fn beginning() -> Cursor {
    Cursor::beginning(cursor(0).log())
}

fn subscribe(body: &mut Body, start: Start, mode: SnapshotMode) {
    body.command(|machine, now| machine.subscribe(now, 1, "a/#", start, mode).expect("a filter"));
    body.effects.clear();
}

/// The gateway's answer: events after `after`, newest values after `state`.
fn subscribed(body: &mut Body, after: u64, outcome: Outcome, whole: bool, state: Cursor) {
    let snapshot = Some(Snapshot { whole, state });
    body.receive(&ServerFrame::Subscribed { subscription: 1, cursor: cursor(after), outcome, snapshot });
}

fn value(body: &mut Body, offset: u64) {
    let envelope = format!(r#"{{"metadata":{{"topic":"a/{offset}"}},"payload":{offset}}}"#);
    let about = About { snapshot: true, ..About::default() };
    body.receive(&ServerFrame::Message { position: position(offset), about, envelope: &envelope });
}

/// What the app was told since the last look: offsets, and words for the rest.
fn told(body: &mut Body) -> Vec<String> {
    let word = |effect: Effect| match effect {
        Effect::Deliver { position, about, .. } => {
            Some(format!("{}{}", position.offset, if about.snapshot { " value" } else { "" }))
        }
        Effect::SnapshotBegins { .. } => Some("begins".to_owned()),
        Effect::SnapshotEnds { complete, .. } => {
            Some(if complete { "ends" } else { "ends, not complete" }.to_owned())
        }
        Effect::Gap { gap, .. } => Some(format!("gap {}..{}", gap.after, gap.before)),
        Effect::Live { .. } => Some("live".to_owned()),
        _ => None,
    };
    std::mem::take(&mut body.effects).into_iter().filter_map(word).collect()
}

fn caught_up(body: &mut Body, offset: u64) {
    body.receive(&ServerFrame::CaughtUp { cursor: cursor(offset) });
}

/// What was asked of the gateway for the subscription on a new connection.
fn asked_again(body: &mut Body) -> Subscribe<'static> {
    body.lose(1006);
    assert!(body.pass_until(60_000, |body| body.attempt.is_some()), "does not come back");
    body.open();
    let hello = body.effects.iter().find_map(|effect| match effect {
        Effect::Send { text, .. } => match ClientFrame::from_json(text).expect("a frame") {
            ClientFrame::Hello(hello) => {
                let asked = hello.subscriptions.into_iter().next().expect("a subscription");
                let own = |text: std::borrow::Cow<'_, str>| text.into_owned().into();
                let StartAt::Cursor(at) = asked.start else { panic!("{:?}", asked.start) };
                Some(Subscribe {
                    id: asked.id,
                    filter: own(asked.filter),
                    start: StartAt::Cursor(own(at)),
                    snapshot: asked.snapshot,
                    state: asked.state.map(own),
                    conflate_ms: asked.conflate_ms,
                })
            }
            _ => None,
        },
        _ => None,
    });
    body.welcome(1 << 40);
    body.effects.clear();
    hello.expect("a hello")
}

#[test]
fn values_from_before_the_cursor_come_once_and_the_app_stands_still_meanwhile() {
    let mut body = Body::online(1 << 40);
    subscribe(&mut body, Start::Now, SnapshotMode::IfNew);
    subscribed(&mut body, 10, Outcome::Live, true, beginning());
    value(&mut body, 3);
    value(&mut body, 3);
    body.message(5, "a/5"); // An event from before: another subscription's.
    value(&mut body, 7);
    assert_eq!(told(&mut body), ["begins", "3 value", "7 value"]);
    assert_eq!(body.machine.cursor(1), None, "from its cursor, the rest would not come");
    body.message(12, "a/5");
    value(&mut body, 13);
    caught_up(&mut body, 14);
    assert_eq!(told(&mut body), ["12", "13 value", "ends", "live"]);
    assert_eq!(body.machine.cursor(1), Some(&cursor(14)));
    value(&mut body, 9);
    assert_eq!(told(&mut body), [""; 0], "it is over");
}

#[test]
fn an_interrupted_snapshot_goes_on_where_it_stood() {
    let mut body = Body::online(1 << 40);
    subscribe(&mut body, Start::Now, SnapshotMode::Always);
    subscribed(&mut body, 10, Outcome::Live, true, beginning());
    value(&mut body, 3);
    body.effects.clear();
    let asked = asked_again(&mut body);
    assert_eq!(asked.start, StartAt::Cursor(cursor(10).to_string().into()));
    assert_eq!(asked.state.as_deref(), Some(&*cursor(3).to_string()));
    assert_eq!(asked.snapshot, SnapshotMode::IfNew, "the app's wish was granted");
    subscribed(&mut body, 10, Outcome::Resumed, false, cursor(3));
    value(&mut body, 7);
    body.receive(&ServerFrame::Incomplete);
    caught_up(&mut body, 10);
    assert_eq!(told(&mut body), ["7 value", "ends, not complete", "live"]);
    assert_eq!(body.machine.cursor(1), Some(&cursor(10)));
}

#[test]
fn cut_behind_the_values_nothing_comes_twice() {
    let mut body = Body::online(1 << 40);
    subscribe(&mut body, Start::Now, SnapshotMode::IfNew);
    subscribed(&mut body, 10, Outcome::Live, true, beginning());
    value(&mut body, 7);
    value(&mut body, 12);
    body.effects.clear();
    let asked = asked_again(&mut body);
    assert_eq!(asked.start, StartAt::Cursor(cursor(12).to_string().into()));
    assert_eq!(asked.state, None, "everything before it has come");
    subscribed(&mut body, 12, Outcome::Resumed, false, cursor(12));
    value(&mut body, 12);
    value(&mut body, 13);
    caught_up(&mut body, 13);
    assert_eq!(told(&mut body), ["13 value", "ends", "live"]);
}

#[test]
fn values_among_what_is_gone_come_before_the_cursor_moves_over_it() {
    let mut body = Body::online(1 << 40);
    subscribe(&mut body, Start::After(cursor(5)), SnapshotMode::IfNew);
    let gap = Gap {
        partition: 0,
        after: position(5).offset,
        before: position(9).offset,
        reason: GapReason::Retention,
    };
    subscribed(&mut body, 8, Outcome::Gap(gap), false, cursor(5));
    value(&mut body, 6);
    assert_eq!(told(&mut body), ["gap 5..9", "6 value"]);
    assert_eq!(body.machine.cursor(1), Some(&cursor(5)), "the app may end now, and miss nothing later");
    body.receive(&ServerFrame::Mark { cursor: cursor(8), delivered: 1 });
    assert_eq!(body.machine.cursor(1), Some(&cursor(8)), "all values from before it have come");
    caught_up(&mut body, 8);
    assert_eq!(told(&mut body), ["live"]);
}

#[test]
fn a_gap_in_the_stream_may_be_followed_by_the_values_among_what_is_gone() {
    let mut body = Body::online(1 << 40);
    subscribe(&mut body, Start::Now, SnapshotMode::None);
    body.subscribed(1, 4);
    let gap = |before| Gap {
        partition: 0,
        after: position(4).offset,
        before: position(before).offset,
        reason: GapReason::Retention,
    };
    body.receive(&ServerFrame::Gap { gap: gap(9), values: true });
    value(&mut body, 6);
    assert_eq!(body.machine.cursor(1), Some(&cursor(4)), "the rest of them would not come again");
    body.message(9, "a/9");
    caught_up(&mut body, 9);
    assert_eq!(told(&mut body), ["gap 4..9", "6 value", "9", "live"]);
    assert_eq!(body.machine.cursor(1), Some(&cursor(9)));
    body.receive(&ServerFrame::Gap { gap: gap(13), values: false });
    value(&mut body, 11);
    assert_eq!(told(&mut body), ["gap 4..13"], "none follow");
}

#[test]
fn a_value_that_is_lost_on_the_way_is_told() {
    let mut body = Body::online(1 << 40);
    subscribe(&mut body, Start::Now, SnapshotMode::IfNew);
    subscribed(&mut body, 10, Outcome::Live, true, beginning());
    value(&mut body, 3);
    body.receive(&ServerFrame::Mark { cursor: cursor(6), delivered: 2 });
    assert_eq!(told(&mut body), ["begins", "3 value", "gap 0..11"]);
}

#[test]
fn another_history_begins_another_snapshot() {
    let mut body = Body::online(1 << 40);
    subscribe(&mut body, Start::Now, SnapshotMode::IfNew);
    subscribed(&mut body, 10, Outcome::Live, true, beginning());
    value(&mut body, 3);
    body.effects.clear();
    let other: Cursor = "00000000000000aa/0:4".parse().expect("a cursor");
    body.receive(&ServerFrame::Subscribed {
        subscription: 1,
        cursor: other.clone(),
        outcome: Outcome::Reset(anabranch_protocol::code::Code::CURSOR_DIVERGED),
        snapshot: Some(Snapshot { whole: true, state: Cursor::beginning(other.log()) }),
    });
    value(&mut body, 2);
    body.receive(&ServerFrame::CaughtUp { cursor: other.clone() });
    assert_eq!(told(&mut body), ["gap 0..5", "begins", "2 value", "ends", "live"]);
    assert_eq!(body.machine.cursor(1), Some(&other));
}
