use super::*;
use crate::log::MessageKey;
use crate::log::conformance::Dice;
use bytes::Bytes;

fn position(offset: u64, fingerprint: u32) -> Position {
    Position { partition: 0, offset: Offset(offset), fingerprint: Some(Fingerprint(fingerprint)) }
}

fn delivery(offset: u64, fingerprint: u32) -> Delivery {
    Delivery::Record(Record {
        position: position(offset, fingerprint),
        time: 0,
        topic: "t".into(),
        key: MessageKey([0; 16]),
        envelope: Bytes::new(),
    })
}

/// Judges, and writes down what follows: records by offset, `-7` for progress, `5..9` for a gap, then the rest.
fn judge(continuity: &mut Continuity, deliveries: &[Delivery], earliest: Option<u64>) -> String {
    let mut queue: VecDeque<_> = deliveries.to_vec().into();
    let judgement = continuity.judge(&mut queue, earliest.map(Offset));
    let mut words: Vec<String> = Vec::new();
    for event in judgement.events {
        match event {
            TailEvent::Records(batch) => {
                words.extend(batch.records.iter().map(|record| record.position.offset.to_string()));
                let last = batch.records.last().map(|record| record.position.offset);
                if last != Some(batch.covered_to) {
                    words.push(format!("-{}", batch.covered_to));
                }
            }
            TailEvent::Progress(offset) => words.push(format!("-{offset}")),
            TailEvent::Gap(gap) => words.push(format!("{}..{}", gap.after, gap.before)),
            other => words.push(format!("{other:?}")),
        }
    }
    if judgement.then != Then::Continue {
        words.push(format!("{:?}", judgement.then));
    }
    assert!(judgement.then != Then::Continue || queue.is_empty(), "deliveries are left");
    words.join(" ")
}

/// A continuity that has seen 5, 6 and 7, each with its offset as fingerprint.
fn seen_to_7() -> Continuity {
    let mut continuity = Continuity::after(position(4, 4));
    assert_eq!(continuity.begin(), Begin { from: Offset(4), check: None });
    let seen = [delivery(4, 4), delivery(5, 5), delivery(6, 6), delivery(7, 7)];
    assert_eq!(judge(&mut continuity, &seen, None), "5 6 7");
    continuity
}

#[test]
fn a_restart_must_find_the_last_record() {
    let cases: [(&[Delivery], Option<u64>, &str); 8] = [
        (&[delivery(7, 7), delivery(8, 8)], None, "8"),
        (&[delivery(5, 5), delivery(6, 6), delivery(7, 7), delivery(8, 8)], None, "8"),
        (&[delivery(7, 1), delivery(8, 8)], None, "Reset(Diverged)"),
        (&[Delivery::Blank(Offset(7))], None, "Reset(Diverged)"),
        (&[delivery(9, 9)], None, "Probe"),
        (&[delivery(9, 9)], Some(7), "Reset(Diverged)"),
        (&[delivery(9, 9)], Some(9), "7..9 9"),
        (&[delivery(9, 9)], Some(8), "9"),
    ];
    for (deliveries, earliest, expected) in cases {
        let mut continuity = seen_to_7();
        assert_eq!(continuity.begin().from, Offset(7));
        assert_eq!(judge(&mut continuity, deliveries, earliest), expected, "{deliveries:?} {earliest:?}");
    }
}

#[test]
fn a_forward_jump_is_a_hole_or_a_gap() {
    let jump = [delivery(8, 8), delivery(12, 12), delivery(13, 13), delivery(20, 20)];
    let mut continuity = seen_to_7();
    assert_eq!(judge(&mut continuity, &jump, None), "8 Probe");
    assert_eq!(judge(&mut continuity, &jump[1..], Some(1)), "12 13 20");
    let mut continuity = seen_to_7();
    assert_eq!(judge(&mut continuity, &jump, Some(9)), "8 12 13 20");
    let mut continuity = seen_to_7();
    assert_eq!(judge(&mut continuity, &jump, Some(12)), "8 8..12 12 13 20");
    let mut continuity = seen_to_7();
    assert_eq!(judge(&mut continuity, &jump, Some(20)), "8 8..12 12 13 13..20 20");
}

#[test]
fn duplicates_are_dropped_and_rewritten_records_are_a_reset() {
    let mut continuity = seen_to_7();
    assert_eq!(judge(&mut continuity, &[delivery(6, 6), delivery(7, 7), delivery(8, 8)], None), "8");
    assert_eq!(judge(&mut continuity, &[delivery(6, 1)], None), "Reset(Diverged)");
    assert_eq!(judge(&mut continuity, &[delivery(2, 2)], None), "Restart", "too long ago to be remembered");
}

#[test]
fn blanks_advance_the_coverage() {
    let mut continuity = seen_to_7();
    let blank = |offset| Delivery::Blank(Offset(offset));
    assert_eq!(judge(&mut continuity, &[blank(8), blank(9), delivery(10, 1), blank(11)], None), "-9 10 -11");
    assert_eq!(continuity.covered(), Some(Offset(11)));
    assert_eq!(continuity.begin().from, Offset(10), "a blank is no anchor");
    let mut rewritten = continuity.clone();
    // After a restart, what is behind the anchor comes again: passed over once more, and not taken for disorder.
    assert_eq!(judge(&mut continuity, &[delivery(10, 1), blank(11), delivery(12, 1)], None), "12");
    let mut deliveries = [delivery(10, 1), delivery(11, 1)].into();
    assert_eq!(rewritten.judge(&mut deliveries, None).then, Then::Reset(ResetReason::Diverged));
}

#[test]
fn silence_is_questioned() {
    let cases: [(u64, Option<Position>, Then); 8] = [
        (1, Some(position(7, 7)), Then::Continue),
        (1, Some(position(7, 1)), Then::Reset(ResetReason::Diverged)),
        (1, Some(position(3, 3)), Then::Reset(ResetReason::Ahead)),
        (1, Some(position(9, 9)), Then::Restart),
        (8, None, Then::Continue),
        (1, None, Then::Reset(ResetReason::Recreated)),
        (7, Some(position(7, 7)), Then::Continue),
        (9, Some(position(9, 9)), Then::Restart),
    ];
    for (earliest, latest, then) in cases {
        assert_eq!(seen_to_7().quiet(Offset(earliest), latest), then, "{earliest} {latest:?}");
    }
    let mut restarted = seen_to_7();
    restarted.begin();
    assert_eq!(restarted.quiet(Offset(1), Some(position(7, 7))), Then::Restart, "7 should have come");
    let fresh = Continuity::from_earliest(0);
    assert_eq!(fresh.quiet(Offset(1), None), Then::Continue);
    assert_eq!(fresh.quiet(Offset(1), Some(position(1, 1))), Then::Restart);
}

#[test]
fn a_poisoned_record_is_stepped_over_and_the_history_still_verified() {
    let mut continuity = seen_to_7();
    assert_eq!(continuity.step_over(), Gap { after: Offset(7), before: Offset(9), why: GapReason::Poisoned });
    assert_eq!(continuity.begin(), Begin { from: Offset(9), check: Some(Offset(7)) });
    assert_eq!(continuity.confirm(Some(position(7, 7)), Offset(1)), Ok(()));
    assert_eq!(continuity.confirm(Some(position(7, 1)), Offset(1)), Err(ResetReason::Diverged));
    assert_eq!(continuity.confirm(None, Offset(1)), Err(ResetReason::Diverged));
    assert_eq!(continuity.confirm(None, Offset(9)), Ok(()), "forgotten by now");
    assert_eq!(judge(&mut continuity, &[delivery(9, 9)], None), "9");
    assert_eq!(continuity.begin(), Begin { from: Offset(9), check: None });
}

/// A broker's offsets with holes, and at times its truncation, against what a reader makes of them.
#[test]
fn a_million_records_with_holes_are_followed_without_a_false_gap() {
    let mut dice = Dice::new("a_million_records_with_holes_are_followed_without_a_false_gap");
    for truncates in [false, true] {
        let mut continuity = Continuity::after(position(1, 1));
        continuity.begin();
        assert_eq!(judge(&mut continuity, &[delivery(1, 1)], None), "");
        let (mut next, mut earliest, mut written, mut delivered, mut lost) = (2, 1, 0, 0, 0);
        let (mut gaps, mut probes) = (0, 0);
        while written < 1_000_000 {
            let mut batch = VecDeque::new();
            let before = lost;
            for _ in 0..=dice.below(200) {
                next += if dice.below(50) == 0 { 1 + dice.below(4) } else { 0 };
                batch.push_back(delivery(next, 1));
                next += 1;
                written += 1;
            }
            if truncates && dice.below(20) == 0 {
                // Retention overtakes the reader: it gets only what is left.
                let drop_to = dice.below(batch.len() as u64) as usize;
                lost += drop_to;
                batch.drain(..drop_to);
                earliest = batch[0].offset().0;
            }
            let mut judgement = continuity.judge(&mut batch, None);
            if judgement.then == Then::Probe {
                probes += 1;
                let mut events = judgement.events;
                judgement = continuity.judge(&mut batch, Some(Offset(earliest)));
                events.append(&mut judgement.events);
                judgement.events = events;
            }
            assert_eq!((judgement.then, batch.len()), (Then::Continue, 0));
            let mut in_gap = false;
            for event in judgement.events {
                match event {
                    TailEvent::Records(batch) => delivered += batch.records.len(),
                    TailEvent::Gap(_) => in_gap = true,
                    other => panic!("{other:?}"),
                }
            }
            gaps += usize::from(in_gap);
            assert!(lost == before || in_gap, "records are lost and nobody is told");
        }
        assert_eq!(delivered + lost, written, "each record is delivered, or lost in a gap");
        assert!(truncates || gaps == 0, "{gaps} false gaps");
        println!("{written} records, {probes} probes, {lost} lost, {gaps} gaps");
    }
}
