//! What may happen next, and how often.

use super::client::Start;
use super::dice::Dice;
use super::{FILTERS, TOPICS};
use anabranch_protocol::client_frame::SnapshotMode;
use anabranch_protocol::cursor::Partition;

/// One thing that happens to the world.
#[derive(Clone, Debug)]
pub enum Step {
    /// Everything goes its way, for so many rounds.
    Flow(u64),
    /// The same, while so many milliseconds pass.
    Live(u64),
    /// So many milliseconds pass with nothing on the network; timers fire.
    Pass(u64),
    /// So many pass, and nobody looks at a timer before the end.
    Freeze(u64),
    /// The same, for one client's machine, whose monotonic clock stands still.
    Sleep(u64),
    /// The wall clock of a client is set.
    ClientClock(i64),
    GatewayClock(i64),
    /// Somebody else publishes.
    Append(u64),
    /// Of the so-manieth shard, if the node has so many.
    Turn(usize),
    Kill,
    Start,
    Drain(u64),
    Lie(Lie),
    Client(Act),
}

/// What a broker does and does not say.
#[derive(Clone, Debug)]
pub enum Lie {
    Forget(Partition, u64),
    FailOver(Partition, usize),
    Recreate,
    Stall(bool),
    Disconnect,
    Unreachable(bool),
    /// A record comes that kills whoever reads it.
    Poison,
    Refuse,
    Hang,
    Take,
    LoseConfirms(usize),
    Redeliver(Partition, usize),
    Skip(Partition, u64),
    WithholdName(bool),
}

/// One thing that happens to a client.
#[derive(Clone, Debug)]
pub enum Act {
    Dial,
    DialFails,
    Token(Answer),
    Push(usize),
    Receive(usize),
    Cut,
    /// The next frame comes twice: to the gateway, if it is a publish, or to the client.
    Twice(usize),
    Commit(usize),
    Tell,
    Take(usize),
    Crash(usize),
    Subscribe {
        name: Option<&'static str>,
        filter: &'static str,
        start: Start,
        snapshot: SnapshotMode,
        conflate_ms: u64,
    },
    Unsubscribe,
    Park(bool),
    Conflate(u64),
    Publish {
        topic: &'static str,
        kept: bool,
        ttl_ms: Option<u64>,
    },
    Reconsider {
        again: bool,
    },
    Connect,
    Disconnect,
    Pause(&'static str),
    Resume(&'static str),
    Wake,
    Hide(bool),
}

/// What a token provider says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Good,
    /// One that grants less.
    Narrow,
    Expired,
    Nonsense,
    Failure,
}

const DAY_MS: i64 = 24 * 3_600_000;
const REASONS: [&str; 2] = ["background", "battery"];
/// The filters of what is kept, by name.
const NAMES: [(&str, &str); 3] = [("all", "#"), ("a", "a/#"), ("state", "s/#")];

/// The next step. Without `harm`, the network and the processes fail, but not the broker.
pub fn next(dice: &mut Dice, harm: bool) -> Step {
    let lies = if harm { 5 } else { 0 };
    let kind = *dice.weigh(&[
        (10, 0),
        (4, 1),
        (2, 2),
        (1, 3),
        (1, 4),
        (2, 5),
        (1, 6),
        (14, 7),
        (3, 8),
        (4, 9),
        (1, 10),
        (3, 11),
        (1, 12),
        (lies, 13),
        (50, 14),
    ]);
    match kind {
        0 => Step::Flow(1 + dice.below(4)),
        1 => Step::Live(1 + dice.below(3_000)),
        2 => Step::Pass(1 + dice.below(40_000)),
        3 => Step::Freeze(1 + dice.below(60_000)),
        4 => Step::Sleep(1 + dice.below(100_000)),
        5 => Step::ClientClock(dice.pick(&[-DAY_MS, DAY_MS])),
        6 => Step::GatewayClock(dice.pick(&[-DAY_MS, DAY_MS])),
        7 => Step::Append(if dice.one_in(15) { 1 + dice.below(40) } else { 1 }),
        8 => Step::Turn(1),
        9 => Step::Turn(0),
        10 => Step::Kill,
        11 => Step::Start,
        12 => Step::Drain(dice.below(5_000)),
        13 => Step::Lie(lie(dice)),
        _ => Step::Client(act(dice, harm)),
    }
}

fn lie(dice: &mut Dice) -> Lie {
    let partition = dice.below(u64::from(super::truth::PARTITIONS)) as Partition;
    let back = dice.index(5);
    let kind = *dice.weigh(&[
        (4, 0),
        (2, 1),
        (1, 2),
        (1, 3),
        (3, 4),
        (2, 5),
        (1, 6),
        (3, 7),
        (1, 8),
        (1, 9),
        (1, 10),
        (1, 11),
        (4, 12),
        (3, 13),
        (2, 14),
        (2, 15),
        (1, 16),
    ]);
    match kind {
        0 => Lie::Forget(partition, 1 + dice.below(8)),
        1 => Lie::FailOver(partition, dice.index(4)),
        2 => Lie::Recreate,
        3 => Lie::Stall(true),
        4 => Lie::Stall(false),
        5 => Lie::Disconnect,
        6 => Lie::Unreachable(true),
        7 => Lie::Unreachable(false),
        8 => Lie::Poison,
        9 => Lie::Disconnect,
        10 => Lie::Refuse,
        11 => Lie::Hang,
        12 => Lie::Take,
        13 => Lie::LoseConfirms(1 + back),
        14 => Lie::Redeliver(partition, back),
        15 => Lie::Skip(partition, 1 + dice.below(5)),
        _ => Lie::WithholdName(dice.one_in(2)),
    }
}

fn act(dice: &mut Dice, harm: bool) -> Act {
    let harm = u64::from(harm);
    let kind = *dice.weigh(&[
        (8, 0),
        (1, 1),
        (6, 2),
        (8, 3),
        (10, 4),
        (5, 5),
        (2 * harm, 6),
        (5, 7),
        (4, 8),
        (8, 9),
        (3, 10),
        (6, 11),
        (1, 12),
        (2, 13),
        (1, 14),
        (9, 15),
        (1, 16),
        (6, 17),
        (1, 18),
        (1, 19),
        (3, 20),
        (3, 21),
        (1, 22),
    ]);
    match kind {
        0 => Act::Dial,
        1 => Act::DialFails,
        2 => Act::Token(answer(dice, harm)),
        3 => Act::Push(bytes(dice)),
        4 => Act::Receive(bytes(dice)),
        5 => Act::Cut,
        6 => Act::Twice(dice.index(2)),
        7 => Act::Commit(1 + dice.index(6)),
        8 => Act::Tell,
        9 => Act::Take(1 + dice.index(6)),
        10 => Act::Crash(dice.index(8)),
        11 => subscribe(dice),
        12 => Act::Unsubscribe,
        13 => Act::Park(dice.one_in(3)),
        14 => Act::Conflate(dice.below(2) * dice.below(500)),
        15 => Act::Publish {
            topic: dice.pick(&TOPICS),
            kept: !dice.one_in(3),
            ttl_ms: dice.one_in(5).then(|| dice.below(20_000)),
        },
        16 => Act::Reconsider { again: dice.one_in(2) },
        17 => Act::Connect,
        18 => Act::Disconnect,
        19 => Act::Pause(dice.pick(&REASONS)),
        20 => Act::Resume(dice.pick(&REASONS)),
        21 => Act::Wake,
        _ => Act::Hide(dice.one_in(2)),
    }
}

/// A part of a frame, or several.
fn bytes(dice: &mut Dice) -> usize {
    if dice.one_in(2) { 1 + dice.index(100) } else { 1 + dice.index(4_000) }
}

fn answer(dice: &mut Dice, harm: u64) -> Answer {
    let bad = [Answer::Narrow, Answer::Expired, Answer::Nonsense, Answer::Failure];
    *dice.weigh(&[(12, Answer::Good), (harm, bad[0]), (1, bad[1]), (1, bad[2]), (1, bad[3])])
}

fn subscribe(dice: &mut Dice) -> Act {
    let named = (!dice.one_in(3)).then(|| dice.pick(&NAMES));
    let start = match dice.below(4) {
        0 | 1 => Start::Now,
        2 => Start::Earliest,
        _ => Start::Since(dice.below(5_000)),
    };
    Act::Subscribe {
        name: named.map(|(name, _)| name),
        filter: named.map_or_else(|| dice.pick(&FILTERS), |(_, filter)| filter),
        start,
        snapshot: dice.pick(&SnapshotMode::ALL),
        conflate_ms: if dice.one_in(4) { 1 + dice.below(300) } else { 0 },
    }
}
