//! The newest records in memory, shared by all live readers, so that following the log reads no files.

use crate::log::{Budget, Record};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that a record costs beside its topic and envelope.
const OVERHEAD: usize = size_of::<Record>() + 32;

/// Whole batches as they were written, the newest last.
#[derive(Debug)]
pub(super) struct Recent {
    batches: VecDeque<Arc<[Record]>>,
    bytes: usize,
    limit: usize,
    /// Every record after this offset is here.
    after: u64,
}

impl Recent {
    /// Empty: `last` is the last offset that was given.
    pub(super) fn new(limit: usize, last: u64) -> Recent {
        Recent { batches: VecDeque::new(), bytes: 0, limit, after: last }
    }

    /// Takes the records that follow, and lets the oldest go.
    pub(super) fn push(&mut self, batch: Arc<[Record]>) {
        self.bytes += size(&batch);
        self.batches.push_back(batch);
        while self.bytes > self.limit {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= size(&oldest);
            if let Some(last) = oldest.last() {
                self.after = last.position.offset.0;
            }
        }
    }

    /// The records after an offset, as far as the budget allows, at least one; `None` if some of them are not here.
    ///
    /// Whole batches, with how many records to leave out at the front: to be [picked](pick) from without a lock.
    pub(super) fn from(&self, after: u64, budget: Budget) -> Option<(Vec<Arc<[Record]>>, usize)> {
        if after < self.after {
            return None;
        }
        let last = |batch: &Arc<[Record]>| batch.last().map_or(0, |record| record.position.offset.0);
        let first = self.batches.partition_point(|batch| last(batch) <= after);
        let mut batches = Vec::new();
        let mut skip = 0;
        let mut records = 0;
        let mut bytes = 0;
        for batch in self.batches.range(first..) {
            if batches.is_empty() {
                skip = batch.partition_point(|record| record.position.offset.0 <= after);
                records += batch.len() - skip;
            } else {
                records += batch.len();
                bytes += size(batch);
            }
            batches.push(batch.clone());
            if records >= budget.records || bytes >= budget.bytes {
                break;
            }
        }
        Some((batches, skip))
    }
}

/// The records that a budget allows.
pub(super) fn pick(batches: &[Arc<[Record]>], skip: usize, budget: Budget) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut bytes = 0;
    for record in batches.iter().flat_map(|batch| batch.iter()).skip(skip) {
        bytes += record.envelope.len();
        if !records.is_empty() && (bytes > budget.bytes || records.len() >= budget.records) {
            break;
        }
        records.push(record.clone());
    }
    records
}

fn size(batch: &[Record]) -> usize {
    batch.iter().map(|record| record.envelope.len() + record.topic.len() + OVERHEAD).sum()
}
