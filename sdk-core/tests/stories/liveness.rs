use crate::body::Body;
use anabranch_protocol::server_frame::ServerFrame;
use anabranch_sdk_core::{Machine, Phase};

#[test]
fn a_silent_gateway_is_given_up_after_its_own_deadline() {
    let mut body = Body::online(1 << 40);
    body.pass(29_999);
    assert_eq!(body.phase(), Phase::Live);
    body.pass(1);
    assert_eq!(body.phase(), Phase::Offline);
    assert!(body.attempt.is_none(), "the dead socket is closed");
}

#[test]
fn every_frame_is_a_sign_of_life_and_a_ping_is_answered() {
    let mut body = Body::online(1 << 40);
    for _ in 0..10 {
        body.pass(25_000);
        body.receive(&ServerFrame::Ping);
        assert_eq!(body.sent(), ["pong"]);
    }
    assert_eq!(body.phase(), Phase::Live);
}

#[test]
fn a_wake_is_answered_in_two_seconds_or_the_socket_is_replaced() {
    let mut body = Body::online(1 << 40);
    body.command(Machine::wake);
    assert_eq!(body.sent(), ["probe"]);
    body.command(Machine::wake);
    assert!(body.sent().is_empty(), "one probe at a time");
    body.pass(1_500);
    body.mark();
    body.pass(10_000);
    assert_eq!(body.phase(), Phase::Live);

    body.command(Machine::wake);
    // Left over in the kernel's buffer: no answer.
    body.receive(&ServerFrame::Ping);
    body.pass(1_999);
    assert_eq!(body.phase(), Phase::Live);
    body.pass(1);
    assert_eq!(body.phase(), Phase::Offline);
}

#[test]
fn a_sleep_shows_in_the_clocks_without_a_wake() {
    let mut body = Body::online(1 << 40);
    body.step(1_000);
    // A lid was closed for an hour.
    body.now.wall += 3_600_000;
    body.command(Machine::handle_timer);
    assert_eq!(body.sent(), ["probe"]);
}

#[test]
fn a_frozen_process_asks_before_it_judges() {
    let mut body = Body::online(1 << 40);
    // A background tab: its timer comes ten minutes late, on both clocks.
    body.step(600_000);
    body.command(Machine::handle_timer);
    assert_eq!(body.sent(), ["probe"]);
    assert_eq!(body.phase(), Phase::Live);
    body.mark();
    body.pass(5_000);
    assert_eq!(body.phase(), Phase::Live);
}

#[test]
fn dialing_and_greeting_have_an_end() {
    let mut body = Body::new();
    body.command(Machine::connect);
    body.answer_token("token");
    assert!(body.attempt.is_some());
    assert!(body.pass_until(15_000, |body| body.phase() == Phase::Offline), "dials for ever");
    assert!(body.pass_until(1_000, |body| body.attempt.is_some()), "does not try again");
    body.open();
    assert!(body.pass_until(10_000, |body| body.phase() == Phase::Offline), "waits for a welcome for ever");
}
