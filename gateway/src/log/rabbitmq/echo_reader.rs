//! Looks for appended records when nobody else does.
//!
//! In a gateway its tail sees every record within milliseconds, and nothing here runs. Where nobody tails, or a tail is
//! far behind, a reader of our own follows each stream until no append is open for a while.

use super::consume;
use super::shared::Shared;
use crate::log::source::Pace;
use anabranch_protocol::cursor::{Offset, Partition};
use futures_util::stream::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long an echo may take where nothing was seen of late, and where readers are at work and perhaps behind.
const QUIET: Duration = Duration::from_millis(50);
const BUSY: Duration = Duration::from_secs(1);

/// Readers that show nothing for so long are replaced: a stream that was deleted and made anew does not always end its
/// consumers, and such a one would wait for an echo for ever.
const BLIND: Duration = Duration::from_secs(2);

/// How long a reader stays when no append is open.
const LINGER: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(500);

pub(super) struct EchoReader {
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
    started: Instant,
}

impl EchoReader {
    pub(super) fn new(shared: Arc<Shared>) -> EchoReader {
        EchoReader { shared, readers: Vec::new(), started: Instant::now() }
    }

    /// Starts readers if an append has waited too long for its echo.
    pub(super) fn look(&mut self) {
        self.readers.retain(|reader| !reader.is_finished());
        let Some(unseen) = self.shared.echoes.oldest_unseen() else { return };
        if !self.readers.is_empty() {
            if unseen.confirmed.elapsed() < BLIND || self.started.elapsed() < BLIND {
                return;
            }
            self.end();
        }
        let recent = |sight: &super::sight::Sight| sight.last_tailed().is_some_and(|at| at.elapsed() < BUSY);
        let patience = if self.shared.sights().iter().any(recent) { BUSY } else { QUIET };
        if unseen.confirmed.elapsed() < patience {
            return;
        }
        self.started = Instant::now();
        for (partition, floor) in unseen.floors.iter().enumerate() {
            // From 0 on where nothing is known: such a stream has just been made.
            let from = floor.map_or(Offset(0), |floor| Offset(floor.0 + 1));
            let reader = read(self.shared.clone(), partition as Partition, from);
            self.readers.push(tokio::spawn(reader));
        }
    }

    fn end(&mut self) {
        self.readers.drain(..).for_each(|reader| reader.abort());
    }
}

impl Drop for EchoReader {
    fn drop(&mut self) {
        self.end();
    }
}

async fn read(shared: Arc<Shared>, partition: Partition, from: Offset) {
    let Ok(mut consumption) = consume::start(shared.clone(), partition, from, Pace::Full).await else {
        return;
    };
    let mut busy = Instant::now();
    while busy.elapsed() < LINGER {
        match timeout(STEP, consumption.next()).await {
            Ok(Some(Ok(_))) | Err(_) => {}
            Ok(Some(Err(_)) | None) => return,
        }
        if !shared.echoes.is_idle() {
            busy = Instant::now();
        }
    }
}
