use super::*;
use anabranch_protocol::cursor::LogId;

const INTERVAL: Millis = 25_000;
const GRACE: Millis = 10_000;

fn rules() -> Rules {
    let limits = Limits { frame_bytes: 1, subscriptions: 1, publishes_in_flight: 1, conflate_ms: 0 };
    Rules {
        hello_timeout: 1,
        ping_interval: INTERVAL,
        ping_grace: GRACE,
        limits,
        sizes: Sizes::new(1, Vec::new()),
        classes: Arc::default(),
    }
}

/// A session that was opened at 0.
fn open() -> Session {
    let principal = Principal { subject: "s".into(), grants: Default::default(), expires_unix_ms: u64::MAX };
    Session { stage: Stage::Open(Arc::new(principal)), ..Session::new(0, &rules()) }
}

/// What the clock makes of it, in a word for each.
fn tick(session: &mut Session, now: Millis) -> Vec<&'static str> {
    let head = Cursor::beginning(LogId(1));
    let mut actions = Vec::new();
    session.tick(&Moment { now, unix_ms: 0, head: &head }, &rules(), &mut actions);
    let word = |action: &Action| match action {
        Action::SayMark => "mark",
        Action::Say(ServerFrame::Ping) => "ping",
        Action::Say(ServerFrame::Refused(_)) => "refused",
        Action::Close(_) => "close",
        _ => "other",
    };
    actions.iter().map(word).collect()
}

#[test]
fn a_client_that_does_not_answer_is_dead_after_the_grace() {
    let mut session = open();
    assert_eq!(tick(&mut session, INTERVAL - 1), [""; 0]);
    assert_eq!(tick(&mut session, INTERVAL), ["mark", "ping"]);
    assert_eq!(session.next_tick(&rules()), INTERVAL + GRACE);
    assert_eq!(tick(&mut session, INTERVAL + GRACE - 1), [""; 0]);
    assert_eq!(tick(&mut session, INTERVAL + GRACE), ["refused", "close"]);
}

#[test]
fn an_answer_counts_until_the_next_ping_and_its_grace() {
    let mut session = open();
    tick(&mut session, INTERVAL);
    session.heard(INTERVAL + GRACE - 1);
    assert_eq!(tick(&mut session, INTERVAL + GRACE), [""; 0]);
    assert_eq!(tick(&mut session, 2 * INTERVAL), ["mark", "ping"]);
    // Heard late, pinged soon after: the silence is still counted from what was heard.
    assert_eq!(tick(&mut session, 2 * INTERVAL + GRACE), [""; 0]);
    assert_eq!(tick(&mut session, 2 * INTERVAL + 2 * GRACE - 1), ["refused", "close"]);
}

#[test]
fn a_process_that_was_frozen_pings_before_it_judges() {
    let mut session = open();
    assert_eq!(tick(&mut session, 10 * INTERVAL), ["mark", "ping"], "nobody was pinged meanwhile");
    assert_eq!(tick(&mut session, 10 * INTERVAL + GRACE), ["refused", "close"]);

    let mut session = open();
    tick(&mut session, INTERVAL);
    let late = INTERVAL + GRACE + HELD_UP;
    assert_eq!(tick(&mut session, late), ["mark", "ping"], "the answer may be unread");
    assert_eq!(tick(&mut session, late + INTERVAL + GRACE - 1), [""; 0]);
    assert_eq!(tick(&mut session, late + INTERVAL + GRACE), ["refused", "close"], "once only");
}
