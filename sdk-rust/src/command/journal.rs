//! What a device has begun and answered, a line each, so that a restart does not do it again.

use anabranch_protocol::json::{ObjectWriter, Scanner};
use anabranch_sdk_core::command::{Answer, Entry, Handled, SKEW_MS};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// A file to which lines are added. Without one, nothing outlives the process.
pub(super) struct Journal(Option<File>);

impl Journal {
    /// Keeps nothing.
    pub fn none() -> Journal {
        Journal(None)
    }

    /// Reads what the file has, writes it anew without what has long expired, and goes on with it. What was begun and not answered has failed.
    pub fn open(path: &Path, now: u64) -> io::Result<(Journal, Handled)> {
        let mut handled = Handled::default();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
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
        Ok((Journal(Some(OpenOptions::new().append(true).open(path)?)), handled))
    }

    /// Adds a line, and returns when it would survive a loss of power.
    pub fn write(&mut self, entry: Entry<'_>) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
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
        std::fs::write(&path, format!("{whole}{{\"id\":\"cut\",\"exp")).expect("written");

        for _ in 0..2 {
            let (_, mut handled) = Journal::open(&path, 400_000).expect("the same");
            assert_eq!(handled.meet("done", 500_000, 400_000), Verdict::Answered(Answer::Done("1".into())));
            assert!(matches!(handled.meet("begun", 500_000, 400_000), Verdict::Answered(Answer::Failed(_))));
            assert_eq!(handled.meet("cut", 500_000, 400_000), Verdict::Do);
        }
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(!text.contains("old") && !text.contains("cut"), "{text}");
    }
}
