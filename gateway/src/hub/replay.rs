//! Reads the log for connections that are behind, once for all that read the same place.
//!
//! A page that was read serves everyone who is somewhere in it: a storm of N clients costs the log the pages, not N times
//! the pages. Where offsets count records, pages begin at multiples of [`ALIGN`], so that clients who ask at the same time
//! ask for the same page; elsewhere a read that waits for its turn first looks whether an earlier one has answered it.
//! At most [`READS`] reads run at a time, so that a storm does not starve the tail.

use super::block::Block;
use super::classes::Classes;
use super::publish::Publisher;
use crate::log::{Budget, Log, ReadError};
use crate::shadow::Shadows;
use anabranch_protocol::cursor::{Cursor, LogId, Offset, Partition, Position};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Semaphore;

/// Offsets to a page, at most. A page covers less where records are large.
const ALIGN: u64 = 512;
/// Envelope bytes to a page, at most (but one record at least).
const PAGE_BYTES: usize = 256 * 1024;
/// Pages kept.
const PAGES: usize = 64;
/// Reads at a time.
const READS: usize = 4;

/// A page, encoded for sockets.
#[derive(Clone, Debug)]
pub struct Page {
    pub block: Arc<Block>,
    /// How far the page covers its partition.
    pub covered: Position,
}

type Key = (LogId, Partition, Offset);
type Reading = Shared<BoxFuture<'static, Result<Page, ReadError>>>;

/// The node's reader.
pub struct Replay {
    log: Arc<dyn Log>,
    publisher: Arc<Publisher>,
    classes: Arc<Classes>,
    shadows: Option<Arc<Shadows>>,
    permits: Semaphore,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    reading: HashMap<Key, Reading>,
    /// Whole pages, oldest first, each with the offset after which it begins. What may still change is not kept: the
    /// log's end moves, errors heal.
    whole: VecDeque<(Key, Page)>,
}

impl Pages {
    /// A whole page that holds what follows an offset.
    fn find(&self, log: LogId, partition: Partition, after: Offset) -> Option<Page> {
        let holds = |((id, of, start), page): &&(Key, Page)| {
            (*id, *of) == (log, partition) && *start <= after && after < page.covered.offset
        };
        self.whole.iter().find(holds).map(|(_, page)| page.clone())
    }

    fn keep(&mut self, key: Key, page: Page) {
        self.whole.push_back((key, page));
        if self.whole.len() > PAGES {
            self.whole.pop_front();
        }
    }
}

impl Replay {
    pub fn new(
        log: Arc<dyn Log>,
        publisher: Arc<Publisher>,
        classes: Arc<Classes>,
        shadows: Option<Arc<Shadows>>,
    ) -> Arc<Replay> {
        let (permits, pages) = (Semaphore::new(READS), Mutex::default());
        Arc::new(Replay { log, publisher, classes, shadows, permits, pages })
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The page that holds what follows a position. It may begin earlier, and may be shared.
    pub async fn page(self: Arc<Self>, after: Position) -> Result<Page, ReadError> {
        if let Some(page) = self.pages().find(self.log.id(), after.partition, after.offset) {
            return Ok(page);
        }
        let aligned = Offset(after.offset.0 / ALIGN * ALIGN);
        match self.read(after.partition, aligned).await {
            Ok(page) if page.covered.offset > after.offset => return Ok(page),
            // The aligned page ends before, because records are large; or its beginning is gone, the rest is not.
            Ok(_) | Err(ReadError::Forgotten { .. } | ReadError::Corrupt { .. })
                if aligned < after.offset => {}
            other => return other,
        }
        self.read(after.partition, after.offset).await
    }

    /// Reads a page, or waits for whoever does.
    async fn read(self: &Arc<Self>, partition: Partition, after: Offset) -> Result<Page, ReadError> {
        let key = (self.log.id(), partition, after);
        let reading = {
            let mut pages = self.pages();
            let fresh = || Arc::clone(self).start(key).boxed().shared();
            pages.reading.entry(key).or_insert_with(fresh).clone()
        };
        let result = reading.await;
        self.pages().reading.remove(&key);
        result
    }

    async fn start(self: Arc<Self>, key: Key) -> Result<Page, ReadError> {
        let page = self.make(key).await;
        // Once for all who wait for it.
        if let Err(ReadError::Unavailable(why)) = &page {
            tracing::warn!(partition = key.1, after = %key.2, why, "a page of the log cannot be read now");
        }
        page
    }

    async fn make(&self, key: Key) -> Result<Page, ReadError> {
        let (id, partition, after) = key;
        let permit = self.permits.acquire().await;
        if let Some(page) = self.pages().find(id, partition, after) {
            return Ok(page);
        }
        metrics::counter!("anabranch_replay_reads_total").increment(1);
        let budget = Budget { records: ALIGN as usize, bytes: PAGE_BYTES };
        let mut batch = self.log.read(partition, after, budget).await?;
        // Of what this node's tail has not come to, nobody knows which copy is the first: it is not there yet.
        let read_to = self.publisher.read_to(partition);
        if batch.covered_to > read_to {
            batch.records.retain(|record| record.position.offset <= read_to);
            (batch.covered_to, batch.at_end) = (read_to, true);
        }
        let last = batch.records.last().map(|record| record.position);
        let whole = batch.records.len();
        // As on the tail: of a message that was stored twice, the first copy is the one that is delivered.
        batch.records.retain(|record| !self.publisher.is_duplicate(record.key, record.position));
        if let Some(shadows) = &self.shadows {
            batch.records.retain(|record| !shadows.is_void(&record.topic, record.position));
        }
        let holds_back = batch.records.len() < whole
            || batch.records.iter().any(|record| self.classes.class_of(&record.topic).is_state());
        drop(permit);
        // What is held back for something else, an earlier copy or a newer value, is lost if that is of a history that has ended
        // and that the tail does not know to have ended yet.
        let is_of_it = match holds_back {
            true => self.publisher.is_of(id, partition).await.map_err(ReadError::Unavailable)?,
            false => self.publisher.reads(id),
        };
        if !is_of_it {
            let why = "the log has another history than was read, which the tail has still to tell";
            return Err(ReadError::Unavailable(why.into()));
        }
        let mut before = Cursor::beginning(id);
        before.set(Position { partition, offset: after, fingerprint: None });
        let block =
            Arc::new(Block::encode_with(before, &batch.records, |topic| self.classes.is_patch(topic)));
        let covered = last.filter(|last| last.offset >= batch.covered_to).unwrap_or(Position {
            partition,
            offset: batch.covered_to.max(after),
            fingerprint: None,
        });
        let page = Page { block, covered };
        if !batch.at_end {
            self.pages().keep(key, page.clone());
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::conformance::record;
    use crate::log::memory::{self, MemoryLog};

    fn at(offset: u64) -> Position {
        Position { partition: 0, offset: Offset(offset), fingerprint: None }
    }

    async fn replay_of(numbers: impl IntoIterator<Item = u64>) -> (Arc<Replay>, Arc<Publisher>) {
        let (_, replay, publisher) = read_of(numbers).await;
        (replay, publisher)
    }

    /// A log with these messages, all of which have been read.
    async fn read_of(
        numbers: impl IntoIterator<Item = u64>,
    ) -> (Arc<MemoryLog>, Arc<Replay>, Arc<Publisher>) {
        let log = MemoryLog::new(memory::Options::default());
        let publisher = Publisher::new(log.clone());
        for number in numbers {
            let position = log.append(record(number)).await.expect("appended");
            publisher.note(record(number).key, position);
        }
        let replay = Replay::new(log.clone(), publisher.clone(), Arc::default(), None);
        (log, replay, publisher)
    }

    fn offsets(page: &Page) -> Vec<u64> {
        (0..page.block.len()).map(|frame| page.block.position(frame).offset.0).collect()
    }

    #[tokio::test]
    async fn of_a_message_that_was_stored_twice_the_first_copy_is_read() {
        let (replay, _) = replay_of([1, 2, 1, 3, 3]).await;
        let page = replay.page(at(0)).await.expect("a page");
        assert_eq!(offsets(&page), [1, 2, 4]);
        assert_eq!(page.covered.offset, Offset(5), "what is left out is covered all the same");
    }

    /// The tail is behind the log's end, where the same message stands twice.
    #[tokio::test]
    async fn no_page_goes_beyond_what_the_tail_has_read() {
        let (replay, publisher) = replay_of([1, 2]).await;
        for number in [3, 3] {
            replay.log.append(record(number)).await.expect("appended");
        }
        let page = replay.clone().page(at(0)).await.expect("a page");
        assert_eq!((offsets(&page), page.covered.offset), (vec![1, 2], Offset(2)));
        assert!(!publisher.note(record(3).key, at(3)) && publisher.note(record(3).key, at(4)));
        let page = replay.page(at(0)).await.expect("a page");
        assert_eq!((offsets(&page), page.covered.offset), (vec![1, 2, 3], Offset(4)));
    }

    /// The log was made anew, and has a message again that the history before had: nothing of that is an earlier copy. The tail does not
    /// know yet; then it does.
    #[tokio::test]
    async fn nothing_is_held_back_for_a_history_that_has_ended() {
        let (log, replay, publisher) = read_of([2, 3, 1]).await;
        log.lies().recreate_and_cancel(Vec::new());
        for number in [1, 2] {
            log.append(record(number)).await.expect("appended");
        }
        let early = replay.clone().page(at(0)).await;
        assert!(matches!(early, Err(ReadError::Unavailable(_))), "{early:?}");
        // A retry finds that its message is gone; that says nothing of the others.
        publisher.publish(record(3)).await.expect("stored");
        let early = replay.clone().page(at(0)).await;
        assert!(matches!(early, Err(ReadError::Unavailable(_))), "{early:?}");
        publisher.part(&Cursor::beginning(log.id()));
        for number in [1, 2] {
            publisher.note(record(number).key, at(number));
        }
        assert_eq!(offsets(&replay.page(at(0)).await.expect("a page")), [1, 2]);
    }

    /// The record that was read last kills whoever reads it by now, which is no reason to read nothing before it.
    #[tokio::test]
    async fn a_newest_record_that_kills_vouches_for_the_history_all_the_same() {
        let (log, replay, _) = read_of([1, 1, 2]).await;
        log.lies().poison(0, Offset(3));
        let page = replay.page(at(0)).await;
        assert_eq!(offsets(&page.expect("a page")), [1]);
    }

    #[tokio::test]
    async fn a_whole_page_serves_everyone_who_is_in_it() {
        let (replay, _) = replay_of(0..ALIGN + 10).await;
        let page = replay.clone().page(at(7)).await.expect("a page");
        assert_eq!((page.covered.offset.0, page.block.len()), (ALIGN, ALIGN as usize));
        let other = replay.clone().page(at(300)).await.expect("a page");
        assert!(Arc::ptr_eq(&page.block, &other.block));
        assert_eq!(replay.pages().whole.len(), 1);
        // The log's end may move: it is read anew each time.
        let end = replay.clone().page(at(ALIGN)).await.expect("a page");
        assert_eq!(end.block.len(), 10);
        assert_eq!(replay.pages().whole.len(), 1);
        assert!(replay.pages().reading.is_empty(), "nothing is under way any more");
    }
}
