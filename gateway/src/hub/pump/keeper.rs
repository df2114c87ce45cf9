//! Keeps the newest values over a restart: a checkpoint now and then, and one when the node drains.

use crate::connection::resume;
use crate::hub::newest::{Checkpoint, Fold};
use crate::log::{Log, ReadError};
use crate::shadow::Shadows;
use anabranch_protocol::cursor::{Cursor, Offset};
use anabranch_protocol::server_frame::Outcome;
use std::path::PathBuf;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

/// How often a checkpoint is written.
const EVERY: Duration = Duration::from_secs(60);

/// Asks for a checkpoint, and is told when it is written.
pub type Ask = mpsc::Sender<oneshot::Sender<()>>;

/// Who keeps it; without a file, nobody.
pub struct Keeper {
    file: Option<PathBuf>,
    asks: mpsc::Receiver<oneshot::Sender<()>>,
    tick: Option<Interval>,
}

impl Keeper {
    pub fn new(file: Option<PathBuf>) -> (Keeper, Ask) {
        let (ask, asks) = mpsc::channel(1);
        (Keeper { file, asks, tick: None }, ask)
    }

    /// Begins with the file's values, if they are of this log and there is a file. Whatever is wrong with it is said, and the
    /// log is read instead.
    pub(super) async fn restore(
        &self,
        log: &dyn Log,
        fold: &mut Fold,
        shadows: Option<&Shadows>,
    ) -> Result<(), ReadError> {
        let Some(file) = self.file.clone().filter(|_| fold.classes().have_state()) else { return Ok(()) };
        let shown = file.display().to_string();
        let classes = fold.classes().clone();
        let loading = tokio::task::spawn_blocking(move || Checkpoint::load(&file, &classes));
        let loaded = loading.await.map_err(std::io::Error::other).and_then(|loaded| loaded);
        let checkpoint = match loaded {
            Ok(Some(checkpoint)) => checkpoint,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::warn!(file = shown, %error, "the checkpoint is not used, the log is read instead");
                return Ok(());
            }
        };
        let partitions = log.capabilities().partitions;
        let cursor = &checkpoint.cursor;
        let ours = cursor.log() == log.id() && cursor.positions().iter().all(|p| p.partition < partitions);
        // Judged as a client's cursor is: the very record must be there, or be forgotten.
        let known = ours && {
            let head = Cursor::beginning(log.id());
            !matches!(resume::from_log(cursor.clone(), head, log).await?.outcome, Outcome::Reset(_))
        };
        if known {
            tracing::info!(file = shown, %cursor, "the newest values begin with a checkpoint");
            fold.begin(checkpoint);
            if let Some(shadows) = shadows {
                shadows.begin(fold.values(), |partition| fold.settled_to(partition).unwrap_or(Offset(0)));
            }
        } else {
            tracing::warn!(file = shown, %cursor, "the checkpoint is of another history, the log is read instead");
        }
        Ok(())
    }

    /// Waits until a checkpoint is due. Cancel safe. For ever, without a file.
    pub(super) async fn asked(&mut self) -> Option<oneshot::Sender<()>> {
        if self.file.is_none() {
            return std::future::pending().await;
        }
        let tick = self.tick.get_or_insert_with(|| {
            let mut tick = interval_at(tokio::time::Instant::now() + EVERY, EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick
        });
        tokio::select! {
            Some(answer) = self.asks.recv() => Some(answer),
            _ = tick.tick() => None,
        }
    }

    /// As [`asked`](Keeper::asked).
    pub(super) fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Option<oneshot::Sender<()>>> {
        pin!(self.asked()).poll(cx)
    }

    /// Writes it on a thread that may wait for the disk.
    pub(super) fn save(&self, checkpoint: Checkpoint, answer: Option<oneshot::Sender<()>>) {
        let Some(file) = self.file.clone() else { return };
        tokio::task::spawn_blocking(move || {
            if let Err(error) = checkpoint.save(&file) {
                tracing::warn!(file = %file.display(), %error, "no checkpoint could be written");
            }
            if let Some(answer) = answer {
                // Whoever asked may have gone on.
                let _ = answer.send(());
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn a_checkpoint_is_due_each_minute_and_when_somebody_asks() {
        let (mut keeper, ask) = Keeper::new(Some("file".into()));
        for _ in 0..2 {
            let began = tokio::time::Instant::now();
            assert!(keeper.asked().await.is_none(), "nobody waits for this one");
            assert_eq!(began.elapsed(), EVERY);
        }
        let (answer, _answered) = oneshot::channel();
        ask.try_send(answer).expect("room for one");
        assert!(keeper.asked().now_or_never().flatten().is_some(), "at once");
        let (mut nothing, _ask) = Keeper::new(None);
        tokio::time::timeout(EVERY * 10, nothing.asked()).await.expect_err("without a file, never");
    }
}
