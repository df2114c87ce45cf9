//! Core × gateway × lying log, in virtual time: whole lives out of one seed each.
//!
//! What runs is real: the SDK's core, the gateway's pump, shard, sessions, resume and replay, and the memory log with its broker that
//! lies. What is around it is made: a client's body, which carries out effects as `sdk-rust` does, a store that writes late and
//! speaks later, a link that holds back, cuts and doubles bytes, and time, which passes when the seed says so. Everything is
//! polled by hand on one thread, and chance and wall clock are the thread's own ([`crate::outside`]), so a seed is a history.
//!
//! The oracle is the same as elsewhere, the invariants I1 to I5 and I7 to I10, each named where it is checked:
//!
//! * I1: no event up to an app's cursor is missing, unless a gap was told that it lies in; at the end, of state the newest values;
//! * I2, I3: nothing comes twice, out of order or unasked; nothing is shown at the end that the log does not have;
//! * I4: a stored cursor is never ahead of what the app was told and the store has;
//! * I5: a publish that was accepted is in the log, or its end was told; none is said to be unsent that was stored;
//! * I7, I8, I9: one socket, none before the slot that the gateway gave, none against the app's will;
//! * I10: nothing comes, and nothing stays in the cache, of what was revoked.
//!
//! Two lives of three have a broker that lies and tokens that narrow. In the third only network, processes and clocks fail: then no
//! gap may be told, and no publish overtaken. After each life there is peace, in which everything must come to its end.
//!
//! `ANABRANCH_SEED=7` runs one life and shows its trace; `ANABRANCH_SEEDS=100000` runs so many, from that seed or from 0.

mod account;
mod app;
mod client;
mod dice;
mod host;
mod keeper;
mod link;
mod said;
mod step;
mod trace;
mod truth;
mod world;

use crate::hub::classes::{Class, Classes, Value};
use anabranch_protocol::filter::Filter;
use std::ops::Range;
use std::sync::Arc;
use tokio::runtime::Runtime;
use trace::{Mode, Trace};
use world::World;

const TOPICS: [&str; 7] = ["a", "a/b", "a/b/c", "b", "s/1", "s/2", "s/3"];
const FILTERS: [&str; 7] = ["#", "a/#", "+", "s/#", "b", "a/b", "s/1"];

/// What may be read and written with a token.
type Grants = (&'static [&'static str], &'static [&'static str]);
const ALL: Grants = (&["#"], &["#"]);
const NARROW: Grants = (&["a/#", "s/1"], &["a/#", "s/#"]);

fn is_state(topic: &str) -> bool {
    topic.starts_with("s/")
}

fn classes() -> Arc<Classes> {
    let state = (Filter::new("s/#").expect("a filter"), Class::State(Value::Whole));
    Arc::new(Classes::new([state]).expect("no conflict"))
}

/// For its clock, which stands still until it is told to move.
fn paused() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime")
}

/// Lives one life.
fn live(seed: u64, mode: Mode) -> Vec<String> {
    let _said = Said(seed);
    let runtime = paused();
    let _context = runtime.enter();
    let trace = Trace::new(mode);
    World::new(&runtime, seed, trace.clone()).run();
    trace.take()
}

/// Says which seed it was, if that fails.
struct Said(u64);

impl Drop for Said {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {0} fails: ANABRANCH_SEED={0} runs it alone, and shows what happens", self.0);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// The lives of one of `SLICES` tests, which run side by side.
fn lives(slice: u64) {
    const SEEDS: u64 = 40_000;
    const SLICES: u64 = 4;
    let (seed, count) = (number("ANABRANCH_SEED"), number("ANABRANCH_SEEDS"));
    let (first, count) = match (seed, count) {
        (Some(seed), None) => (seed, 1),
        (seed, count) => (seed.unwrap_or(0), count.unwrap_or(SEEDS)),
    };
    // One alone is the first slice's.
    let place = |slice: u64| first + (count * slice).div_ceil(SLICES);
    let seeds: Range<u64> = place(slice)..place(slice + 1);
    let mode = if count == 1 { Mode::Shown } else { Mode::Silent };
    for seed in seeds {
        live(seed, mode);
    }
}

#[test]
fn the_invariants_hold_in_every_life_first_slice() {
    lives(0);
}

#[test]
fn the_invariants_hold_in_every_life_second_slice() {
    lives(1);
}

#[test]
fn the_invariants_hold_in_every_life_third_slice() {
    lives(2);
}

#[test]
fn the_invariants_hold_in_every_life_fourth_slice() {
    lives(3);
}

/// Each life is lived twice, the second time on another thread: nothing in it comes from elsewhere than its seed.
#[test]
fn a_seed_is_a_history() {
    let (mut lines, mut hashes) = (0, std::collections::BTreeSet::new());
    for seed in 0..200 {
        let once = live(seed, Mode::Kept);
        let again = std::thread::spawn(move || live(seed, Mode::Kept)).join().expect("the same end");
        let differs = once.iter().zip(&again).position(|(one, other)| one != other);
        if let Some(line) = differs {
            panic!("seed {seed}, line {line}: {:?}, and then {:?}", once[line], again[line]);
        }
        assert_eq!(once.len(), again.len(), "seed {seed}: as long");
        lines += once.len();
        hashes.insert(crc32c::crc32c(once.join("\n").as_bytes()));
    }
    assert_eq!(hashes.len(), 200, "other seeds, other histories");
    println!("200 lives, {lines} lines");
}
