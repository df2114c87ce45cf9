//! What a device has begun and answered, a line each, so that a restart does not do it again.

use anabranch_protocol::json::{ObjectWriter, Scanner};
use anabranch_sdk_core::command::{Answer, Entry, Handled, SKEW_MS};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;

/// A file to which lines are added, and the lock that says whose it is. Without one, nothing outlives the process.
pub(super) struct Journal(Option<Open>);

struct Open {
    file: File,
    /// Beside the file, which is replaced by a new one at each start. Released by the system when the process ends, however it does.
    _lock: File,
}

impl Journal {
    /// Keeps nothing.
    pub fn none() -> Journal {
        Journal(None)
    }

    /// Reads what the file has, writes it anew without what has long expired, and goes on with it. What was begun and not answered has failed.
    ///
    /// # Errors
    /// The file cannot be read or written; or another process serves with it, which would do each command a second time.
    pub fn open(path: &Path, now: u64) -> io::Result<(Journal, Handled)> {
        let lock = File::create(path.with_added_extension("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::AlreadyExists,
                "another process serves commands with this journal: end it, or give this one a file of its own",
            ),
            TryLockError::Error(error) => error,
        })?;
        let mut handled = Handled::default();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        // A line that a loss of power has spoilt is none; those before and behind it count.
        let text = String::from_utf8_lossy(&bytes);
        // A last line that is cut short was not believed when it was written either.
        for (id, expires, answer) in text.lines().filter_map(read) {
            if expires.saturating_add(SKEW_MS) > now {
                handled.restore(&id, expires, answer);
            }
        }
        handled.interrupt();
        let lines: String = handled.entries().map(line).collect();
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        let file = OpenOptions::new().append(true).open(path)?;
        Ok((Journal(Some(Open { file, _lock: lock })), handled))
    }

    /// Adds a line, and returns when it would survive a loss of power.
    pub fn write(&mut self, entry: Entry<'_>) -> io::Result<()> {
        let Some(Open { file, .. }) = &mut self.0 else { return Ok(()) };
        file.write_all(line(entry).as_bytes())?;
        file.sync_data()
    }
}

fn line(Entry { id, expires, answer }: Entry<'_>) -> String {
    let mut out = String::new();
    let mut object = ObjectWriter::begin(&mut out);
    object.string("id", id).number("expires", expires);
    if let Some(answer) = answer {
        object.raw("answer", &answer.to_json());
    }
    object.end();
    out.push('\n');
    out
}

fn read(line: &str) -> Option<(String, u64, Option<Answer>)> {
    let (mut id, mut expires, mut answer) = (None, None, None);
    let mut scanner = Scanner::new(line);
    scanner.enter_object().ok()?;
    while let Some(key) = scanner.next_key().ok()? {
        match &*key {
            "id" => id = Some(scanner.string().ok()?.into_owned()),
            "expires" => expires = Some(scanner.number().ok()?),
            "answer" => answer = Some(Answer::from_json(scanner.raw().ok()?).ok()?),
            _ => drop(scanner.raw().ok()?),
        }
    }
    Some((id?, expires?, answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_sdk_core::command::Verdict;

    #[test]
    fn what_was_begun_is_not_begun_again_and_what_was_answered_is_answered() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("commands");
        let (mut journal, mut handled) = Journal::open(&path, 0).expect("a new one");
        for id in ["done", "begun", "old"] {
            let expires = if id == "old" { 1 } else { 500_000 };
            assert_eq!(handled.meet(id, expires, 0), Verdict::Do);
            journal.write(handled.entry(id).expect("known")).expect("written");
        }
        handled.answer("done", Answer::Done("1".into()));
        journal.write(handled.entry("done").expect("known")).expect("written");
        drop(journal);
        // The power fails in the middle of a line.
        let whole = std::fs::read_to_string(&path).expect("a file");
        let spoilt = [b"\xff\xfe\0\n".as_slice(), whole.as_bytes(), b"{\"id\":\"cut\",\"exp"].concat();
        std::fs::write(&path, spoilt).expect("written");

        for _ in 0..2 {
            let (_journal, mut handled) = Journal::open(&path, 400_000).expect("the same");
            assert_eq!(handled.meet("done", 500_000, 400_000), Verdict::Answered(Answer::Done("1".into())));
            assert!(matches!(handled.meet("begun", 500_000, 400_000), Verdict::Answered(Answer::Failed(_))));
            assert_eq!(handled.meet("cut", 500_000, 400_000), Verdict::Do);
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(!text.contains("old") && !text.contains("cut"), "{text}");
    }

    #[test]
    fn one_process_serves_with_a_journal() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("commands");
        let first = Journal::open(&path, 0).expect("a new one");
        let second = Journal::open(&path, 0).map(|_| ()).expect_err("it is in use");
        assert!(second.to_string().contains("another process serves commands"), "{second}");
        drop(first);
        Journal::open(&path, 0).expect("free again");
    }
}
