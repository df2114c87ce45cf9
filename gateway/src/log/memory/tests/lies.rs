//! Each lie of a broker, and how soon it is found out. The clock is virtual.

use crate::log::conformance::{Dice, Follower, PATIENCE, append, record};
use crate::log::memory::{Lies, MemoryLog, Options, Publishing};
use crate::log::{
    AppendError, Budget, DEADLINE, Gap, GapReason, Health, Log, ReadError, ResetReason, Start, TailEvent,
};
use anabranch_protocol::cursor::{Offset, Position};
use futures_util::FutureExt;
use futures_util::stream::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const ALL: Budget = Budget { records: usize::MAX, bytes: usize::MAX };

/// A log with `count` records, and a tail that has seen them.
async fn seen(count: u64) -> (Arc<MemoryLog>, Lies, Vec<Position>, Follower) {
    let log = MemoryLog::new(Options::default());
    let positions = append(&*log, 0..count).await;
    let mut follower = Follower::start(&*log, Start::Earliest);
    follower.until_records(count as usize).await;
    let lies = log.lies();
    (log, lies, positions, follower)
}

#[tokio::test(start_paused = true)]
async fn holes_are_not_gaps() {
    let (log, lies, _, mut follower) = seen(10).await;
    let mut dice = Dice::new("holes_are_not_gaps");
    let mut last = Offset(0);
    for n in 0..10_000 {
        if dice.below(10) == 0 {
            lies.skip_offsets(0, 1 + dice.below(5));
        }
        last = log.append(record(n)).await.expect("confirmed").offset;
        if dice.below(100) == 0 {
            follower.until_covered(last).await;
        }
    }
    follower.until_covered(last).await;
    assert_eq!(follower.records.len(), 10_010);
    assert!(follower.gaps.is_empty() && follower.resets.is_empty(), "{:?}", follower.gaps);
    let batch = log.read(0, Offset(3), ALL).await.expect("readable");
    assert_eq!((batch.records.len(), batch.at_end), (10_007, true));
}

#[tokio::test(start_paused = true)]
async fn silent_truncation_under_a_reader_is_a_gap() {
    let (log, lies, _, mut follower) = seen(10).await;
    append(&*log, 10..1000).await;
    lies.truncate(0, Offset(700));
    follower.until_covered(Offset(1000)).await;
    assert_eq!(follower.gaps, [Gap { after: Offset(10), before: Offset(700), why: GapReason::Forgotten }]);
    assert_eq!(follower.records.len(), 10 + 301);
    let oldest = Offset(700);
    assert_eq!(log.read(0, Offset(10), ALL).await, Err(ReadError::Forgotten { oldest }));
    assert_eq!(log.read(0, Offset(698), ALL).await, Err(ReadError::Forgotten { oldest }));
    assert_eq!(log.read(0, Offset(699), ALL).await.expect("readable").records.len(), 301);
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_unread_is_told_though_nothing_follows() {
    let (log, lies, _, mut follower) = seen(10).await;
    append(&*log, 10..20).await;
    lies.truncate(0, Offset(21));
    follower.until_covered(Offset(20)).await;
    append(&*log, 20..21).await;
    follower.until_records(11).await;
    assert_eq!(follower.gaps, [Gap { after: Offset(10), before: Offset(21), why: GapReason::Forgotten }]);
    assert!(follower.resets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_tail_misses_nothing_when_everything_it_saw_is_forgotten() {
    let (log, lies, positions, mut follower) = seen(10).await;
    lies.truncate(0, Offset(11));
    lies.disconnect();
    let new = append(&*log, 10..11).await;
    follower.until_records(11).await;
    let expected: Vec<_> = positions.iter().chain(&new).map(|p| p.offset).collect();
    assert_eq!(follower.offsets(), expected);
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_recreated_log_is_a_reset_within_three_seconds() {
    type Lie = fn(&Lies);
    let lies: [(&str, Lie, ResetReason); 6] = [
        ("shorter", |lies| lies.recreate((100..105).map(record).collect()), ResetReason::Ahead),
        ("empty", |lies| lies.recreate(Vec::new()), ResetReason::Recreated),
        ("as long", |lies| lies.recreate((100..110).map(record).collect()), ResetReason::Diverged),
        ("longer", |lies| lies.recreate((100..150).map(record).collect()), ResetReason::Diverged),
        (
            "shorter, announced",
            |lies| lies.recreate_and_cancel((100..105).map(record).collect()),
            ResetReason::Recreated,
        ),
        ("empty, announced", |lies| lies.recreate_and_cancel(Vec::new()), ResetReason::Recreated),
    ];
    for (what, lie, why) in lies {
        let (log, broker, _, mut follower) = seen(10).await;
        let id = log.id();
        let told = Instant::now();
        lie(&broker);
        if what == "longer" {
            broker.disconnect(); // Otherwise the live consumer goes on at 11: see the next test.
        }
        follower.until(|follower| !follower.resets.is_empty()).await;
        assert!(told.elapsed() <= Duration::from_secs(3), "{what}: found after {:?}", told.elapsed());
        assert_eq!(follower.resets, [(log.id(), why)], "{what}");
        assert_ne!(log.id(), id, "{what}");
        // The new history from its beginning.
        let bounds = log.bounds(0).await.expect("bounds");
        append(&*log, 200..201).await;
        follower.until_covered(Offset(bounds.last.0 + 1)).await;
        assert_eq!(follower.records[0].position.offset, Offset(1), "{what}");
        assert_eq!(follower.records.len() as u64, bounds.last.0 + 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_tail_resets_when_one_finds_another_history() {
    let (log, lies, _, mut one) = seen(10).await;
    let mut two = Follower::start(&*log, Start::Earliest);
    two.until_records(10).await;
    lies.recreate(vec![record(100)]);
    one.until(|follower| !follower.resets.is_empty()).await;
    two.until(|follower| !follower.resets.is_empty()).await;
    assert_eq!(one.resets[0].0, log.id());
    assert_eq!(two.resets[0].0, log.id(), "both speak of the same new history");
}

#[tokio::test(start_paused = true)]
async fn a_failover_that_loses_an_acknowledged_tail_is_found() {
    // Hidden by one later write, or by none, or by more than were lost.
    for written in [0, 1, 3, 20] {
        let (log, lies, _, mut follower) = seen(10).await;
        lies.fail_over(0, 3);
        append(&*log, 100..100 + written).await;
        follower.until(|follower| !follower.resets.is_empty()).await;
        let why = follower.resets[0].1;
        assert!(matches!(why, ResetReason::Diverged | ResetReason::Ahead), "{why:?}");
        follower.until_covered(Offset(7 + written)).await;
        assert_eq!(
            follower.offsets(),
            (8..8 + written).map(Offset).collect::<Vec<_>>(),
            "what stands is no news"
        );
        assert!(follower.gaps.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failover_that_loses_nothing_is_not_noticed() {
    let (log, lies, _, mut follower) = seen(10).await;
    lies.fail_over(0, 0);
    append(&*log, 10..20).await;
    follower.until_records(20).await;
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cursor_beyond_the_end_is_no_silence() {
    let (log, _, positions, _) = seen(10).await;
    let ahead = Position { offset: Offset(1010), ..positions[9] };
    let told = Instant::now();
    let mut follower = Follower::start(&*log, Start::After(ahead));
    follower.until(|follower| !follower.resets.is_empty()).await;
    assert!(told.elapsed() <= Duration::from_secs(3));
    assert_eq!(follower.resets[0].1, ResetReason::Ahead);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_consumer_is_given_up_and_said() {
    let (log, lies, _, mut follower) = seen(10).await;
    lies.stall(true);
    append(&*log, 10..20).await;
    follower.until(|follower| matches!(follower.health.last(), Some(Health::Retrying(_)))).await;
    assert_eq!(follower.records.len(), 10);
    lies.stall(false);
    follower.until(|follower| follower.health.last() == Some(&Health::Connected)).await;
    follower.until_records(20).await;
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_log_is_not_taken_for_a_stalled_one() {
    let (_, _, _, mut follower) = seen(10).await;
    let while_idle = tokio::time::timeout(PATIENCE / 2, follower.step()).await;
    assert!(while_idle.is_err(), "an event out of nothing: {while_idle:?}");
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_record_is_isolated_and_told() {
    for poisoned in [&[15][..], &[11], &[20], &[15, 16], &[12, 15, 19]] {
        let (log, lies, _, mut follower) = seen(10).await;
        append(&*log, 10..20).await;
        for &offset in poisoned {
            lies.poison(0, Offset(offset));
        }
        append(&*log, 20..30).await;
        follower.until_covered(Offset(30)).await;
        let lost: Vec<u64> = follower.gaps.iter().flat_map(|gap| gap.after.0 + 1..gap.before.0).collect();
        assert_eq!(lost, poisoned);
        assert!(follower.gaps.iter().all(|gap| gap.why == GapReason::Poisoned));
        assert_eq!(follower.records.len(), 30 - poisoned.len());
        assert!(follower.resets.is_empty());
        // A read tells it too, and goes on after it.
        let first = poisoned[0];
        let batch = log.read(0, Offset(0), ALL).await.expect("readable up to the first");
        assert_eq!((batch.covered_to, batch.at_end), (Offset(first - 1), false));
        let (after, before) = (Offset(first - 1), Offset(first + 1));
        assert_eq!(log.read(0, after, ALL).await, Err(ReadError::Corrupt { after, before }));
    }
}

/// What the broker sends just before the record that kills dies with it, so the last record can never be read again.
#[tokio::test(start_paused = true)]
async fn a_poisoned_record_that_takes_the_one_before_with_it_is_stepped_over() {
    let (log, lies, _, mut follower) = seen(10).await;
    lies.poison(0, Offset(10));
    append(&*log, 10..11).await;
    lies.poison(0, Offset(11));
    lies.disconnect();
    append(&*log, 11..20).await;
    // Of this clock: it retries for ever otherwise.
    let done = tokio::time::timeout(Duration::from_secs(600), follower.until_covered(Offset(20))).await;
    assert!(done.is_ok(), "waits for ever");
    assert_eq!(follower.gaps, [Gap { after: Offset(10), before: Offset(12), why: GapReason::Poisoned }]);
    assert_eq!((follower.records.len(), follower.resets.len()), (19, 0));
}

/// The last record that came kills whoever reads it by now. It has come, so nothing is lost, and what comes behind it is good.
#[tokio::test(start_paused = true)]
async fn a_last_record_that_has_come_and_then_kills_costs_nothing() {
    let (log, lies, _, mut follower) = seen(10).await;
    lies.poison(0, Offset(10));
    lies.disconnect();
    let alone = tokio::time::timeout(PATIENCE / 2, follower.until_records(11));
    assert!(alone.await.is_err(), "nothing is there");
    append(&*log, 10..20).await;
    let done = tokio::time::timeout(Duration::from_secs(600), follower.until_covered(Offset(20))).await;
    assert!(done.is_ok(), "waits for ever");
    assert_eq!((follower.records.len(), follower.gaps.len(), follower.resets.len()), (20, 0, 0));
}

/// As long as the last record cannot be read either, the broker may be ill: no record is given up over three deaths.
#[tokio::test(start_paused = true)]
async fn a_broker_that_recovers_has_poisoned_nothing() {
    let (log, lies, _, mut follower) = seen(10).await;
    lies.poison(0, Offset(10));
    append(&*log, 10..11).await;
    lies.poison(0, Offset(11));
    lies.disconnect();
    // The last record is looked for after each death from the third on.
    let looks = lies.fetches() + 3;
    for _ in 0..10_000 {
        if lies.fetches() >= looks {
            break;
        }
        let _ = tokio::time::timeout(Duration::from_millis(10), follower.step()).await;
    }
    lies.heal(0);
    append(&*log, 11..20).await;
    follower.until_covered(Offset(20)).await;
    assert_eq!((follower.records.len(), follower.gaps.len(), follower.resets.len()), (20, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_first_record_is_stepped_over() {
    let log = MemoryLog::new(Options::default());
    append(&*log, 0..5).await;
    log.lies().poison(0, Offset(1));
    let mut follower = Follower::start(&*log, Start::Earliest);
    follower.until_covered(Offset(5)).await;
    assert_eq!(follower.gaps, [Gap { after: Offset(0), before: Offset(2), why: GapReason::Poisoned }]);
    assert_eq!(follower.records.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_blocked_publisher_does_not_stop_the_readers() {
    let (log, lies, _, mut follower) = seen(10).await;
    lies.publishing(Publishing::Refuses("low on memory".into()));
    let refused = log.append(record(10)).await;
    assert_eq!(refused, Err(AppendError::Blocked("low on memory".into())));
    assert_eq!(follower.step().await, TailEvent::Health(Health::Blocked("low on memory".into())));
    assert_eq!(log.read(0, Offset(0), ALL).await.expect("readable").records.len(), 10);
    lies.publishing(Publishing::Hangs);
    let mut hanging = log.append(record(11));
    assert!((&mut hanging).now_or_never().is_none());
    assert_eq!(log.read(0, Offset(0), ALL).await.expect("readable").records.len(), 10);
    lies.publishing(Publishing::Works);
    hanging.await.expect("confirmed late");
    follower.until_records(11).await;
    // The deadline passes: nobody knows what became of it.
    lies.publishing(Publishing::Hangs);
    let called = Instant::now();
    assert!(matches!(log.append(record(12)).await, Err(AppendError::Unknown(_))));
    assert_eq!(called.elapsed(), DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn a_lost_confirm_is_unknown_and_its_record_is_there() {
    let (log, lies, _, mut follower) = seen(10).await;
    lies.lose_confirms(1);
    assert!(matches!(log.append(record(10)).await, Err(AppendError::Unknown(_))));
    log.append(record(10)).await.expect("the retry is confirmed");
    follower.until_records(12).await;
    assert_eq!(follower.records[10].key, follower.records[11].key, "the duplicate is known by its key");
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_record_is_dropped() {
    let (log, lies, _, mut follower) = seen(10).await;
    lies.redeliver(0, Offset(8));
    lies.redeliver(0, Offset(10));
    append(&*log, 10..12).await;
    follower.until_records(12).await;
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
    // One that came so long ago that it is not remembered: the tail looks again where it stands.
    append(&*log, 12..500).await;
    follower.until_records(500).await;
    lies.redeliver(0, Offset(2));
    append(&*log, 500..510).await;
    follower.until_records(510).await;
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rewritten_record_is_another_history() {
    let (_, lies, _, mut follower) = seen(10).await;
    lies.rewrite(0, Offset(9), record(999));
    follower.until(|follower| !follower.resets.is_empty()).await;
    assert_eq!(follower.resets[0].1, ResetReason::Diverged);
    follower.until_records(2).await;
    assert_eq!(follower.offsets(), [Offset(9), Offset(10)], "what stands before it is no news");
}

#[tokio::test(start_paused = true)]
async fn flapping_connections_lose_nothing() {
    let (log, lies, _, mut follower) = seen(0).await;
    let mut dice = Dice::new("flapping_connections_lose_nothing");
    for n in 0..200 {
        match dice.below(4) {
            0 => lies.disconnect(),
            1 => {
                lies.unreachable(true);
                assert!(matches!(log.append(record(n)).await, Err(AppendError::Blocked(_))));
                assert!(matches!(log.read(0, Offset(0), ALL).await, Err(ReadError::Unavailable(_))));
                follower.until(|f| matches!(f.health.last(), Some(Health::Retrying(_)))).await;
                lies.unreachable(false);
            }
            2 => lies.health(Health::Blocked(format!("alarm {n}"))),
            _ => lies.health(Health::Connected),
        }
        append(&*log, n..n + 1).await;
    }
    follower.until_records(200).await;
    assert!(follower.gaps.is_empty() && follower.resets.is_empty());
}

#[tokio::test(start_paused = true)]
async fn clocks_set_back_make_locate_err_towards_earlier() {
    let (log, lies, positions, _) = seen(10).await;
    for (position, time) in positions.iter().zip([100, 200, 300, 150, 160, 170, 350, 400, 50, 500]) {
        lies.date(*position, time);
    }
    assert_eq!(log.locate(0, 350).await, Ok(Offset(6)));
    assert_eq!(log.locate(0, 160).await, Ok(Offset(1)));
    assert_eq!(log.locate(0, 501).await, Ok(Offset(10)));
}

#[tokio::test(start_paused = true)]
async fn a_bounded_log_forgets_and_tells() {
    let log = MemoryLog::new(Options { records: 100, ..Options::default() });
    let mut follower = Follower::start(&*log, Start::Next);
    append(&*log, 0..1).await;
    follower.until_records(1).await;
    append(&*log, 1..1000).await;
    follower.until_covered(Offset(1000)).await;
    assert_eq!(follower.gaps, [Gap { after: Offset(1), before: Offset(901), why: GapReason::Forgotten }]);
    let small = MemoryLog::new(Options { bytes: 1, ..Options::default() });
    append(&*small, 0..10).await;
    assert_eq!(small.read(0, Offset(9), ALL).await.expect("readable").records.len(), 1, "the newest stays");
}

#[tokio::test]
async fn a_closed_log_ends_its_tails() {
    let (log, _, _, mut follower) = seen(3).await;
    log.close();
    assert!(follower.ended().await);
    assert_eq!(log.append(record(3)).await, Err(AppendError::Closed));
    assert!(log.tail(0, Start::Earliest).next().await.is_none());
}
