//! Acts on shadows: gives the ledger what is read, and appends what it finds due while this node holds the duty.

use super::ledger::{Job, Ledger, Task};
use super::{Limits, Topics};
use crate::hub::newest::Values;
use crate::hub::publish::Publisher;
use crate::log::{Log, Record};
use crate::node::Clock;
use anabranch_protocol::cursor::{Cursor, Offset, Partition, Position};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

/// The duty's name, where nodes agree on who has it.
pub const DUTY: &str = "shadows";
/// Devices looked at while the ledger is locked: the pump waits meanwhile.
const DEVICES: usize = 8;
/// Appends under way, at most.
const APPENDS: usize = 512;
/// How often it is looked at what the log is about to forget.
const KEEP: Duration = Duration::from_secs(60);
/// How often work that has failed is looked at again.
const AGAIN: Duration = Duration::from_millis(500);

/// The shadows of a node.
#[derive(Debug)]
pub struct Shadows {
    topics: Topics,
    ledger: Mutex<Ledger>,
    wake: Notify,
    on_duty: AtomicBool,
}

impl Shadows {
    pub fn new(topics: Topics, limits: Limits) -> Arc<Shadows> {
        let ledger = Mutex::new(Ledger::new(topics.clone(), limits, uuid::Uuid::new_v4().to_string()));
        Arc::new(Shadows { topics, ledger, wake: Notify::new(), on_duty: AtomicBool::new(false) })
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the gateway alone writes this topic.
    pub fn is_reserved(&self, topic: &str) -> bool {
        self.topics.is_reserved(topic)
    }

    /// Takes in what was read, and leaves out what is void. Nothing is locked if nothing of it is a shadow's.
    pub fn take(&self, records: &mut Vec<Record>) {
        if !records.iter().any(|record| self.topics.split(&record.topic).is_some()) {
            return;
        }
        let mut ledger = self.ledger();
        records.retain(|record| ledger.take(record));
        drop(ledger);
        self.wake.notify_one();
    }

    /// Whether a record is known to be void.
    pub fn is_void(&self, topic: &str, position: Position) -> bool {
        self.topics.is_reserved(topic) && self.ledger().is_void(position)
    }

    /// See [`Ledger::begin`].
    pub fn begin(&self, values: &Values, settled: impl Fn(Partition) -> Offset) {
        let mut ledger = self.ledger();
        for partition in values.partitions() {
            ledger.lose(partition, values.unsure_to(partition).max(values.deletions_unsure_to(partition)));
        }
        ledger.begin(values.iter(), settled);
    }

    /// The log had forgotten records up to here when this node began to read it.
    pub fn begin_behind(&self, partition: Partition, to: Offset) {
        self.ledger().lose(partition, to);
    }

    /// See [`Ledger::settled_to`].
    pub fn settled_to(&self, partition: Partition, head: Offset) -> Offset {
        self.ledger().settled_to(partition, head)
    }

    /// See [`Ledger::part`].
    pub fn part(&self, head: &Cursor) {
        self.ledger().part(head);
        self.wake.notify_one();
    }

    /// Records up to here are gone. What they asked for is lost, if nobody had answered it.
    pub fn lose(&self, partition: Partition, to: Offset) {
        self.ledger().lose(partition, to);
        metrics::counter!("anabranch_shadow_gaps_total").increment(1);
        tracing::warn!(
            partition,
            %to,
            "the log has lost records: shadows are true as of what it had, and updates among those records are lost"
        );
    }

    /// Looks, for ever, at what the log is about to forget: whoever has the duty writes it again.
    pub async fn keep(self: Arc<Self>, log: Arc<dyn Log>) {
        let mut ticks = tokio::time::interval(KEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut oldest = Vec::new();
            let mut last = Vec::new();
            for partition in 0..log.capabilities().partitions {
                match log.bounds(partition).await {
                    Ok(bounds) => {
                        oldest.push(bounds.oldest);
                        last.push(bounds.last);
                    }
                    // Nothing is done below offset 0.
                    Err(_) => {
                        oldest.push(Offset(0));
                        last.push(Offset(0));
                    }
                }
            }
            let at =
                |list: &[Offset], partition| list.get(usize::from(partition)).copied().unwrap_or(Offset(0));
            let mut ledger = self.ledger();
            ledger.forget(|partition| at(&oldest, partition));
            if self.on_duty.load(Ordering::Relaxed) {
                // What stands in the oldest quarter. Of a log that forgets nothing, each is written again when it has grown fourfold.
                let count = ledger.refresh(|partition| {
                    let (oldest, last) = (at(&oldest, partition), at(&last, partition));
                    Offset(oldest.0 + last.0.saturating_sub(oldest.0) / 4)
                });
                metrics::counter!("anabranch_shadow_rewritten_total").increment(count as u64);
                if count > 0 {
                    self.wake.notify_one();
                }
            }
        }
    }

    /// Acts for ever.
    pub async fn run(self: Arc<Self>, log: Arc<dyn Log>, publisher: Arc<Publisher>, clock: Clock) {
        let mut duty = log.duty(DUTY);
        let mut on_duty = false;
        let mut ticks = tokio::time::interval(AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running: FuturesUnordered<BoxFuture<'static, (Job, bool)>> = FuturesUnordered::new();
        let failures = Arc::new(Failures::default());
        loop {
            while on_duty && running.len() < APPENDS {
                let tasks = self.ledger().work(DEVICES, clock.now(), clock.unix_ms());
                if tasks.is_empty() {
                    break;
                }
                for Task { job, record } in tasks {
                    // Appended in this order: the publisher queues them in the call.
                    let stored = publisher.publish(record);
                    let failures = Arc::clone(&failures);
                    running.push(Box::pin(async move {
                        let stored = stored.await;
                        stored.as_ref().err().inspect(|error| failures.note(error));
                        (job, stored.is_ok())
                    }));
                }
                tokio::task::yield_now().await;
            }
            tokio::select! {
                Some(now_on_duty) = duty.next() => {
                    if on_duty != now_on_duty {
                        tracing::info!(on_duty = now_on_duty, "this node's duty for shadows has changed");
                    }
                    on_duty = now_on_duty;
                    self.on_duty.store(on_duty, Ordering::Relaxed);
                    metrics::gauge!("anabranch_shadow_on_duty").set(f64::from(u8::from(on_duty)));
                }
                Some((job, stored)) = running.next() => self.ledger().done(&job, stored),
                () = self.wake.notified() => {}
                _ = ticks.tick() => {
                    let mut ledger = self.ledger();
                    ledger.look_again(clock.now());
                    metrics::gauge!("anabranch_shadows").set(ledger.len() as f64);
                    metrics::gauge!("anabranch_shadow_waiting").set(ledger.waiting() as f64);
                }
            }
        }
    }
}

/// Appends that failed, told to the operator now and then.
#[derive(Debug, Default)]
struct Failures(AtomicU64);

impl Failures {
    fn note(&self, error: &crate::log::AppendError) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        if (before + 1).is_power_of_two() {
            tracing::warn!(so_far = before + 1, "a shadow's message is not stored, and tried again: {error}");
        }
    }
}
