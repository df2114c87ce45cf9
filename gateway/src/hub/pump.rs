//! From the log to the shards: each record is read once, encoded once, and handed to every shard.

mod histories;
mod keeper;
mod reread;
#[cfg(test)]
mod tests;

use super::block::Block;
use super::canary::Canary;
use super::newest::{Checkpoint, Fold, Newest, Values};
use super::publish::Publisher;
use super::upstream::{self, Upstream};
use crate::log::{self, Batch, Health, Log, ReadError, Record, ResetReason, Start, TailEvent};
use crate::metrics::Readings;
use crate::shadow::Shadows;
use crate::shard::ShardEvent;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, Offset, Partition, Position};
use anabranch_protocol::server_frame::{Gap, GapReason};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll, select_all};
use histories::{Entered, Histories};
pub use keeper::{Ask, Keeper};
use reread::reread;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Envelope bytes to a block, at most (but one record at least).
const BLOCK_BYTES: usize = 1024 * 1024;
/// Frames to a block, at most: a shard hands a block out as a whole, however many watch each of its topics.
const BLOCK_FRAMES: usize = 512;

/// Follows the log.
pub struct Pump {
    publisher: Arc<Publisher>,
    canary: Arc<Canary>,
    upstream: Arc<Upstream>,
    shadows: Option<Arc<Shadows>>,
    head: Cursor,
    fold: Fold,
    keeper: Keeper,
    histories: Histories,
    tails: SelectAll<BoxStream<'static, (Partition, TailEvent)>>,
    figures: Readings,
}

impl Pump {
    /// Finds the log's end, reads again what must be known of what it has, and attaches behind it.
    pub async fn attach(
        log: Arc<dyn Log>,
        publisher: Arc<Publisher>,
        canary: Arc<Canary>,
        upstream: Arc<Upstream>,
        shadows: Option<Arc<Shadows>>,
        mut fold: Fold,
        keeper: Keeper,
    ) -> Result<Pump, ReadError> {
        keeper.restore(&*log, &mut fold, shadows.as_deref()).await?;
        let mut head = Cursor::beginning(log.id());
        let mut tails = Vec::new();
        for partition in 0..log.capabilities().partitions {
            let bounds = log.bounds(partition).await?;
            let start = match bounds.newest {
                Some(newest) => {
                    upstream.read(partition, newest.offset, None);
                    publisher.pass(partition, newest.offset);
                    publisher.see(newest);
                    reread(&*log, &publisher, newest, bounds.oldest, &mut fold, shadows.as_deref()).await?;
                    head.set(newest);
                    Start::After(newest)
                }
                None if bounds.last > Offset(0) => {
                    let last = Position { partition, offset: bounds.last, fingerprint: None };
                    head.set(last);
                    publisher.pass(partition, bounds.last);
                    fold.lose(partition, bounds.last);
                    shadows.iter().for_each(|shadows| shadows.begin_behind(partition, bounds.last));
                    Start::After(last)
                }
                // Nothing has ever been there: what is forgotten before it is read is told, from the first record on.
                None => Start::After(Position { partition, offset: Offset(0), fingerprint: None }),
            };
            tails.push(log.tail(partition, start).map(move |event| (partition, event)).boxed());
        }
        let histories = Histories::new(head.log(), tails.len());
        Ok(Pump {
            publisher,
            canary,
            upstream,
            shadows,
            head,
            fold,
            keeper,
            histories,
            tails: select_all(tails),
            figures: Readings::default(),
        })
    }

    /// Where the shards begin.
    pub fn head(&self) -> &Cursor {
        &self.head
    }

    /// The newest values as of there.
    pub fn values(&self) -> &Values {
        self.fold.values()
    }

    /// Writes a checkpoint if one is due, and takes one thing that the log says. Breaks once the log is closed.
    pub fn poll_step(&mut self, cx: &mut Context<'_>, send: impl FnMut(ShardEvent)) -> Poll<ControlFlow<()>> {
        // Before the tails, which may always have something; until nobody asks, so that the next one wakes.
        while let Poll::Ready(answer) = self.keeper.poll_asked(cx) {
            self.keeper.save(self.checkpoint(), answer);
        }
        let Some((partition, event)) = ready!(self.tails.poll_next_unpin(cx)) else {
            tracing::info!("the log is closed, nothing new will come");
            return Poll::Ready(ControlFlow::Break(()));
        };
        self.handle(partition, event, send);
        Poll::Ready(ControlFlow::Continue(()))
    }

    fn checkpoint(&self) -> Checkpoint {
        let settled = |position: &Position| {
            let settled = |shadows: &Arc<Shadows>| shadows.settled_to(position.partition, position.offset);
            self.shadows.as_ref().map_or(position.offset, settled)
        };
        let made = Checkpoint::new(self.head.clone(), self.fold.classes(), self.fold.values());
        made.settled_to(self.head.positions().iter().map(|position| (position.partition, settled(position))))
    }

    fn handle(&mut self, partition: Partition, event: TailEvent, mut send: impl FnMut(ShardEvent)) {
        match event {
            // What a tail says of a history that has ended: everybody has been told so already.
            TailEvent::Records(_) | TailEvent::Progress(_) | TailEvent::Gap(_)
                if !self.histories.is_current(partition) => {}
            TailEvent::Records(batch) => self.records(partition, batch, &mut send),
            TailEvent::Progress(offset) => {
                self.progress(Position { partition, offset, fingerprint: None }, &mut send)
            }
            TailEvent::Gap(gap) => {
                tracing::warn!(partition, after = %gap.after, before = %gap.before, why = ?gap.why, "records are gone");
                let last =
                    Position { partition, offset: Offset(gap.before.0.saturating_sub(1)), fingerprint: None };
                let told = Gap { partition, after: gap.after, before: gap.before, reason: reason(gap.why) };
                let block = Arc::new(Block::gap(self.head.clone(), told, last));
                self.publisher.pass(partition, last.offset);
                self.shadows.iter().for_each(|shadows| shadows.lose(partition, last.offset));
                let stale = self.fold.lose(partition, last.offset);
                send(with_values(block, stale));
                self.head.advance(last);
            }
            TailEvent::Reset { head, .. }
                if self.histories.enter(partition, head.log()) == Entered::Known => {}
            TailEvent::Reset { head, why } => {
                tracing::warn!(log = %head.log(), ?why, "the log has another history");
                self.head = head;
                self.publisher.part(&self.head);
                self.fold.part(&self.head);
                self.shadows.iter().for_each(|shadows| shadows.part(&self.head));
                self.upstream.reset();
                let code = match why {
                    ResetReason::Diverged | ResetReason::Recreated | ResetReason::Renamed => {
                        Code::CURSOR_DIVERGED
                    }
                    ResetReason::Ahead => Code::CURSOR_AHEAD,
                };
                send(ShardEvent::Reset { head: self.head.clone(), code });
            }
            TailEvent::Health(health) => {
                if let Some(whole) = self.upstream.note(partition, health) {
                    tracing::info!(health = ?whole, "the log's health has changed");
                    let up = whole == Health::Connected;
                    send(ShardEvent::Upstream { up, message: upstream::told(&whole).into() });
                }
            }
        }
    }

    fn records(&mut self, partition: Partition, batch: Batch, send: &mut impl FnMut(ShardEvent)) {
        let covered_to = batch.covered_to;
        let last = batch.records.last().map(|record| record.position);
        self.upstream.read(partition, covered_to, batch.records.last().map(|record| record.time));
        let mut records = batch.records;
        let read = records.len();
        records.retain(|record| {
            self.canary.observe(&record.topic);
            !self.publisher.note(record.key, record.position)
        });
        self.shadows.iter().for_each(|shadows| shadows.take(&mut records));
        self.figures.count(read, read - records.len());
        let mut rest = &records[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(block_len(rest));
            let classes = self.fold.classes();
            let block = Block::encode_with(self.head.clone(), now, |topic| classes.is_patch(topic));
            self.head = block.cursor_before(block.len());
            send(with_values(Arc::new(block), self.fold.take(now)));
            rest = later;
        }
        // Duplicates at the end were left out, and a batch may cover more than its records.
        if let Some(last) = last {
            self.progress(last, send);
        }
        self.progress(Position { partition, offset: covered_to, fingerprint: None }, send);
    }

    fn progress(&mut self, position: Position, send: &mut impl FnMut(ShardEvent)) {
        self.publisher.pass(position.partition, position.offset);
        if self.head.advance(position) {
            send(ShardEvent::Progress(position));
        }
    }
}

fn with_values(block: Arc<Block>, newest: Vec<Arc<Newest>>) -> ShardEvent {
    if newest.is_empty() { ShardEvent::Block(block) } else { ShardEvent::State(block, newest.into()) }
}

/// How many of the records make one block.
fn block_len(records: &[Record]) -> usize {
    let mut bytes = 0;
    let fits = records.iter().take(BLOCK_FRAMES).take_while(|record| {
        bytes += record.envelope.len();
        bytes <= BLOCK_BYTES
    });
    fits.count().max(1)
}

fn reason(why: log::GapReason) -> GapReason {
    match why {
        log::GapReason::Forgotten => GapReason::Retention,
        log::GapReason::Corrupt => GapReason::Corrupt,
        log::GapReason::Poisoned => GapReason::Poisoned,
    }
}
