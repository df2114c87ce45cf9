//! A disk in memory that fails as disks do: full, unreadable, unwritable, and without power at any moment.
//!
//! What was written since the last sync may be kept or lost, write by write, in part. A sync that fails forgets what it
//! should have kept, and the next one succeeds, as on Linux.

use super::{Disk, DiskFile};
use crate::log::conformance::Dice;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sectors are written whole or not at all.
const SECTOR: usize = 512;

/// A handle: clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(in crate::log::embedded) struct Simulated {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Names as processes see them, and as the disk has them.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Names as they were after each change since the last sync of the folder.
    name_history: Vec<BTreeMap<String, usize>>,
    files: Vec<Content>,
    locked: bool,
    operations: u64,
    power_fails_at: Option<u64>,
    faults: Faults,
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Changes since the last sync.
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

/// What goes wrong at present.
#[derive(Clone, Debug, Default)]
pub(in crate::log::embedded) struct Faults {
    /// All files together take no more bytes than this.
    pub room: Option<usize>,
    pub writes_fail: bool,
    pub reads_fail: bool,
    pub truncation_fails: bool,
    /// So many of the next syncs of files fail.
    pub failing_syncs: usize,
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => {
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(bytes);
            }
            Change::Length(length) => content.resize(*length, 0),
        }
    }

    /// What of a change reached the disk when the power failed.
    fn apply_in_part(&self, content: &mut Vec<u8>, dice: &mut Dice) {
        match self {
            Change::Length(_) => self.apply(content),
            Change::Write { at, bytes } => {
                for (n, sector) in bytes.chunks(SECTOR).enumerate() {
                    if dice.below(2) == 0 {
                        let cut = if dice.below(4) == 0 { dice.below(sector.len() as u64) } else { u64::MAX };
                        let kept = &sector[..sector.len().min(cut as usize)];
                        Change::Write { at: at + n * SECTOR, bytes: kept.to_vec() }.apply(content);
                    }
                }
            }
        }
    }
}

impl Simulated {
    fn lock_inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these faults, and no others.
    pub(in crate::log::embedded) fn faults(&self, faults: Faults) {
        self.lock_inner().faults = faults;
    }

    /// After so many operations that change something, nothing happens any more.
    pub(in crate::log::embedded) fn power_fails_after(&self, operations: u64) {
        let mut inner = self.lock_inner();
        inner.power_fails_at = Some(inner.operations + operations);
    }

    /// Operations that changed something, so far.
    pub(in crate::log::embedded) fn operations(&self) -> u64 {
        self.lock_inner().operations
    }

    /// Bytes in all files.
    pub(in crate::log::embedded) fn used(&self) -> usize {
        self.lock_inner().used()
    }

    /// The disk as it may be found after a power failure now.
    pub(in crate::log::embedded) fn after_power_failure(&self, dice: &mut Dice) -> Simulated {
        let inner = self.lock_inner();
        let pick = dice.below(inner.name_history.len() as u64 + 1) as usize;
        let names = pick.checked_sub(1).map_or(&inner.durable_names, |n| &inner.name_history[n]).clone();
        let files = inner.files.iter().map(|file| {
            let mut content = file.durable.clone();
            // Often all or nothing, else any part.
            let mode = dice.below(4);
            for change in &file.pending {
                match mode {
                    0 => {}
                    1 => change.apply(&mut content),
                    _ if dice.below(3) == 0 => {}
                    _ => change.apply_in_part(&mut content, dice),
                }
            }
            Content { now: content.clone(), durable: content, pending: Vec::new() }
        });
        let files = files.collect();
        let durable_names = names.clone();
        Simulated { inner: Arc::new(Mutex::new(Inner { names, durable_names, files, ..Inner::default() })) }
    }

    /// Changes a file behind the log's back.
    pub(in crate::log::embedded) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.lock_inner();
        let file = inner.names[name];
        change(&mut inner.files[file].now);
        inner.files[file].durable = inner.files[file].now.clone();
        inner.files[file].pending.clear();
    }

    /// A copy, as a backup would be made of a log at rest.
    pub(in crate::log::embedded) fn copy(&self) -> Simulated {
        let inner = self.lock_inner();
        let (names, files) = (inner.names.clone(), inner.files.clone());
        let durable_names = names.clone();
        Simulated { inner: Arc::new(Mutex::new(Inner { names, durable_names, files, ..Inner::default() })) }
    }
}

impl Inner {
    fn used(&self) -> usize {
        self.names.values().map(|&file| self.files[file].now.len()).sum()
    }

    fn powered(&self) -> io::Result<()> {
        match self.power_fails_at {
            Some(at) if self.operations >= at => Err(io::Error::other("no power")),
            _ => Ok(()),
        }
    }

    fn change(&mut self) -> io::Result<()> {
        self.powered()?;
        self.operations += 1;
        Ok(())
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for Simulated {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        struct Guard(Simulated);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.lock_inner().locked = false;
            }
        }
        let mut inner = self.lock_inner();
        if std::mem::replace(&mut inner.locked, true) {
            return Ok(None);
        }
        Ok(Some(Box::new(Guard(self.clone()))))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock_inner().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.lock_inner();
        inner.powered()?;
        let file = inner.file(name)?;
        Ok(Arc::new(Open { disk: self.clone(), file }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock_inner();
        inner.change()?;
        let file = inner.files.len();
        inner.files.push(Content::default());
        inner.names.insert(name.into(), file);
        let names = inner.names.clone();
        inner.name_history.push(names);
        Ok(Arc::new(Open { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.change()?;
        let file = inner.file(from)?;
        inner.names.remove(from);
        inner.names.insert(to.into(), file);
        let names = inner.names.clone();
        inner.name_history.push(names);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.powered()?;
        inner.file(name)?;
        inner.change()?;
        inner.names.remove(name);
        let names = inner.names.clone();
        inner.name_history.push(names);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.lock_inner();
        inner.change()?;
        inner.durable_names = inner.names.clone();
        inner.name_history.clear();
        Ok(())
    }
}

#[derive(Debug)]
struct Open {
    disk: Simulated,
    file: usize,
}

impl DiskFile for Open {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock_inner().files[self.file].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let inner = self.disk.lock_inner();
        inner.powered()?;
        if inner.faults.reads_fail {
            return Err(io::Error::other("EIO"));
        }
        let content = &inner.files[self.file].now;
        let from = content.len().min(at as usize);
        let count = buffer.len().min(content.len() - from);
        buffer[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut inner = self.disk.lock_inner();
        inner.change()?;
        let grows = (at as usize + bytes.len()).saturating_sub(inner.files[self.file].now.len());
        let room = inner.faults.room.map_or(usize::MAX, |room| room.saturating_sub(inner.used()));
        let (kept, result) = if inner.faults.writes_fail {
            (bytes.len() / 2, Err(io::Error::other("EIO")))
        } else if grows > room {
            let kept = bytes.len() - (grows - room).min(bytes.len());
            (kept, Err(io::ErrorKind::StorageFull.into()))
        } else {
            (bytes.len(), Ok(()))
        };
        let change = Change::Write { at: at as usize, bytes: bytes[..kept].to_vec() };
        let file = &mut inner.files[self.file];
        change.apply(&mut file.now);
        file.pending.push(change);
        result
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.lock_inner();
        inner.change()?;
        if inner.faults.truncation_fails {
            return Err(io::Error::other("EIO"));
        }
        let file = &mut inner.files[self.file];
        let change = Change::Length(len as usize);
        change.apply(&mut file.now);
        file.pending.push(change);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock_inner();
        inner.change()?;
        if inner.faults.failing_syncs > 0 {
            inner.faults.failing_syncs -= 1;
            inner.files[self.file].pending.clear();
            return Err(io::Error::other("EIO"));
        }
        let file = &mut inner.files[self.file];
        let mut durable = std::mem::take(&mut file.durable);
        for change in file.pending.drain(..) {
            change.apply(&mut durable);
        }
        file.durable = durable;
        Ok(())
    }
}
