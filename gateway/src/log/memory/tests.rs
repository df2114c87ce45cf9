//! The memory log under the suite, and under each lie.

mod lies;
mod nodes;

use super::{MemoryLog, Options, Patience};
use crate::log::Log;
use crate::log::conformance::Harness;
use anabranch_protocol::cursor::Offset;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;
use std::time::Duration;

struct Memory(Arc<MemoryLog>);

impl Memory {
    async fn fresh() -> Memory {
        let quick = Duration::from_millis(20);
        let patience = Patience { quiet: quick, stalled: quick, backoff: quick, backoff_max: quick };
        Memory(MemoryLog::new(Options { patience, ..Options::default() }))
    }
}

impl Harness for Memory {
    fn log(&self) -> Arc<dyn Log> {
        self.0.clone()
    }

    fn forget(&mut self) -> BoxFuture<'_, bool> {
        async {
            let bounds = self.0.bounds(0).await.expect("bounds");
            let middle = Offset((bounds.oldest.0 + bounds.last.0) / 2);
            self.0.lies().truncate(0, middle);
            middle > bounds.oldest
        }
        .boxed()
    }

    fn reopen(&mut self) -> BoxFuture<'_, bool> {
        async { false }.boxed()
    }
}

crate::log_conformance!(Memory::fresh);
