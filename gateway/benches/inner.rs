//! The inner parts, one at a time: `cargo bench -p anabranch-gateway`.
//!
//! Everything here happens once for each message, or once for each block of them, never for each delivery: that is what
//! `loadtest` measures.

use anabranch_gateway::hub::block::Block;
use anabranch_gateway::hub::interest::Interest;
use anabranch_gateway::hub::newest::{Newest, Values};
use anabranch_gateway::hub::ring::Ring;
use anabranch_gateway::log::{MessageKey, Record};
use anabranch_protocol::cursor::{Cursor, Fingerprint, LogId, Offset, Position};
use anabranch_protocol::filter::Filter;
use divan::Bencher;
use divan::counter::ItemsCount;
use std::hint::black_box;
use std::sync::Arc;

fn main() {
    divan::main();
}

/// How many filters stand in the trie. A match with a million must cost no more than three times one with a thousand.
const FILTERS: [u32; 2] = [1_000, 1_000_000];

fn filter(text: &str) -> Filter {
    Filter::new(text).expect("a filter")
}

/// Half name a topic of their own, half have wildcards: what dashboards of single devices ask for.
fn interest(filters: u32) -> Interest {
    let mut interest = Interest::new();
    for number in 0..filters {
        interest.insert(&filter(&text(number)), number);
    }
    interest
}

fn text(number: u32) -> String {
    let device = number / 2;
    if number.is_multiple_of(2) {
        format!("iotsphere/devices/d{device}/shadow/delta")
    } else {
        format!("iotsphere/devices/d{device}/telemetry/+")
    }
}

/// A device is chosen as if by chance, so that no cache of the processor helps.
fn device(round: u32, filters: u32) -> u32 {
    (round.wrapping_mul(2_654_435_761)) % (filters / 2)
}

/// A topic whose answer is not cached: its table and its trie are walked, and the answer is kept. Every device speaks, so
/// with a million filters little of what is walked is in the processor's caches.
#[divan::bench(args = FILTERS, sample_size = 1000)]
fn match_anew(bencher: Bencher<'_, '_>, filters: u32) {
    match_topics_of(bencher, filters, filters / 2);
}

/// The same, and only 500 devices speak, however many there are filters for: what remains of the difference is the walk's,
/// not the caches'.
#[divan::bench(args = FILTERS, sample_size = 1000)]
fn match_anew_of_500_devices(bencher: Bencher<'_, '_>, filters: u32) {
    match_topics_of(bencher, filters, 500);
}

fn match_topics_of(bencher: Bencher<'_, '_>, filters: u32, devices: u32) {
    let mut interest = interest(filters);
    let apart = filters / 2 / devices;
    let mut round = 0u32;
    bencher
        .with_inputs(|| {
            round += 1;
            let device = device(round, 2 * devices) * apart;
            format!("iotsphere/devices/d{device}/telemetry/t{round}")
        })
        .bench_local_refs(|topic| interest.matching(black_box(topic)).len());
}

/// A topic that was asked for before.
#[divan::bench(args = FILTERS, sample_size = 1000)]
fn match_again(bencher: Bencher<'_, '_>, filters: u32) {
    let mut interest = interest(filters);
    let topics: Vec<String> = (0..500).map(|n| format!("iotsphere/devices/d{n}/telemetry/t")).collect();
    for topic in &topics {
        interest.matching(topic);
    }
    let mut round = 0;
    bencher.bench_local(|| {
        round = (round + 1) % topics.len();
        interest.matching(black_box(&topics[round])).len()
    });
}

/// A subscription comes and goes.
#[divan::bench(args = FILTERS, sample_size = 1000)]
fn insert_and_remove(bencher: Bencher<'_, '_>, filters: u32) {
    let mut interest = interest(filters);
    let mut round = 0u32;
    bencher
        .with_inputs(|| {
            round += 1;
            filter(&format!("iotsphere/devices/d{}/alerts/+", device(round, filters)))
        })
        .bench_local_refs(|filter| {
            interest.insert(filter, 7);
            interest.remove(filter, 7);
        });
}

/// Whether a grant covers a subscription.
#[divan::bench(sample_size = 1000)]
fn covers(bencher: Bencher<'_, '_>) {
    let (wide, narrow) =
        (filter("iotsphere/devices/+/shadow/#"), filter("iotsphere/devices/d1234567/shadow/+"));
    bencher.bench_local(|| black_box(&wide).covers(black_box(&narrow)));
}

fn position(offset: u64) -> Position {
    Position { partition: 0, offset: Offset(offset), fingerprint: Some(Fingerprint(0x00c0_ffee)) }
}

fn records(count: u64) -> Vec<Record> {
    let topic = "iotsphere/devices/d1234567/telemetry/temperature";
    let payload = "x".repeat(150);
    (1..=count)
        .map(|offset| Record {
            position: position(offset),
            time: 0,
            topic: topic.into(),
            key: MessageKey::new(topic, &offset.to_string()),
            envelope: format!(
                r#"{{"metadata":{{"messageId":"{offset}","timestamp":"2026-01-01T00:00:00Z","topic":"{topic}","source":"d1234567","messageType":"event","version":"1.0"}},"payload":"{payload}"}}"#
            )
            .into(),
        })
        .collect()
}

/// Frames for records, with their headers; each is one item.
#[divan::bench(args = [1, 256], sample_size = 100)]
fn encode(bencher: Bencher<'_, '_>, count: u64) {
    let records = records(count);
    let before = Cursor::beginning(LogId(7));
    bencher
        .counter(ItemsCount::new(count))
        .bench_local(|| Block::encode(black_box(before.clone()), black_box(&records)));
}

/// A ring of 64 MiB that is full: each block that comes makes another go.
#[divan::bench(sample_size = 1000)]
fn ring_push_and_evict(bencher: Bencher<'_, '_>) {
    let mut ring = full_ring();
    let block = Arc::new(Block::encode(Cursor::beginning(LogId(7)), &records(16)));
    bencher.counter(ItemsCount::new(16u64)).bench_local(|| {
        ring.push(Arc::clone(&block));
        if let Some(below) = ring.surplus() {
            ring.evict(below);
        }
    });
}

/// The newest frame's bytes, as a write finds them.
#[divan::bench(sample_size = 1000)]
fn ring_read(bencher: Bencher<'_, '_>) {
    let ring = full_ring();
    let newest = ring.next() - 1;
    bencher.bench_local(|| ring.piece(black_box(newest), newest + 1).map_or(0, |piece| piece.bytes().len()));
}

fn full_ring() -> Ring {
    let mut ring = Ring::new(Cursor::beginning(LogId(7)), 64 << 20);
    let block = Arc::new(Block::encode(Cursor::beginning(LogId(7)), &records(16)));
    while ring.surplus().is_none() {
        ring.push(Arc::clone(&block));
    }
    ring
}

const TOPICS: u64 = 100_000;

fn newest_value(topic: u64, offset: u64) -> Arc<Newest> {
    let name = format!("iotsphere/devices/d{topic}/shadow/reported");
    let envelope =
        format!(r#"{{"metadata":{{"topic":"{name}"}},"payload":{{"on":true,"temperature":21.5}}}}"#);
    Arc::new(Newest::new(name.as_str().into(), position(offset), envelope.as_bytes(), false, false))
}

fn values() -> Values {
    let mut values = Values::new(1 << 30);
    (0..TOPICS).for_each(|topic| values.put(newest_value(topic, topic + 1)));
    values
}

/// A snapshot by one wildcard: each value is found by its offset, matched, and its frame's bytes are taken. An item is a topic.
#[divan::bench(sample_size = 1, sample_count = 50)]
fn snapshot(bencher: Bencher<'_, '_>) {
    let values = values();
    let filter = filter("iotsphere/devices/+/shadow/reported");
    bencher.counter(ItemsCount::new(TOPICS)).bench_local(|| {
        let all = values.between(0, Offset(0), Offset(u64::MAX));
        all.filter(|value| filter.matches(value.topic()))
            .map(|value| value.piece().bytes().len())
            .sum::<usize>()
    });
}

/// A new value takes the place of the one before, among 100,000 topics: once for each state record and shard.
#[divan::bench(sample_size = 1000)]
fn value_put(bencher: Bencher<'_, '_>) {
    let mut values = values();
    let mut offset = TOPICS;
    bencher
        .with_inputs(|| {
            offset += 1;
            newest_value(u64::from(device(offset as u32, 2 * TOPICS as u32)), offset)
        })
        .bench_local_values(|value| values.put(value));
}

#[divan::bench(sample_size = 1000)]
fn cursor_decode() -> Cursor {
    black_box("7f3a9c21d0e1b2c4/0:123456789:9f3a5c01,1:998:00c0ffee").parse().expect("a cursor")
}
