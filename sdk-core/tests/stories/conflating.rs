//! A client that wants less: how often, and while nobody looks.

use crate::body::Body;
use anabranch_protocol::client_frame::{ClientFrame, SnapshotMode, Subscribe};
use anabranch_sdk_core::{Effect, Machine, Start, Wish};

fn wish(conflate_ms: u64) -> Wish {
    Wish { snapshot: SnapshotMode::None, conflate_ms }
}

/// What was said of it since the last look, the subscriptions' own frames included.
fn said(body: &mut Body) -> Vec<String> {
    let text = |effect| if let Effect::Send { text, .. } = effect { Some(text) } else { None };
    let told = |text: String| match ClientFrame::from_json(&text).expect("a frame") {
        ClientFrame::Hello(hello) => {
            Some(hello.subscriptions.iter().map(asked).collect::<Vec<_>>().join(" "))
        }
        ClientFrame::Subscribe(subscribe) => Some(asked(&subscribe)),
        ClientFrame::Conflate { id, ms } => Some(format!("{id}: {ms}")),
        ClientFrame::Hidden(hidden) => Some(format!("hidden {hidden}")),
        _ => None,
    };
    std::mem::take(&mut body.effects).into_iter().filter_map(text).filter_map(told).collect()
}

fn asked(subscribe: &Subscribe<'_>) -> String {
    format!("{} at {}", subscribe.id, subscribe.conflate_ms)
}

#[test]
fn how_often_is_said_with_the_subscription_and_when_it_changes() {
    let mut body = Body::online(60_000);
    body.command(|machine, now| machine.subscribe(now, 1, "s/#", Start::Now, wish(500)).expect("a filter"));
    assert_eq!(said(&mut body), ["1 at 500"]);
    body.command(|machine, now| machine.conflate(now, 1, 100));
    body.command(|machine, now| machine.conflate(now, 1, 100));
    assert_eq!(said(&mut body), ["1: 100"], "once");
    body.command(|machine, now| machine.conflate(now, 7, 100));
    assert!(said(&mut body).is_empty(), "there is no such subscription");
}

#[test]
fn whoever_is_hidden_says_so_on_each_connection_and_again_when_it_is_not() {
    let mut body = Body::online(60_000);
    body.command(|machine, now| machine.subscribe(now, 1, "s/#", Start::Now, wish(500)).expect("a filter"));
    body.command(|machine, now| machine.hide(now, true));
    assert_eq!(said(&mut body), ["1 at 500", "hidden true"]);
    body.lose(1006);
    assert!(body.pass_until(60_000, |body| body.attempt.is_some()));
    body.command(|machine, now| machine.conflate(now, 1, 0));
    body.open();
    body.command(|machine, now| machine.conflate(now, 1, 50));
    assert_eq!(said(&mut body), ["1 at 0"]);
    body.welcome(60_000);
    assert_eq!(said(&mut body), ["hidden true", "1: 50"], "what has changed since the hello too");
    body.command(|machine, now| machine.hide(now, false));
    assert_eq!(said(&mut body), ["hidden false"]);
    body.command(Machine::wake);
    assert!(said(&mut body).is_empty());
}

#[test]
fn a_gateway_that_does_not_know_of_it_is_not_told() {
    let mut body = Body::new();
    body.command(Machine::connect);
    body.answer_token("token");
    body.open();
    body.welcome_of(60_000, 0);
    body.effects.clear();
    body.command(|machine, now| machine.hide(now, true));
    body.command(|machine, now| machine.subscribe(now, 1, "s/#", Start::Now, wish(0)).expect("a filter"));
    body.command(|machine, now| machine.conflate(now, 1, 100));
    assert_eq!(said(&mut body), ["1 at 0"]);
}
