use crate::body::Body;
use anabranch_protocol::code::Code;
use anabranch_protocol::server_frame::{Refused, ServerFrame};
use anabranch_sdk_core::{Effect, Machine, Phase, TokenWhy};

#[test]
fn a_token_is_refreshed_in_place_before_it_ends() {
    let mut body = Body::online(600_000);
    let renewed = |body: &Body| body.request.is_some();
    let begin = body.now.mono;
    while !renewed(&body) && body.now.mono < begin + 600_000 {
        body.pass_until(20_000, renewed);
        body.receive(&ServerFrame::Ping);
    }
    let elapsed = body.now.mono - begin;
    assert!((510_000..=540_000).contains(&elapsed), "asked after {elapsed} of 600000");
    body.sent();
    assert_eq!(body.answer_token("fresh"), TokenWhy::Expiring);
    assert_eq!(body.sent(), ["authenticate"]);
    body.receive(&ServerFrame::Authenticated { token_ttl_ms: 600_000 });
    assert_eq!(body.phase(), Phase::Live);
}

#[test]
fn a_refused_refresh_leaves_the_connection_and_is_not_a_loop() {
    let mut body = Body::online(100_000);
    let mut asked = 0;
    for _ in 0..6 {
        while !body.pass_until(20_000, |body| body.request.is_some()) {
            body.receive(&ServerFrame::Ping);
            if body.now.mono > 300_000 {
                break;
            }
        }
        if body.request.is_none() {
            break;
        }
        asked += 1;
        body.answer_token("bad");
        body.refuse(Code::TOKEN_INVALID, None);
    }
    assert_eq!(asked, 5);
    assert_eq!(body.phase(), Phase::Live, "the old token is still in force");
}

#[test]
fn an_answer_counts_for_its_own_request_only() {
    let mut body = Body::new();
    body.command(Machine::connect);
    let (first, _) = body.request.take().expect("a token is wanted");
    // The provider hangs; it is asked again.
    assert!(body.pass_until(60_000, |body| body.request.is_some()));
    body.command(|machine, now| machine.handle_token(now, first, "late"));
    assert!(body.attempt.is_none());
    body.answer_token("token");
    body.open();
    let Some(Effect::Send { text, .. }) = body.effects.last() else { panic!("no hello") };
    assert!(text.contains("\"token\":\"token\""));
}

#[test]
fn a_token_that_ended_in_sleep_is_not_used_to_come_back() {
    let mut body = Body::online(600_000);
    body.lose(1006);
    body.now.wall += 3_600_000;
    body.command(Machine::handle_timer);
    assert!(body.pass_until(1_000, |body| body.request.is_some()));
    assert!(body.attempt.is_none());
    assert_eq!(body.answer_token("fresh"), TokenWhy::Expiring);
    assert!(body.attempt.is_some());
}

#[test]
fn a_publish_refused_for_its_token_is_sent_again_under_the_next_one() {
    let mut body = Body::online(600_000);
    body.command(|machine, now| machine.publish(now, "m", "{}").expect("room"));
    assert_eq!(body.sent(), ["publish"]);
    body.receive(&ServerFrame::Refused(Refused {
        code: Code::TOKEN_EXPIRED,
        message: "late".into(),
        retry_after_ms: None,
        subscription: None,
        message_id: Some("m".into()),
    }));
    assert_eq!(body.answer_token("fresh"), TokenWhy::Rejected);
    body.receive(&ServerFrame::Authenticated { token_ttl_ms: 600_000 });
    body.pass(2_000);
    assert_eq!(body.sent(), ["authenticate", "publish"]);
}
