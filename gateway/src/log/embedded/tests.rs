//! The embedded log under the suite, on files; and under faults, crashes and damage.

use super::{EmbeddedLog, Options, Sync};
use crate::log::Log;
use crate::log::conformance::Harness;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;
use tempfile::TempDir;

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
