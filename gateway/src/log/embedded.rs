//! The embedded log: a folder of append-only files, for gateways that need no broker.
//!
//! ```text
//! folder/  lock                            held while the log is open
//!          id                              which log this is, for ever
//!          clean                           only while it is closed, and was closed in order
//!          00000000000000000001.log        a segment: start, records 1 … 7034, end
//!          00000000000000007035.log        the newest segment: start, records 7035 …
//! ```
//!
//! * One thread writes ([`writer`]); it takes everything that waits, writes it at once, syncs it at once as
//!   [`Options::sync`] says, and confirms it. Live readers are served from memory ([`recent`]), the others from files
//!   by a few threads of their own ([`pool`]).
//! * Every frame has a checksum ([`frame`]), and offsets within a segment are consecutive. What cannot be read is
//!   therefore always noticed, served around, and told as a gap ([`read`]).
//! * After a crash the torn tail is cut, and offsets leap ([`recovery`]): none is ever given twice.
//! * A disk that is full or fails stops appends, nothing else ([`writer`]); they go on when it has recovered.

mod disk;
mod frame;
mod mark;
mod options;
mod pool;
mod queue;
mod read;
mod recent;
mod recovery;
mod scan;
mod segment;
mod shared;
mod tail;
mod writer;

pub use options::{OpenError, Options, Sync};

use super::{
    AppendError, Appending, Batch, Bounds, Budget, Capabilities, Health, Log, NewRecord, ReadError, Start,
    TailEvent, ended, now,
};
use anabranch_protocol::cursor::{LogId, Offset, Partition};
use disk::{Disk, Folder};
use futures_util::future::{BoxFuture, Either, FutureExt, ready};
use futures_util::stream::{BoxStream, StreamExt, empty};
use queue::{Append, Confirm};
use recent::Recent;
use recovery::Trouble;
use shared::{Shared, State};
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;
use writer::Writer;

/// A log in a folder of this machine. One partition.
///
/// Dropping it closes it, some time later; [`close`](EmbeddedLog::close) says when that is done.
#[derive(Debug)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
}

impl EmbeddedLog {
    /// Opens the log in a folder, or makes one there.
    ///
    /// Reads the newest segment through, so it takes as long as the disk takes for [`Options::segment_bytes`]. A full
    /// disk does not prevent opening: the log is then readable, and [`Health::Blocked`].
    pub fn open(options: Options) -> Result<Arc<EmbeddedLog>, OpenError> {
        let folder = options.folder.clone();
        let disk = Folder::new(folder.clone()).map_err(|error| OpenError::Io {
            folder,
            what: "the folder cannot be made",
            error,
        })?;
        EmbeddedLog::open_on(options, Arc::new(disk), now)
    }

    fn open_on(
        options: Options,
        disk: Arc<dyn Disk>,
        clock: fn() -> u64,
    ) -> Result<Arc<EmbeddedLog>, OpenError> {
        options.check()?;
        let folder = options.folder.clone();
        let failed = |what| {
            let folder = folder.clone();
            move |error| OpenError::Io { folder, what, error }
        };
        let lock = disk.lock().map_err(failed("it cannot be locked"))?;
        let lock = lock.ok_or_else(|| OpenError::Locked(folder.clone()))?;
        mark::remove_unfinished(&*disk).map_err(failed("its folder cannot be written to"))?;
        let new_id =
            getrandom::u64().map_err(|error| failed("no random numbers")(io::Error::other(error)))?;
        let found =
            recovery::look(&*disk, options.segment_bytes, LogId(new_id)).map_err(
                |trouble| match trouble {
                    Trouble::Io(what, error) => failed(what)(error),
                    Trouble::Damaged(what) => OpenError::Damaged { folder: folder.clone(), what },
                },
            )?;
        let last = found.next - 1;
        let state = State {
            segments: found.segments,
            recent: Recent::new(options.recent_bytes, last),
            newest: found.newest,
            last,
            health: Health::Connected,
            closed: false,
        };
        let shared = Shared::new(found.id, options, disk.clone(), clock, state);
        let shared = Arc::new(shared.map_err(failed("its threads cannot be started"))?);
        let resumes = found.active.is_some();
        let mut writer =
            Writer::new(shared.clone(), found.active, found.torn, (found.next, found.before), lock);
        let begun = (|| {
            if found.write_id {
                mark::write_id(&*disk, found.id)?;
            }
            mark::remove(&*disk)?;
            if !resumes {
                writer.mend()?;
            }
            writer.retain();
            found.empty.iter().try_for_each(|name| disk.remove(name))
        })();
        match begun {
            Ok(()) => {}
            // Without an id on the disk, the next start would make another: then there is nothing to read either.
            Err(error) if error.kind() == io::ErrorKind::StorageFull && !found.write_id => {
                writer.refuse(&error, 0);
            }
            Err(error) => return Err(failed("it cannot be written to")(error)),
        }
        let thread = std::thread::Builder::new().name("log-write".into());
        thread.spawn(move || writer.run()).map_err(failed("its threads cannot be started"))?;
        Ok(Arc::new(EmbeddedLog { shared }))
    }

    /// Takes no more appends, finishes those that wait, marks the log as closed in order, and lets others open it.
    ///
    /// Cancel safe: the log closes all the same.
    pub fn close(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut changes = self.shared.changes.subscribe();
        self.shared.queue.close();
        let shared = self.shared.clone();
        async move {
            while !shared.lock().closed {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Log for EmbeddedLog {
    fn id(&self) -> LogId {
        self.shared.id
    }

    fn capabilities(&self) -> Capabilities {
        let options = &self.shared.options;
        let sync = match options.sync {
            Sync::None => "none".into(),
            Sync::Interval => format!("every {} ms", options.sync_interval_ms),
            Sync::Always => "always".into(),
        };
        Capabilities {
            description: format!("file (sync {sync})"),
            partitions: 1,
            dense: true,
            max_record: options.max_record,
            survives_restart: true,
            survives_power_loss: options.sync != Sync::None,
        }
    }

    fn append(&self, record: NewRecord) -> Appending {
        let (size, max) = (record.envelope.len(), self.shared.options.max_record);
        if size > max {
            return ended(Err(AppendError::TooLarge { size, max }));
        }
        let (confirm, confirmed) = oneshot::channel();
        if let Err(error) = self.shared.queue.push(Append { record, confirm: Confirm(confirm) }) {
            return ended(Err(error));
        }
        let failed = |_| Err(AppendError::Unknown("the log's writer failed".into()));
        Either::Right(async move { confirmed.await.unwrap_or_else(failed) }.boxed())
    }

    fn tail(&self, partition: Partition, from: Start) -> BoxStream<'static, TailEvent> {
        if partition != 0 {
            return empty().boxed();
        }
        tail::start(self.shared.clone(), from).boxed()
    }

    fn read(
        &self,
        partition: Partition,
        after: Offset,
        budget: Budget,
    ) -> BoxFuture<'static, Result<Batch, ReadError>> {
        if partition != 0 {
            return ready(Err(ReadError::NoPartition(partition))).boxed();
        }
        read::read(self.shared.clone(), after, budget).boxed()
    }

    fn bounds(&self, partition: Partition) -> BoxFuture<'static, Result<Bounds, ReadError>> {
        let state = self.shared.lock();
        ready(match partition {
            _ if state.closed => Err(shared::closed()),
            0 => Ok(state.bounds()),
            _ => Err(ReadError::NoPartition(partition)),
        })
        .boxed()
    }

    fn locate(&self, partition: Partition, since: u64) -> BoxFuture<'static, Result<Offset, ReadError>> {
        if partition != 0 {
            return ready(Err(ReadError::NoPartition(partition))).boxed();
        }
        read::on_pool(self.shared.clone(), move |shared| read::locate(shared, since)).boxed()
    }
}

#[cfg(test)]
mod tests;
