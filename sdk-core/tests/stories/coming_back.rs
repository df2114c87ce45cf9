use crate::body::Body;
use anabranch_protocol::client_frame::SnapshotMode;
use anabranch_protocol::code::Code;
use anabranch_protocol::server_frame::ServerFrame;
use anabranch_sdk_core::{Machine, Phase, Start};

/// Milliseconds until the next attempt.
fn wait(body: &mut Body) -> u64 {
    let begin = body.now.mono;
    assert!(body.pass_until(10 * 60_000, |body| body.attempt.is_some()), "does not come back");
    body.now.mono - begin
}

#[test]
fn failures_make_waits_longer_and_only_a_healthy_minute_makes_them_short_again() {
    let mut body = Body::new();
    body.command(Machine::connect);
    body.answer_token("token");
    let mut waits = Vec::new();
    for _ in 0..40 {
        body.lose(1006);
        waits.push(wait(&mut body));
    }
    for (failures, wait) in waits.iter().enumerate() {
        assert!(*wait <= (500 << failures.min(6)).min(30_000), "{wait} after {failures}");
    }
    assert!(waits.iter().skip(6).any(|wait| *wait > 15_000), "{waits:?}");

    body.open();
    body.welcome(1 << 40);
    body.pass(25_000);
    body.lose(1006);
    assert_eq!(body.machine.state().attempt, 41, "not healthy yet");
    wait(&mut body);
    body.open();
    body.welcome(1 << 40);
    for _ in 0..3 {
        body.pass(25_000);
        body.receive(&ServerFrame::Ping);
    }
    body.lose(1006);
    assert!(wait(&mut body) <= 500);
}

#[test]
fn advice_is_a_lower_bound_for_everything() {
    let mut body = Body::online(1 << 40);
    body.refuse(Code::OVERLOADED, Some(60_000));
    body.lose(Code::OVERLOADED.0);
    assert_eq!(body.machine.state().code, Some(Code::OVERLOADED));
    body.command(Machine::wake);
    body.command(Machine::disconnect);
    body.command(Machine::connect);
    body.command(|machine, now| machine.pause(now, "x"));
    body.command(|machine, now| machine.resume(now, "x"));
    let wait = wait(&mut body);
    assert!((60_000..=72_000).contains(&wait), "{wait}");
}

#[test]
fn a_drained_client_stays_until_its_slot_and_leaves_by_itself() {
    let mut body = Body::online(1 << 40);
    body.receive(&ServerFrame::GoAway { code: Code::GOING_AWAY, reconnect_after_ms: 5_000 });
    assert_eq!(body.phase(), Phase::Live);
    body.pass(4_999);
    assert_eq!(body.phase(), Phase::Live, "what comes until then is not lost");
    body.pass_until(2_000, |body| body.attempt != Some(1));
    assert_eq!(body.sent(), ["goodbye"]);
    assert_eq!(wait(&mut body), 0, "the slot is the moment to come back");
}

#[test]
fn a_wake_while_waiting_tries_at_once_but_not_again_and_again() {
    let mut body = Body::new();
    body.command(Machine::connect);
    body.answer_token("token");
    for _ in 0..12 {
        body.lose(1006);
        wait(&mut body);
    }
    body.lose(1006);
    body.command(Machine::wake);
    assert!(wait(&mut body) <= 300);
    let mut waited = 0;
    for _ in 0..6 {
        body.lose(1006);
        body.command(Machine::wake);
        waited += wait(&mut body);
    }
    assert!(waited > 3_000, "wakes have defeated the backoff: {waited}");
}

#[test]
fn only_the_app_undoes_what_the_app_did() {
    for silence in [
        (|machine, now| Machine::disconnect(machine, now)) as fn(&mut Machine, _),
        |machine, now| machine.pause(now, "background"),
        |machine, now| machine.close(now),
    ] {
        let mut body = Body::online(1 << 40);
        body.command(silence);
        assert_eq!(body.sent(), ["goodbye"]);
        let phase = body.phase();
        body.command(Machine::wake);
        body.now.wall += 3_600_000;
        body.command(Machine::handle_timer);
        body.command(|machine, now| machine.resume(now, "another reason"));
        body.pass(3_600_000);
        assert_eq!((body.phase(), body.attempt), (phase, None));
    }
}

#[test]
fn a_closed_client_stays_closed() {
    let mut body = Body::online(1 << 40);
    body.command(Machine::close);
    body.command(Machine::connect);
    assert_eq!(body.phase(), Phase::Closed);
    assert!(body.machine.publish(body.now, "m", "{}").is_err());
}

#[test]
fn who_waits_for_nothing_any_more_is_live() {
    for park in [false, true] {
        let mut body = Body::new();
        body.command(|machine, now| {
            machine.subscribe(now, 1, "a", Start::Now, SnapshotMode::None).expect("a filter");
        });
        body.command(Machine::connect);
        body.answer_token("token");
        body.open();
        body.welcome(60_000);
        assert_eq!(body.phase(), Phase::Syncing);
        body.command(|machine, now| if park { machine.park(now, 1) } else { machine.unsubscribe(now, 1) });
        assert_eq!(body.phase(), Phase::Live, "parked: {park}");
    }
}
