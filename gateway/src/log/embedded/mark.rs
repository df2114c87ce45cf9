//! The two small files beside the segments: which log this is, and whether it was closed cleanly.

use super::disk::Disk;
use super::frame::{self, Decoded, End, Frame};
use anabranch_protocol::cursor::LogId;
use bytes::{Bytes, BytesMut};
use std::io;

const ID: &str = "id";
const CLEAN: &str = "clean";
/// A file under this name is not finished, and is removed by the next opening.
const TEMPORARY: &str = "unfinished.tmp";

/// The log's id, as text so that an operator can compare it; `None` if there is none, or none that makes sense.
pub(super) fn id(disk: &dyn Disk) -> io::Result<Option<LogId>> {
    let Some(bytes) = content(disk, ID)? else { return Ok(None) };
    let digits = std::str::from_utf8(&bytes).ok().map(str::trim_end).filter(|digits| digits.len() == 16);
    Ok(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(LogId))
}

pub(super) fn write_id(disk: &dyn Disk, id: LogId) -> io::Result<()> {
    replace(disk, ID, format!("{id}\n").as_bytes())
}

/// What a clean close has left; `None` after a crash.
pub(super) fn read(disk: &dyn Disk) -> io::Result<Option<End>> {
    let Some(bytes) = content(disk, CLEAN)? else { return Ok(None) };
    match frame::decode(&bytes) {
        Decoded::Frame { frame: Frame::End(end), .. } => Ok(Some(end)),
        _ => Ok(None),
    }
}

pub(super) fn write(disk: &dyn Disk, end: End) -> io::Result<()> {
    replace(disk, CLEAN, &end.encode())
}

/// Must be durable before anything is written: a mark that outlives a crash would be believed.
pub(super) fn remove(disk: &dyn Disk) -> io::Result<()> {
    match disk.remove(CLEAN) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.and_then(|()| disk.sync()),
    }
}

pub(super) fn remove_unfinished(disk: &dyn Disk) -> io::Result<()> {
    match disk.remove(TEMPORARY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn replace(disk: &dyn Disk, name: &str, content: &[u8]) -> io::Result<()> {
    let file = disk.create(TEMPORARY)?;
    file.write_at(content, 0)?;
    file.sync()?;
    disk.rename(TEMPORARY, name)?;
    disk.sync()
}

fn content(disk: &dyn Disk, name: &str) -> io::Result<Option<Bytes>> {
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut buffer = BytesMut::zeroed(256); // Both are far smaller.
    let count = file.read_at(&mut buffer, 0)?;
    buffer.truncate(count);
    Ok(Some(buffer.freeze()))
}
