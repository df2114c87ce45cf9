//! The newest values in a file, so that a restart does not read the whole log.
//!
//! ```text
//!   "ABNEWES2" │ table │ cursor │ unsure… │ settled… │ count │ position, flags, topic, envelope … │ crc32c of all before
//! ```
//!
//! Texts have their length before them, numbers are little-endian. The file is written beside its place and renamed, so it is
//! whole or absent; what is damaged, foreign or of another table is ignored, and the log read instead.

use super::{Newest, Values};
use crate::hub::classes::Classes;
use anabranch_protocol::cursor::{Cursor, Offset, Partition};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"ABNEWES2";

/// All newest values as of a place of the log.
pub struct Checkpoint {
    /// Where the log was when it was made.
    pub cursor: Cursor,
    table: String,
    /// By partition: up to where values, and deletions, are unsure.
    unsure: Vec<(Offset, Offset)>,
    /// Up to where everything was answered, see [`Shadows`](crate::shadow::Shadows).
    settled: Vec<(Partition, Offset)>,
    values: Vec<Arc<Newest>>,
}

impl Checkpoint {
    /// Shares the values; costs a count for each.
    pub fn new(cursor: Cursor, classes: &Classes, values: &Values) -> Checkpoint {
        let unsure = |p: Partition| (values.unsure_to(p), values.deletions_unsure_to(p));
        Checkpoint {
            cursor,
            table: classes.to_string(),
            unsure: values.partitions().map(unsure).collect(),
            settled: Vec::new(),
            values: values.iter().cloned().collect(),
        }
    }

    /// Notes up to where everything was answered.
    pub fn settled_to(mut self, settled: impl Iterator<Item = (Partition, Offset)>) -> Checkpoint {
        self.settled = settled.collect();
        self
    }

    pub fn settled(&self) -> &[(Partition, Offset)] {
        &self.settled
    }

    /// The values, of at most about so many bytes.
    pub fn into_values(mut self, max_bytes: usize) -> Values {
        let mut values = Values::new(max_bytes);
        self.values.sort_unstable_by_key(|value| value.position().offset);
        self.values.into_iter().for_each(|value| values.put(value));
        for (partition, (unsure, deletions)) in (0..).zip(self.unsure) {
            values.doubt(partition, unsure, deletions);
        }
        values
    }

    /// Writes the file, durably. Blocks.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let beside = path.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Reads the file. `None` if there is none. Blocks.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or was written under another table of topics.
    pub fn load(path: &Path, classes: &Classes) -> io::Result<Option<Checkpoint>> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let checkpoint = Checkpoint::decode(&bytes).ok_or_else(|| wrong("it is damaged"))?;
        if checkpoint.table != classes.to_string() {
            return Err(wrong("the topics meant something else when it was written"));
        }
        Ok(Some(checkpoint))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put(&mut out, self.table.as_bytes());
        put(&mut out, self.cursor.to_string().as_bytes());
        put_number(&mut out, self.unsure.len() as u64);
        for (unsure, deletions) in &self.unsure {
            put_number(&mut out, unsure.0);
            put_number(&mut out, deletions.0);
        }
        put_number(&mut out, self.settled.len() as u64);
        for (partition, offset) in &self.settled {
            put_number(&mut out, u64::from(*partition));
            put_number(&mut out, offset.0);
        }
        put_number(&mut out, self.values.len() as u64);
        for value in &self.values {
            put(&mut out, value.position().to_string().as_bytes());
            out.push(u8::from(value.is_deleted()) | u8::from(value.is_stale()) << 1);
            put(&mut out, value.topic().as_bytes());
            put(&mut out, value.envelope());
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Checkpoint> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let table = take_text(&mut rest)?.to_owned();
        let cursor = take_text(&mut rest)?.parse().ok()?;
        let mut unsure = Vec::new();
        for _ in 0..take_number(&mut rest)? {
            unsure.push((Offset(take_number(&mut rest)?), Offset(take_number(&mut rest)?)));
        }
        let mut settled = Vec::new();
        for _ in 0..take_number(&mut rest)? {
            let partition = Partition::try_from(take_number(&mut rest)?).ok()?;
            settled.push((partition, Offset(take_number(&mut rest)?)));
        }
        let mut values = Vec::new();
        for _ in 0..take_number(&mut rest)? {
            let position = take_text(&mut rest)?.parse().ok()?;
            let (flags, behind) = rest.split_first()?;
            rest = behind;
            let topic: Arc<str> = take_text(&mut rest)?.into();
            let envelope = take(&mut rest)?;
            let (deleted, stale) = (flags & 1 != 0, flags & 2 != 0);
            values.push(Arc::new(Newest::new(topic, position, envelope, deleted, stale)));
        }
        rest.is_empty().then_some(Checkpoint { cursor, table, unsure, settled, values })
    }
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (number, behind) = rest.split_first_chunk::<8>()?;
    *rest = behind;
    Some(u64::from_le_bytes(*number))
}

fn take<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(take_number(rest)?).ok()?;
    let (bytes, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(bytes)
}

fn take_text<'b>(rest: &mut &'b [u8]) -> Option<&'b str> {
    std::str::from_utf8(take(rest)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_protocol::cursor::{LogId, Position};

    fn checkpoint() -> Checkpoint {
        let mut values = Values::new(1 << 20);
        for (offset, (topic, deleted, stale)) in
            (3..).zip([("a", false, false), ("b/1", true, false), ("c", false, true)])
        {
            let position = Position { partition: 1, offset: Offset(offset), fingerprint: None };
            values.put(Arc::new(Newest::new(topic.into(), position, b"{\"x\":1}", deleted, stale)));
        }
        values.doubt(0, Offset(7), Offset(9));
        let mut cursor = Cursor::beginning(LogId(5));
        cursor.set(Position { partition: 1, offset: Offset(6), fingerprint: None });
        Checkpoint::new(cursor, &Classes::default(), &values)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("newest");
        let classes = Classes::default();
        assert!(Checkpoint::load(&path, &classes).expect("no file is no error").is_none());
        checkpoint().save(&path).expect("written");
        let read = Checkpoint::load(&path, &classes).expect("read").expect("there");
        assert_eq!(read.cursor, checkpoint().cursor);
        let values = read.into_values(1 << 20);
        let mut told: Vec<_> = values
            .iter()
            .map(|v| (v.topic().to_string(), v.position().offset.0, v.is_deleted(), v.is_stale()))
            .collect();
        told.sort();
        let expected = [("a", 3, false, false), ("b/1", 4, true, false), ("c", 5, false, true)];
        assert_eq!(told, expected.map(|(t, o, d, s)| (t.to_string(), o, d, s)));
        assert_eq!((values.unsure_to(0), values.deletions_unsure_to(0)), (Offset(7), Offset(9)));
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let whole = checkpoint().encode();
        assert!(Checkpoint::decode(&whole).is_some());
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(Checkpoint::decode(&damaged).is_none(), "byte {at}");
            assert!(Checkpoint::decode(&whole[..at]).is_none(), "cut at {at}");
        }
    }
}
