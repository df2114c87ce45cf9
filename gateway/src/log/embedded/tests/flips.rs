//! Flipped bits and worse, anywhere in a log: nothing false is ever served, and nothing is missing in silence.

use super::{open, small, survey};
use crate::log::conformance::{Dice, Follower, append, record};
use crate::log::embedded::disk::simulated::Simulated;
use crate::log::embedded::frame::HEADER;
use crate::log::embedded::segment::base_of;
use crate::log::embedded::{EmbeddedLog, Sync};
use crate::log::{Log, Record, Start};
use std::collections::HashMap;
use std::sync::Arc;

const RECORDS: u64 = 300;
const FLIPS: usize = 1000;

/// When the bit flips.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// While the log is closed, in order.
    Closed,
    /// While it is down after a crash.
    Crashed,
    /// Under a running log.
    Running,
}

struct Original {
    closed: Simulated,
    crashed: Simulated,
    records: Vec<Record>,
    log: Arc<EmbeddedLog>,
}

async fn original() -> Original {
    let disk = Simulated::default();
    let log = open(&disk, small(Sync::None)).expect("opens");
    append(&*log, 0..RECORDS).await;
    let (records, lost) = survey(&*log).await;
    assert!(records.len() as u64 == RECORDS && lost.is_empty());
    let crashed = disk.copy();
    log.close().await;
    Original { closed: disk, crashed, records, log }
}

/// The files, and how long they are.
fn files(disk: &Simulated) -> Vec<(String, usize)> {
    use crate::log::embedded::disk::Disk;
    let names = disk.names().expect("names");
    let sized = names.into_iter().map(|name| {
        let length = disk.open(&name).and_then(|file| file.len()).expect("a length");
        (name, length as usize)
    });
    sized.collect()
}

/// Which record has a byte of a segment, if any.
fn hit(records: &[Record], files: &[(String, usize)], name: &str, byte: usize) -> Option<u64> {
    let base = base_of(name)?;
    let next = files.iter().filter_map(|(name, _)| base_of(name)).find(|other| *other > base);
    let mut at = HEADER;
    for record in records {
        let offset = record.position.offset.0;
        if offset < base || next.is_some_and(|next| offset >= next) {
            continue;
        }
        let size = HEADER + record.topic.len() + record.envelope.len();
        if (at..at + size).contains(&byte) {
            return Some(offset);
        }
        at += size;
    }
    None
}

#[derive(Debug, Default)]
struct Figures {
    in_records: usize,
    reported: usize,
    cut: usize,
    elsewhere: usize,
    refused: usize,
}

#[tokio::test]
async fn a_thousand_flipped_bits_are_noticed() {
    let mut dice = Dice::new("a_thousand_flipped_bits_are_noticed");
    let original = original().await;
    let mut figures = Figures::default();
    for n in 0..FLIPS {
        let when = [When::Closed, When::Crashed, When::Running][n % 3];
        flip(&original, when, &mut dice, &mut figures).await;
    }
    drop(original.log);
    println!(
        "{FLIPS} flipped bits: {figures:?}; wrong payload served 0; offsets reused 0; missing in silence 0"
    );
    assert_eq!(figures.in_records, figures.reported + figures.cut);
    assert!(figures.in_records > FLIPS / 2, "most of a log is records: {figures:?}");
}

async fn flip(original: &Original, when: When, dice: &mut Dice, figures: &mut Figures) {
    let source = if when == When::Crashed { &original.crashed } else { &original.closed };
    let disk = source.copy();
    let running = (when == When::Running).then(|| open(&disk, small(Sync::None)).expect("opens"));
    let mut files = files(&disk);
    files.retain(|(_, length)| *length > 0);
    let total: usize = files.iter().map(|(_, length)| length).sum();
    let mut byte = dice.below(total as u64) as usize;
    let (name, _) = files
        .iter()
        .find(|(_, length)| {
            let here = byte < *length;
            byte = if here { byte } else { byte - length };
            here
        })
        .expect("a byte of some file");
    let bit = dice.below(8);
    disk.tamper(name, |content| content[byte] ^= 1 << bit);
    let what = format!("{when:?}: bit {bit} of byte {byte} of {name}");
    let victim = hit(&original.records, &files, name, byte);
    let log = match running.map_or_else(|| open(&disk, small(Sync::None)), Ok) {
        Ok(log) => log,
        Err(error) => {
            assert_eq!(victim, None, "{what}: {error}");
            figures.refused += 1;
            return;
        }
    };
    assert_eq!(log.id(), original.log.id(), "{what}");
    let last = original.records[original.records.len() - 1].position.offset.0;
    let (records, lost) = survey(&*log).await;
    let found: HashMap<u64, &Record> = records.iter().map(|r| (r.position.offset.0, r)).collect();
    let told = |offset: u64| lost.iter().any(|(after, before)| *after < offset && offset < *before);
    let mut missing = Vec::new();
    for record in &original.records {
        let offset = record.position.offset.0;
        match found.get(&offset) {
            Some(found) => assert_eq!(*found, record, "{what}: another record is served"),
            None => missing.push(offset),
        }
    }
    assert!(records.len() <= original.records.len(), "{what}: records out of nothing");
    let new = log.append(record(7777)).await.expect("confirmed").offset.0;
    assert!(new > last, "{what}: offset {new} again");
    match victim {
        Some(victim) => {
            figures.in_records += 1;
            assert_eq!(missing, [victim], "{what}");
            if told(victim) {
                figures.reported += 1;
            } else {
                // Not to be told from a torn tail. Whoever has seen it is told.
                assert!(when == When::Crashed && victim == last, "{what}: missing in silence");
                let seen = original.records[original.records.len() - 1].position;
                let mut follower = Follower::start(&*log, Start::After(seen));
                follower.until_covered(anabranch_protocol::cursor::Offset(new)).await;
                assert_eq!(follower.gaps.len(), 1, "{what}: missing in silence");
                figures.cut += 1;
            }
        }
        None => {
            figures.elsewhere += 1;
            assert!(missing.is_empty(), "{what}: {missing:?} are missing");
        }
    }
    log.close().await;
}

/// Whole ranges zeroed, filled with noise, cut out, cut off, or written over with other parts of the log.
#[tokio::test]
async fn vandalized_segments_are_read_around() {
    let mut dice = Dice::new("vandalized_segments_are_read_around");
    let original = original().await;
    let (mut damaged, mut missing) = (0, 0);
    for _ in 0..500 {
        let disk = original.closed.copy();
        let names: Vec<_> = files(&disk).into_iter().map(|(name, _)| name).collect();
        let names: Vec<_> = names.into_iter().filter(|name| base_of(name).is_some()).collect();
        for _ in 0..=dice.below(6) {
            let name = &names[dice.below(names.len() as u64) as usize];
            disk.tamper(name, |content| vandalize(content, &mut dice));
            damaged += 1;
        }
        let log = open(&disk, small(Sync::None)).expect("opens");
        assert_eq!(log.id(), original.log.id());
        let (records, lost) = survey(&*log).await;
        let found: HashMap<u64, &Record> = records.iter().map(|r| (r.position.offset.0, r)).collect();
        assert_eq!(found.len(), records.len(), "a record is served twice");
        for record in &original.records {
            let offset = record.position.offset.0;
            let told = lost.iter().any(|(after, before)| *after < offset && offset < *before);
            match found.get(&offset) {
                Some(found) => assert_eq!(*found, record, "another record is served"),
                None => assert!(told, "{offset} is missing in silence: {lost:?}"),
            }
            missing += usize::from(!found.contains_key(&offset));
        }
        assert!(records.len() <= original.records.len(), "records out of nothing");
        let new = log.append(record(7777)).await.expect("confirmed").offset.0;
        assert!(new > RECORDS, "offset {new} again");
        log.close().await;
    }
    println!("{damaged} ranges damaged, {missing} records missing, all of them told");
    assert!(missing > 500, "the damage does some harm");
}

fn vandalize(content: &mut Vec<u8>, dice: &mut Dice) {
    if content.is_empty() {
        return;
    }
    let length = content.len() as u64;
    let from = dice.below(length) as usize;
    let to = (from + 1 + dice.below(500) as usize).min(content.len());
    match dice.below(5) {
        0 => content[from..to].fill(0),
        1 => content[from..to].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
        2 => drop(content.drain(from..to)),
        3 => content.truncate(from),
        _ => {
            let source = dice.below(length - (to - from) as u64 + 1) as usize;
            content.copy_within(source..source + (to - from), from);
        }
    }
}
