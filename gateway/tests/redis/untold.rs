//! Ids that no offset tells, although offsets go on behind them: somebody has chosen one whose part behind the dash is larger
//! than 22 bits. Each such entry is passed over and counted, and stops nothing.

use crate::kit::{Other, everything, open, options, own, server};
use anabranch_gateway::log::conformance::{Follower, append, record};
use anabranch_gateway::log::redis::{Options, RedisSource};
use anabranch_gateway::log::verified::Verified;
use anabranch_gateway::log::{AppendError, Budget, GapReason, Log, ReadError, Start, TailEvent};
use anabranch_protocol::cursor::{Offset, Position};

const ALL: Budget = Budget { records: usize::MAX, bytes: usize::MAX };
const LARGEST: u64 = (1 << 22) - 1;

fn ms(position: &Position) -> u64 {
    position.offset.0 >> 22
}

/// The last offset of a millisecond.
fn last_of(ms: u64) -> Offset {
    Offset(ms << 22 | LARGEST)
}

struct Stage {
    options: Options,
    log: Verified<RedisSource>,
    other: Other,
}

impl Stage {
    async fn set() -> Option<Stage> {
        let server = server()?;
        let options = options(&server);
        let log = open(&options).await;
        Some(Stage { options, log, other: Other::connect(server.port()).await })
    }

    /// Some other program appends under an id that it has chosen.
    async fn choose(&self, ms: u64, sequence: u64) -> Position {
        let id = format!("{ms}-{sequence}");
        self.other.run::<String>(&["XADD", &self.options.stream, &id, "topic", "a/b", "payload", "1"]).await;
        Position { partition: 0, offset: Offset(ms << 22 | sequence.min(LARGEST)), fingerprint: None }
    }

    /// So many under ids that no offset tells, in one millisecond.
    async fn flood(&self, ms: u64, count: u64) {
        const ADD: &str = "for n = 1, ARGV[2] do redis.call('XADD', KEYS[1], ARGV[1] .. '-' .. string.format('%.0f', 4194303 + n), \
             'topic', 'a/b', 'payload', '1') end";
        let (ms, count) = (ms.to_string(), count.to_string());
        self.other.run::<()>(&["EVAL", ADD, "1", &self.options.stream, &ms, &count]).await;
    }

    /// Appends one by one: of several that are on their way together, those before the end of such a millisecond are refused.
    async fn append_singly(&self, numbers: std::ops::Range<u64>) -> Vec<Position> {
        let mut positions = Vec::new();
        for n in numbers {
            positions.push(self.log.append(record(n)).await.expect("confirmed"));
        }
        positions
    }

    fn follow(&self, from: Start) -> Follower {
        Follower::start(&self.log, from)
    }
}

fn undisturbed(follower: &Follower) {
    assert!(
        follower.gaps.is_empty() && follower.resets.is_empty(),
        "{:?} {:?}",
        follower.gaps,
        follower.resets
    );
    assert_eq!(follower.health.len(), 1, "no reconnect was needed: {:?}", follower.health);
}

#[tokio::test]
async fn between_good_records_it_is_passed_over() {
    let Some(stage) = Stage::set().await else { return };
    let mut follower = stage.follow(Start::Earliest);
    let first = append(&stage.log, 0..3).await[2];
    let untold = stage.choose(ms(&first), 5_000_000).await;
    stage.choose(ms(&first), u64::MAX - 1).await;
    let next = stage.append_singly(3..6).await;
    assert!(next[0].offset > untold.offset);
    follower.until_records(6).await;
    undisturbed(&follower);
    // An append in the same millisecond leaves an entry there, too.
    let there = stage.other.run::<u64>(&["XLEN", &stage.options.stream]).await;
    assert!(there >= 8);
    assert_eq!(stage.log.passed_over().quarantined, there - 6);
    assert_eq!(everything(&stage.log, 0).await, follower.records);
    // One by one, and from each place there is.
    let mut after = Offset(0);
    let mut read = Vec::new();
    loop {
        let batch = stage.log.read(0, after, Budget { records: 1, bytes: 1 }).await.expect("readable");
        assert!(batch.covered_to > after || batch.at_end, "a read goes on");
        (after, read) = (batch.covered_to, [read, batch.records].concat());
        if batch.at_end {
            break;
        }
    }
    assert_eq!((read, after), (follower.records.clone(), next[2].offset));
    let mut late = stage.follow(Start::After(first));
    late.until_records(3).await;
    undisturbed(&late);
}

#[tokio::test]
async fn at_the_end_it_is_the_end() {
    let Some(stage) = Stage::set().await else { return };
    let mut follower = stage.follow(Start::Earliest);
    let last = append(&stage.log, 0..3).await[2];
    follower.until_records(3).await;
    let untold = stage.choose(ms(&last), 5_000_000).await;
    assert_eq!(follower.step().await, TailEvent::Progress(untold.offset));
    let batch = stage.log.read(0, last.offset, ALL).await.expect("readable");
    assert_eq!((batch.records.len(), batch.covered_to, batch.at_end), (0, untold.offset, true));
    let batch = stage.log.read(0, untold.offset, ALL).await.expect("readable");
    assert_eq!((batch.records.len(), batch.covered_to, batch.at_end), (0, untold.offset, true));
    let bounds = stage.log.bounds(0).await.expect("bounds");
    assert_eq!((bounds.oldest, bounds.last), (Offset(1), untold.offset));
    assert!(stage.log.locate(0, ms(&last)).await.expect("located") < last.offset);
    // Another node comes, and is asked for what is next.
    let node2 = open(&stage.options).await;
    let mut next = Follower::start(&node2, Start::Next);
    next.until(|follower| !follower.health.is_empty()).await;
    let new = append(&node2, 3..4).await[0];
    for follower in [&mut follower, &mut next] {
        follower.until_covered(new.offset).await;
        undisturbed(follower);
    }
    assert_eq!((follower.records.len(), next.records.len()), (4, 1));
}

#[tokio::test]
async fn at_the_start_nobody_misses_it() {
    let Some(stage) = Stage::set().await else { return };
    let first = append(&stage.log, 0..1).await[0];
    let untold = stage.choose(ms(&first), 5_000_000).await;
    let [.., last] = stage.append_singly(1..3).await[..] else { panic!("two records") };
    // Nobody notes what goes, so the first entry tells the bound.
    let id = format!("{}-{}", ms(&first), first.offset.0 & LARGEST);
    stage.other.run::<i64>(&["XDEL", &stage.options.stream, &id]).await;
    let oldest = Offset(untold.offset.0 + 1);
    assert_eq!(stage.log.bounds(0).await.expect("bounds").oldest, oldest);
    assert_eq!(stage.log.read(0, Offset(0), ALL).await, Err(ReadError::Forgotten { oldest }));
    assert_eq!(everything(&stage.log, 0).await.len(), 2);
    let mut missed = stage.follow(Start::After(Position { offset: Offset(1), fingerprint: None, ..first }));
    missed.until_covered(last.offset).await;
    assert_eq!(missed.gaps.len(), 1);
    assert_eq!((missed.gaps[0].before, missed.gaps[0].why), (untold.offset, GapReason::Forgotten));
    let mut all = stage.follow(Start::Earliest);
    all.until_covered(last.offset).await;
    undisturbed(&all);
    for follower in [missed, all] {
        assert!(follower.resets.is_empty() && follower.records.len() == 2);
    }
    // Nothing else is left, and then nothing at all.
    for left in ["1", "0"] {
        stage.other.run::<i64>(&["XTRIM", &stage.options.stream, "MAXLEN", left]).await;
    }
    stage.choose(ms(&last) + 1, 5_000_000).await;
    let bounds = stage.log.bounds(0).await.expect("bounds");
    assert_eq!((bounds.newest, bounds.last), (None, last_of(ms(&last) + 1)));
    assert_eq!(everything(&stage.log, 0).await, []);
}

/// The gateway's own trimming, with its note of what went last.
#[tokio::test]
async fn it_is_forgotten_like_any_other() {
    let Some(stage) = Stage::set().await else { return };
    let first = append(&stage.log, 0..1).await[0];
    stage.choose(ms(&first), 5_000_000).await;
    stage.choose(ms(&first), 5_000_001).await;
    let last = append(&stage.log, 1..2).await[0];
    let source = stage.log.source().clone();
    assert!(source.forget_half(0).await.expect("the server answers"));
    let after = Position { offset: last_of(ms(&first)), fingerprint: None, ..first };
    assert_eq!(stage.log.bounds(0).await.expect("bounds").oldest, Offset(after.offset.0 + 1));
    let mut follower = stage.follow(Start::After(after));
    follower.until_records(1).await;
    undisturbed(&follower);
    assert_eq!(follower.records[0].position, last);
}

/// A record has the last offset of its millisecond, and another entry follows it there.
#[tokio::test]
async fn the_record_before_it_keeps_its_offset() {
    let Some(stage) = Stage::set().await else { return };
    let mut follower = stage.follow(Start::Earliest);
    let first = append(&stage.log, 0..1).await[0];
    stage.choose(ms(&first), LARGEST).await;
    stage.choose(ms(&first), LARGEST + 1).await;
    stage.choose(ms(&first), LARGEST + 2).await;
    follower.until_covered(last_of(ms(&first))).await;
    let edge = follower.records[1].position;
    assert_eq!(edge.offset, last_of(ms(&first)));
    let mut back = stage.follow(Start::After(edge));
    back.until(|follower| !follower.health.is_empty()).await;
    let last = append(&stage.log, 1..2).await[0];
    for follower in [&mut follower, &mut back] {
        follower.until_covered(last.offset).await;
        undisturbed(follower);
    }
    assert_eq!((follower.records.len(), back.records.len()), (3, 1));
    assert_eq!(everything(&stage.log, 0).await, follower.records);
}

/// More than one answer holds, in one millisecond and in many.
#[tokio::test]
async fn many_do_not_stop_what_follows() {
    let Some(stage) = Stage::set().await else { return };
    let first = append(&stage.log, 0..1).await[0];
    let (flood, scattered) = (25_000, 2_500);
    stage.flood(ms(&first), flood).await;
    for n in 1..=scattered {
        stage.flood(ms(&first) + n, 1).await;
    }
    let last = append(&stage.log, 1..2).await[0];
    let mut follower = stage.follow(Start::Earliest);
    follower.until_covered(last.offset).await;
    undisturbed(&follower);
    assert_eq!(follower.records.len(), 2);
    let counted = stage.log.passed_over().quarantined;
    assert!((10_000..flood).contains(&(counted - scattered)), "{counted} are counted");
    assert_eq!(everything(&stage.log, 0).await, follower.records);
}

/// The millisecond lies ahead of the server's clock, so it would go on giving ids that no offset tells.
#[tokio::test]
async fn appends_step_out_of_a_millisecond_ahead() {
    let Some(stage) = Stage::set().await else { return };
    let mut follower = stage.follow(Start::Earliest);
    let first = append(&stage.log, 0..1).await[0];
    let ahead = ms(&first) + 3_600_000;
    stage.choose(ahead, 5_000_000).await;
    let bunch = append(&stage.log, 1..200).await;
    assert!(bunch.is_sorted_by_key(|position| position.offset) && ms(&bunch[0]) == ahead + 1);
    stage.other.add(&stage.options.stream, &[("topic", b"a/b"), ("payload", b"1")]).await;
    let last = append(&stage.log, 200..201).await[0];
    follower.until_covered(last.offset).await;
    undisturbed(&follower);
    assert_eq!(follower.records.len(), 202, "each once, the other program's too");
    let numbers = follower.records[..200].iter().map(|record| record.key);
    assert!(numbers.eq((0..200).map(|n| record(n).key)), "in the order of the appends");
    assert!(last.offset > bunch[198].offset);
}

/// The server's ids leave the millisecond while several appends are on their way. One that cannot be read and cannot be put
/// before the next any more is refused, and that is true.
#[tokio::test]
async fn an_append_that_cannot_keep_its_place_is_refused() {
    let Some(stage) = Stage::set().await else { return };
    let mut follower = stage.follow(Start::Earliest);
    let first = append(&stage.log, 0..1).await[0];
    stage.choose(ms(&first) + 3_600_000, u64::MAX - 5).await;
    let confirms: Vec<_> = (1..100).map(|n| stage.log.append(record(n))).collect();
    let (mut stored, mut refused) = (vec![0], Vec::new());
    for (n, confirm) in (1..).zip(confirms) {
        match confirm.await {
            Ok(_) => stored.push(n),
            Err(AppendError::Blocked(why)) if why.contains("publish it again") => refused.push(n),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused.len() <= 5, "{refused:?}");
    for n in &refused {
        stage.log.append(record(*n)).await.expect("confirmed");
    }
    let numbers = [stored, refused].concat();
    follower.until_records(numbers.len()).await;
    undisturbed(&follower);
    let keys = numbers.into_iter().map(|n| record(n).key);
    assert!(follower.records.iter().map(|record| record.key).eq(keys), "each once, in order");
}

/// The last millisecond of all: there is none to step into.
#[tokio::test]
async fn in_the_last_millisecond_of_all_it_is_beyond() {
    let Some((server, _folder)) = own(&[]) else { return };
    let options = options(&server);
    let (log, other) = (open(&options).await, Other::connect(server.port()).await);
    other
        .run::<String>(&["XADD", &options.stream, "4398046511103-4194304", "topic", "a", "payload", "1"])
        .await;
    let refused = log.append(record(0)).await.expect_err("nothing can be read behind it").to_string();
    assert!(refused.contains("XSETID"), "{refused}");
}
