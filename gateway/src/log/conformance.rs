//! What every log must do: the trait's prose, made to fail. Each backend runs every case:
//!
//! ```ignore
//! anabranch_gateway::log_conformance!(MyHarness::fresh);
//! ```
//!
//! The list below is the only way to a case, and the macro is made from it: no backend can leave one out, and a case
//! that is not listed does not compile without a warning.

mod append;
mod follow;
mod forget;
mod model;
mod read;
mod reopen;
mod tail;

use super::{Log, MessageKey, NewRecord};
use anabranch_protocol::cursor::Position;
use anabranch_protocol::topic::Topic;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

pub use follow::Follower;

/// A log under test, and what a case does to it from outside. Starts empty, with at least 10,000 records' room.
pub trait Harness: Send {
    /// The log.
    fn log(&self) -> Arc<dyn Log>;

    /// Makes the log forget some of its oldest records, not all. Says `false` if that cannot be done here.
    fn forget(&mut self) -> BoxFuture<'_, bool>;

    /// Closes the log and opens it again. Says `false` if nothing would survive.
    fn reopen(&mut self) -> BoxFuture<'_, bool>;
}

/// How long a case waits for what must come. Long, for machines under load; nothing waits for it in good cases.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The list, handed to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! log_conformance_cases {
    ($with:path { $($args:tt)* }) => {
        $with! { { $($args)* }
            append: appended_records_are_read_back, offsets_follow_the_order_of_calls, a_dropped_append_is_done,
                concurrent_appends_get_their_own_offsets, envelopes_of_every_size_are_kept, too_large_is_refused;
            read: an_empty_log_is_empty, a_read_stops_at_its_budget, pages_join_without_seam,
                a_read_begins_anywhere, a_read_beyond_the_end_says_where_the_end_is,
                bounds_name_the_newest_record, unknown_partitions_are_refused, locate_errs_towards_earlier;
            tail: a_tail_begins_with_its_health, next_is_what_follows_the_call, earliest_is_everything,
                after_a_position_is_what_follows_it, after_an_offset_without_fingerprint,
                another_record_there_is_a_reset, a_position_beyond_the_end_is_a_reset,
                tails_do_not_disturb_each_other, a_slow_tail_gets_everything, a_dropped_wait_loses_nothing;
            forget: a_forgotten_offset_cannot_be_read_after, nothing_is_lost_at_the_edge,
                a_slow_tail_is_told_the_gap, a_tail_after_a_forgotten_record_is_told_the_gap;
            reopen: records_and_id_survive, offsets_go_on, a_tail_resumes_in_the_reopened_log;
            model: random_operations_agree_with_the_memory_log;
        }
    };
}

/// One test for each case. Takes an async function that makes a [`Harness`](crate::log::conformance::Harness); after the
/// word `try`, one that makes an `Option` of it, and has said why if it made none.
#[macro_export]
macro_rules! log_conformance {
    (try $fresh:expr) => {
        $crate::log_conformance_cases! { $crate::log_conformance_tests { $fresh } }
    };
    ($fresh:expr) => {
        $crate::log_conformance!(try || async { Some(($fresh)().await) });
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! log_conformance_tests {
    ({ $fresh:expr } $($room:ident: $($case:ident),+;)+) => {
        $crate::log_conformance_tests! { @each $fresh, $($($case)+)+ }
    };
    (@each $fresh:expr, $($case:ident)+) => {
        $(
            #[tokio::test]
            async fn $case() {
                let fresh = $fresh;
                let Some(mut harness) = fresh().await else { return };
                $crate::log::conformance::run(stringify!($case), &mut harness).await;
            }
        )+
    };
}

macro_rules! table {
    ({} $($room:ident: $($case:ident),+;)+) => {
        /// Every case, by name.
        pub const CASES: &[(&str, Case)] = &[
            $($((stringify!($case), |harness| Box::pin($room::$case(harness))),)+)+
        ];
    };
}

log_conformance_cases! { table {} }

/// One case.
pub type Case = for<'a> fn(&'a mut dyn Harness) -> BoxFuture<'a, ()>;

/// Runs one case.
pub async fn run(name: &str, harness: &mut dyn Harness) {
    let (_, case) = CASES.iter().find(|(known, _)| *known == name).expect("a listed case");
    case(harness).await;
}

/// A well-formed record whose envelope tells `n`.
pub fn record(n: u64) -> NewRecord {
    record_of(&format!("iotsphere/devices/d{}/telemetry/temperature", n % 7), n, 0)
}

/// The same, on a topic of one's own and with `padding` bytes more.
pub fn record_of(topic: &str, n: u64, padding: usize) -> NewRecord {
    let padding = "x".repeat(padding);
    let envelope = format!(
        r#"{{"metadata":{{"messageId":"m{n}","topic":"{topic}"}},"payload":{{"n":{n},"p":"{padding}"}}}}"#
    );
    NewRecord {
        topic: Topic::new(topic).expect("a valid topic"),
        key: MessageKey::new(topic, &format!("m{n}")),
        envelope: Bytes::from(envelope),
    }
}

/// Appends records `numbers`, one after the other, and returns their positions.
pub async fn append(log: &dyn Log, numbers: std::ops::Range<u64>) -> Vec<Position> {
    let confirms: Vec<_> = numbers.map(|n| log.append(record(n))).collect();
    let mut positions = Vec::with_capacity(confirms.len());
    for confirm in confirms {
        positions.push(confirm.await.expect("the append is confirmed"));
    }
    positions
}

/// Numbers for random cases: splitmix64, from a seed that the case prints.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From `ANABRANCH_SEED` if it is set, so that a failure can be had again; else from the system.
    pub fn new(what: &str) -> Dice {
        let seed = match std::env::var("ANABRANCH_SEED") {
            Ok(seed) => seed.parse().expect("ANABRANCH_SEED is a number"),
            Err(_) => getrandom::u64().expect("random numbers"),
        };
        println!("{what}: ANABRANCH_SEED={seed}");
        Dice(seed)
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
