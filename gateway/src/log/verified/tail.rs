//! One tail: a consumer that is replaced as often as needed, and what became of the records in between.

use super::name::{Doubt, UNANSWERED};
use super::{History, Shared, within};
use crate::log::continuity::{Continuity, Judgement, Then};
use crate::log::source::{Consumption, Delivery, Fetched, Pace, Source, SourceError, SourceEvent};
use crate::log::{Budget, Health, ResetReason, Start, TailEvent};
use anabranch_protocol::cursor::{LogId, Offset, Partition, Position};
use futures_util::future::{BoxFuture, FutureExt, join};
use futures_util::stream::{Stream, StreamExt, unfold};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

pub(super) fn start<S: Source>(
    shared: Arc<Shared<S>>,
    partition: Partition,
    from: Start,
) -> impl Stream<Item = TailEvent> + Send {
    let origin = match from {
        // Asked in the call itself: what is appended after it belongs to this tail.
        Start::Next => Origin::Next(shared.source.latest(partition), shared.source.earliest(partition)),
        Start::Earliest => Origin::Known(Continuity::from_earliest(partition)),
        Start::After(position) => Origin::Known(Continuity::after(Position { partition, ..position })),
    };
    let history = shared.history.subscribe();
    let id = shared.history().id;
    let tail = Tail {
        shared,
        partition,
        history,
        id,
        origin: Some(origin),
        continuity: Continuity::from_earliest(partition),
        consumption: None,
        out: VecDeque::new(),
        health: None,
        writing: Health::Connected,
        doubt: false,
        failures: 0,
        since: Instant::now(),
        agreeing: None,
        unanswered: 0,
        quiet_since: Instant::now(),
        stalled_since: None,
        gone: false,
        deaths: Deaths::default(),
    };
    unfold(tail, |mut tail| async move { tail.next().await.map(|event| (event, tail)) })
}

enum Origin {
    Next(
        BoxFuture<'static, Result<Option<Position>, SourceError>>,
        BoxFuture<'static, Result<Offset, SourceError>>,
    ),
    Known(Continuity),
}

struct Tail<S> {
    shared: Arc<Shared<S>>,
    partition: Partition,
    history: watch::Receiver<History>,
    /// The history to which `continuity` belongs.
    id: LogId,
    /// Where to begin, until that is known.
    origin: Option<Origin>,
    continuity: Continuity,
    consumption: Option<Consumption>,
    out: VecDeque<TailEvent>,
    health: Option<Health>,
    /// What this consumer has said of writing.
    writing: Health,
    /// The last consumer was given up although it stood, or the last two ended without a delivery: this one is healthy once it has
    /// delivered.
    doubt: bool,
    /// Attempts in a row that brought nothing.
    failures: u32,
    /// Since when this tail stands alone: the name of the history must be asked for after that.
    since: Instant,
    /// The next question for the name while connected, or the wait for it.
    agreeing: Option<BoxFuture<'static, Result<(), Doubt>>>,
    /// So many of these had no answer, in a row.
    unanswered: u32,
    quiet_since: Instant,
    /// Since when records are known to be there that do not come.
    stalled_since: Option<Instant>,
    /// The broker said that the stream was deleted.
    gone: bool,
    deaths: Deaths,
}

/// After so many deaths at one place it no longer matters that the record before it cannot be read again.
const HOPELESS: u32 = 8;

/// So many records are taken one by one without a death before many are taken at once again: either the killer was no record, or
/// it was passed, and often another follows, which costs a third of the first.
const CAREFUL_RECORDS: usize = 1000;

/// How often consumers were killed without progress.
#[derive(Default)]
struct Deaths {
    count: u32,
    at: Option<Offset>,
    /// Deliveries since the last death.
    survived: usize,
}

impl Deaths {
    fn careful(&self) -> bool {
        self.count >= 2
    }
}

impl<S: Source> Tail<S> {
    async fn next(&mut self) -> Option<TailEvent> {
        loop {
            if self.shared.history.borrow().id != self.id {
                // What was read and not handed out when the history ended comes again in the next one, if it still stands there.
                self.out.retain(|event| matches!(event, TailEvent::Health(_)));
            }
            if let Some(event) = self.out.pop_front() {
                self.hand_out(&event);
                return Some(event);
            }
            if self.shared.history().closed {
                return None;
            }
            if self.partition >= self.shared.source.capabilities().partitions {
                self.health(Health::Retrying(format!("there is no partition {}", self.partition)));
                if self.out.is_empty() {
                    self.history.changed().await.ok()?;
                }
                continue;
            }
            self.turn().await;
        }
    }

    /// From here on, this is known to whoever follows the tail: the next history begins behind it, as far as they agree.
    fn hand_out(&self, event: &TailEvent) {
        if let TailEvent::Records(batch) = event
            && let Some(mut landmarks) = self.shared.landmarks(self.partition)
        {
            batch.records.iter().for_each(|record| landmarks.add(record.position));
        }
    }

    /// One step: whatever it finds out is in `out` afterwards. Loses nothing if dropped while waiting.
    async fn turn(&mut self) {
        let history = self.shared.history();
        if history.id != self.id {
            self.follow(history);
            return;
        }
        if self.consumption.is_none() {
            self.connect().await;
            return;
        }
        let patience = self.shared.patience;
        let wake =
            self.stalled_since.map_or(self.quiet_since + patience.quiet, |since| since + patience.stalled);
        let Some(consumption) = self.consumption.as_mut() else { return };
        let shared = &self.shared;
        let agreeing = self.agreeing.get_or_insert_with(|| shared.clone().agree_in_time().boxed());
        tokio::select! {
            biased;
            _ = self.history.changed() => {}
            // Before the deliveries, which may never pause. Beside them: nothing waits for the answer.
            agreed = agreeing => self.agreed(agreed),
            event = consumption.next() => match event {
                Some(Ok(SourceEvent::Deliveries(deliveries))) => self.deliveries(deliveries.into()).await,
                Some(Ok(SourceEvent::Health(health))) => {
                    self.writing = health;
                    self.well();
                }
                Some(Err(error)) => self.lost(error).await,
                None => self.lost(SourceError::Gone).await,
            },
            _ = tokio::time::sleep_until(wake) => self.quiet().await,
        }
    }

    /// The broker has said by which name it calls the history, or has not.
    fn agreed(&mut self, agreed: Result<(), Doubt>) {
        self.agreeing = None;
        match agreed {
            Ok(()) => self.unanswered = 0,
            Err(Doubt::Untold(_)) if self.unanswered + 1 < UNANSWERED => self.unanswered += 1,
            Err(doubt) => self.retry(SourceError::from(doubt).to_string()),
        }
    }

    /// Another tail has found another history, or this one has.
    fn follow(&mut self, history: History) {
        self.id = history.id;
        self.origin = None;
        self.continuity = match history.head.position(self.partition) {
            Some(place) => Continuity::after(place),
            // All is news there: what is forgotten of it before it comes is told.
            None => {
                let beginning = Position { partition: self.partition, offset: Offset(0), fingerprint: None };
                Continuity::after(beginning)
            }
        };
        self.out.push_back(TailEvent::Reset { head: history.head, why: history.why });
        self.consumption = None;
        self.since = Instant::now();
        self.gone = false;
        self.doubt = false;
        self.failures = 0;
        self.deaths = Deaths::default();
    }

    async fn connect(&mut self) {
        if self.failures > 0 {
            sleep(self.pause()).await;
            if self.shared.history().id != self.id {
                return;
            }
        }
        match self.try_connect().await {
            Ok(_) if self.shared.history().id != self.id => {} // Under another name.
            Ok(consumption) => {
                self.consumption = Some(consumption);
                self.unanswered = 0;
                self.quiet_since = Instant::now();
                self.stalled_since = None;
                self.writing = Health::Connected;
                self.well();
            }
            Err(Trouble::Source(error)) => self.retry(error.to_string()),
            Err(Trouble::Reset(why)) => self.reset(why).await,
        }
    }

    async fn try_connect(&mut self) -> Result<Consumption, Trouble> {
        let source = self.shared.source.clone();
        match &mut self.origin {
            Some(Origin::Next(latest, earliest)) => {
                // By reference: a dropped turn must not lose the question that was asked at the call.
                let latest = latest.await;
                let earliest = earliest.await;
                // After a failure the question is asked again: what was appended in between is then not ours to
                // promise, since nobody knows where the call stood.
                self.origin =
                    Some(Origin::Next(source.latest(self.partition), source.earliest(self.partition)));
                self.continuity = match latest? {
                    Some(latest) => Continuity::after(latest),
                    None => Continuity::after(Position {
                        partition: self.partition,
                        offset: Offset(earliest?.0.saturating_sub(1)),
                        fingerprint: None,
                    }),
                };
                self.origin = None;
            }
            Some(Origin::Known(continuity)) => {
                self.continuity = continuity.clone();
                self.origin = None;
            }
            None => {}
        }
        let begin = self.continuity.begin();
        if let Some(offset) = begin.check {
            let one = Budget { records: 1, bytes: 1 };
            let fetched = within(source.fetch(self.partition, offset, one, Pace::Single)).await?;
            let killed = fetched.killed;
            let found = fetched.deliveries.into_iter().find_map(|delivery| match delivery {
                Delivery::Record(record) => Some(record.position),
                Delivery::Blank(_) => None,
            });
            let earliest = within(source.earliest(self.partition)).await?;
            // What dies with the record that kills is not to be compared, as what is forgotten is not.
            if found.is_some() || !killed {
                self.continuity.confirm(found, earliest).map_err(Trouble::Reset)?;
            }
        }
        let pace = if self.deaths.careful() { Pace::Single } else { Pace::Full };
        let consuming = within(source.consume(self.partition, begin.from, pace));
        // Nothing is believed before both are there: what comes may belong to another history.
        let (consumption, agreed) = join(consuming, self.shared.agree(self.since)).await;
        let consumption = consumption?;
        agreed.map_err(SourceError::from)?;
        Ok(consumption)
    }

    /// Doubling, with jitter of up to a half so that nodes do not return in step.
    fn pause(&self) -> Duration {
        let patience = self.shared.patience;
        let doubled = patience.backoff.saturating_mul(1 << (self.failures - 1).min(16));
        let jitter = crate::outside::random().map_or(0.5, |r| r as f64 / u64::MAX as f64);
        doubled.min(patience.backoff_max).mul_f64(0.5 + jitter / 2.0)
    }

    async fn deliveries(&mut self, mut deliveries: VecDeque<Delivery>) {
        self.quiet_since = Instant::now();
        self.stalled_since = None;
        self.deaths.survived += deliveries.len();
        let mut earliest = None;
        loop {
            let Judgement { events, then } = self.continuity.judge(&mut deliveries, earliest);
            self.out.extend(events);
            match then {
                Then::Continue => break,
                Then::Probe => {
                    let seen = self.continuity.anchor();
                    match within(self.shared.source.probe(self.partition, seen)).await {
                        Ok(probed) if probed.replaced => return self.reset(ResetReason::Diverged).await,
                        Ok(probed) => earliest = Some(probed.earliest),
                        Err(error) => return self.retry(error.to_string()),
                    }
                }
                Then::Restart => return self.retry("records came out of order".into()),
                Then::Reset(why) => return self.reset(why).await,
            }
        }
        self.failures = 0;
        self.gone = false;
        if std::mem::take(&mut self.doubt) {
            self.well();
        }
        if self.deaths.careful() && self.deaths.survived >= CAREFUL_RECORDS {
            self.deaths = Deaths::default();
            self.consumption = None; // The next one takes many at once again.
        }
    }

    /// Nothing has come for a while: is there nothing, or does the broker keep it from us?
    async fn quiet(&mut self) {
        let source = self.shared.source.clone();
        let earliest = match within(source.earliest(self.partition)).await {
            Ok(earliest) => earliest,
            Err(error) => return self.retry(error.to_string()),
        };
        let latest = match within(source.latest(self.partition)).await {
            Ok(latest) => latest,
            Err(error) => return self.retry(error.to_string()),
        };
        match self.continuity.quiet(earliest, latest) {
            Then::Reset(ResetReason::Ahead) if self.gone => self.reset(ResetReason::Recreated).await,
            Then::Reset(why) => self.reset(why).await,
            Then::Restart if self.stalled_since.is_none() => self.stalled_since = Some(Instant::now()),
            Then::Restart => {
                self.doubt = true;
                self.retry("the broker has records and does not deliver them".into());
            }
            Then::Continue | Then::Probe => {
                // Not only before the next record, which may be long in coming: who resumes behind all that is gone waits for this
                // node to come there.
                let gone = latest.is_none().then(|| self.continuity.forget(earliest)).flatten();
                self.out.extend(gone);
                self.quiet_since = Instant::now();
                self.stalled_since = None;
                self.failures = 0;
                if std::mem::take(&mut self.doubt) {
                    self.well();
                }
            }
        }
    }

    async fn lost(&mut self, error: SourceError) {
        match &error {
            SourceError::Killed(_) if self.killed().await => {
                // No attempt that failed: the next begins at once, behind the record.
                self.consumption = None;
                self.since = Instant::now();
                return;
            }
            SourceError::Gone => self.gone = true,
            SourceError::Killed(_) | SourceError::Unreachable(_) | SourceError::NoPartition(_) => {}
        }
        // A broker may take a consumer and forbid it to read: clients are not told at each attempt that all is well.
        self.doubt |= self.failures > 0 && !matches!(error, SourceError::Killed(_));
        self.retry(error.to_string());
    }

    /// The broker ended the consumer over a record. Two deaths at the same place: take one record at a time. A third:
    /// the record after the last one is the culprit, unless the last one cannot be read either. Says whether the next consumer begins
    /// behind the culprit.
    async fn killed(&mut self) -> bool {
        let covered = self.continuity.covered();
        if self.deaths.count == 0 || self.deaths.at != covered {
            let count = if self.deaths.careful() { 2 } else { 0 };
            self.deaths = Deaths { count, at: covered, survived: 0 };
        }
        self.deaths.count += 1;
        self.deaths.survived = 0;
        if self.deaths.count < 3 {
            return false;
        }
        if let Some(anchor) = self.continuity.anchor() {
            let one = Budget { records: 1, bytes: 1 };
            let fetch = self.shared.source.fetch(self.partition, anchor.offset, one, Pace::Single);
            let hopeless = self.deaths.count >= HOPELESS;
            match within(fetch).await {
                Ok(Fetched { deliveries, .. })
                    if deliveries.first().is_some_and(|first| first.offset() == anchor.offset) => {}
                // What the broker sends just before the record that kills may die with it, again and again; or the last one that came
                // is itself what kills by now, and the one after it, if there is one, is good. So the last one is left alone first,
                // which costs nothing: it has come. Who dies behind it, too, steps over: to wait for ever would be silence.
                Ok(Fetched { deliveries, killed: true, .. }) if hopeless && deliveries.is_empty() => {
                    if self.continuity.leave_anchor() {
                        return true;
                    }
                }
                _ => return false, // The broker is ill, not the record.
            }
        }
        let gap = self.continuity.step_over();
        self.shared.poisoned.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("anabranch_poisoned_records_total").increment(1);
        tracing::warn!(offset = gap.after.0 + 1, "stepped over a record that kills every consumer");
        self.out.push_back(TailEvent::Gap(gap));
        true
    }

    /// Gives up this consumption; the next turn begins another.
    fn retry(&mut self, why: String) {
        self.consumption = None;
        self.since = Instant::now();
        self.stalled_since = None;
        self.failures = self.failures.saturating_add(1);
        self.health(Health::Retrying(why));
    }

    async fn reset(&mut self, why: ResetReason) {
        self.consumption = None;
        if let Err(error) = self.shared.reset(self.id, why).await {
            self.retry(error.to_string());
        }
    }

    /// It can read, as far as is known. What is said is how writing goes.
    fn well(&mut self) {
        if !self.doubt {
            self.health(self.writing.clone());
        }
    }

    fn health(&mut self, health: Health) {
        if self.health.as_ref() != Some(&health) {
            self.health = Some(health.clone());
            self.out.push_back(TailEvent::Health(health));
        }
    }
}

enum Trouble {
    Source(SourceError),
    Reset(ResetReason),
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Trouble {
        Trouble::Source(error)
    }
}
