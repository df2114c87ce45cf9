//! Reads the log for connections that are behind, once for all that read the same place.
//!
//! Pages begin at multiples of [`ALIGN`], so that clients who resume near each other ask for the same page: a storm of
//! N clients costs the log the pages, not N times the pages. At most [`READS`] reads run at a time, so that a storm
//! does not starve the tail.

use super::block::Block;
use crate::log::{Budget, Log, ReadError};
use anabranch_protocol::cursor::{Cursor, LogId, Offset, Partition, Position};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
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
    permits: Arc<Semaphore>,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    by_key: HashMap<Key, Reading>,
    /// Oldest first.
    order: VecDeque<Key>,
}

impl Replay {
    pub fn new(log: Arc<dyn Log>) -> Arc<Replay> {
        Arc::new(Replay { log, permits: Arc::new(Semaphore::new(READS)), pages: Mutex::default() })
    }

    /// The page that holds what follows a position. It may begin earlier, and may be shared.
    pub async fn page(self: Arc<Self>, after: Position) -> Result<Page, ReadError> {
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

    async fn read(&self, partition: Partition, after: Offset) -> Result<Page, ReadError> {
        let key = (self.log.id(), partition, after);
        let reading = {
            let mut pages = self.pages.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match pages.by_key.get(&key) {
                Some(reading) => reading.clone(),
                None => {
                    let reading = self.start(partition, after);
                    pages.by_key.insert(key, reading.clone());
                    pages.order.push_back(key);
                    while pages.order.len() > PAGES {
                        if let Some(old) = pages.order.pop_front() {
                            pages.by_key.remove(&old);
                        }
                    }
                    reading
                }
            }
        };
        let result = reading.await;
        // What may change is not kept: the log's end moves, errors heal.
        let lasting = result
            .as_ref()
            .is_ok_and(|page| page.covered.offset.0 >= after.0 + ALIGN || page.block.size() > PAGE_BYTES);
        if !lasting {
            let mut pages = self.pages.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if pages.by_key.remove(&key).is_some() {
                pages.order.retain(|k| *k != key);
            }
        }
        result
    }

    fn start(&self, partition: Partition, after: Offset) -> Reading {
        let (log, permits) = (Arc::clone(&self.log), Arc::clone(&self.permits));
        async move {
            metrics::counter!("anabranch_replay_reads_total").increment(1);
            let _permit = permits.acquire_owned().await;
            let budget = Budget { records: ALIGN as usize, bytes: PAGE_BYTES };
            let batch = log.read(partition, after, budget).await?;
            let mut before = Cursor::beginning(log.id());
            before.set(Position { partition, offset: after, fingerprint: None });
            let block = Arc::new(Block::encode(before, &batch.records));
            let last = batch.records.last().map(|record| record.position);
            let covered = last.filter(|last| last.offset >= batch.covered_to).unwrap_or(Position {
                partition,
                offset: batch.covered_to.max(after),
                fingerprint: None,
            });
            Ok(Page { block, covered })
        }
        .boxed()
        .shared()
    }
}
