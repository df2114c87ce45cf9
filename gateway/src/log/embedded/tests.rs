//! The embedded log under the suite, on files; and under faults, crashes and damage.

mod crash;
mod damage;
mod faults;
mod flips;
mod retention;

use super::disk::simulated::Simulated;
use super::{EmbeddedLog, OpenError, Options, Sync};
use crate::log::conformance::Harness;
use crate::log::{Budget, Log, ReadError, Record, now};
use anabranch_protocol::cursor::Offset;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;
use tempfile::TempDir;

/// Small files, and nothing in memory: whatever is read comes from the disk.
fn small(sync: Sync) -> Options {
    Options { sync, sync_interval_ms: 1, segment_bytes: 4096, recent_bytes: 0, ..Options::at("simulated") }
}

fn open(disk: &Simulated, options: Options) -> Result<Arc<EmbeddedLog>, OpenError> {
    EmbeddedLog::open_on(options, Arc::new(disk.clone()), now)
}

/// Everything that can be read, and every range of offsets that is told to be lost: after, before.
async fn survey(log: &dyn Log) -> (Vec<Record>, Vec<(u64, u64)>) {
    let (mut records, mut lost) = (Vec::new(), Vec::new());
    let mut after = Offset(0);
    loop {
        match log.read(0, after, Budget { records: 100, bytes: usize::MAX }).await {
            Ok(batch) => {
                assert!(batch.at_end || batch.covered_to > after, "no progress after {after}");
                after = batch.covered_to;
                records.extend(batch.records);
                if batch.at_end {
                    return (records, lost);
                }
            }
            Err(ReadError::Corrupt { after: from, before }) => {
                assert!(from >= after && before > after, "{from}..{before} reported after {after}");
                lost.push((from.0, before.0));
                after = Offset(before.0 - 1);
            }
            Err(ReadError::Forgotten { oldest }) => {
                lost.push((after.0, oldest.0));
                after = Offset(oldest.0 - 1);
            }
            Err(error) => panic!("after {after}: {error}"),
        }
    }
}

struct Files {
    folder: TempDir,
    options: Options,
    log: Arc<EmbeddedLog>,
}

impl Files {
    fn with(change: impl FnOnce(&mut Options)) -> Files {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut options = Options { segment_bytes: 32 * 1024, ..Options::at(folder.path()) };
        change(&mut options);
        let log = EmbeddedLog::open(options.clone()).expect("opens");
        Files { folder, options, log }
    }
}

impl Harness for Files {
    fn log(&self) -> Arc<dyn Log> {
        self.log.clone()
    }

    fn forget(&mut self) -> BoxFuture<'_, bool> {
        let before = self.log.shared.lock().oldest();
        let half = self.log.shared.lock().segments.len() / 2;
        self.log.shared.forget(|state| state.segments.len() > half.max(1));
        let after = self.log.shared.lock().oldest();
        async move { after > before }.boxed()
    }

    fn reopen(&mut self) -> BoxFuture<'_, bool> {
        async {
            assert!(self.folder.path().exists());
            self.log.close().await;
            self.log = EmbeddedLog::open(self.options.clone()).expect("opens again");
            true
        }
        .boxed()
    }
}

mod sync_none {
    use super::*;
    crate::log_conformance!(|| async { Files::with(|options| options.sync = Sync::None) });
}

mod sync_interval {
    use super::*;
    crate::log_conformance!(|| async { Files::with(|options| options.sync_interval_ms = 2) });
}

mod sync_always {
    use super::*;
    crate::log_conformance!(|| async { Files::with(|options| options.sync = Sync::Always) });
}

/// With nothing in memory, every read and every tail goes to the files.
mod from_files {
    use super::*;
    crate::log_conformance!(|| async {
        Files::with(|options| {
            options.sync = Sync::None;
            options.recent_bytes = 0;
        })
    });
}
