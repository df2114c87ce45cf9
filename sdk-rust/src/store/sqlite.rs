//! A store in one file of SQLite.

use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::About;
use anabranch_sdk_core::store::{Kept, KeptMessage, KeptPublish, Place, Store, StoreError, Write};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, params};
use std::fmt;
use std::path::Path;

/// The schema that this version writes. Of a newer one, the cache is dropped and the outbox taken over: cached messages come again, what a user
/// said does not.
const SCHEMA: i64 = 1;

const OUTBOX: &str = "CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, message_id TEXT NOT NULL UNIQUE, envelope TEXT NOT NULL,
    expires INTEGER, code INTEGER, message TEXT) STRICT";
const CACHE: &str = "
    CREATE TABLE IF NOT EXISTS message (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, position TEXT NOT NULL, about INTEGER NOT NULL,
        envelope TEXT NOT NULL) STRICT;
    CREATE INDEX IF NOT EXISTS message_of_topic ON message (topic, seq);
    CREATE TABLE IF NOT EXISTS place (
        name TEXT PRIMARY KEY, filter TEXT NOT NULL, cursor TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS owner (name TEXT NOT NULL) STRICT;";

/// A store in one file, with a second one beside it while it is open.
pub struct SqliteStore {
    connection: Connection,
}

impl SqliteStore {
    /// Opens the file, or makes it. `user` is whoever the token speaks for, in the app's own words: each has a file of their own. Blocks for some
    /// milliseconds; for five seconds, if another process keeps the file.
    ///
    /// # Errors
    /// The file cannot be opened or written, another process has it open, or it belongs to another user.
    pub fn open(path: impl AsRef<Path>, user: &str) -> Result<SqliteStore, StoreError> {
        let path = path.as_ref();
        let at = |error: rusqlite::Error| StoreError(format!("{}: {}", path.display(), told(&error)));
        let mut connection = Connection::open(path).map_err(at)?;
        prepare(&mut connection).map_err(at)?;
        let owner: Option<String> =
            connection.query_row("SELECT name FROM owner", [], |row| row.get(0)).optional().map_err(at)?;
        match owner {
            None => _ = connection.execute("INSERT INTO owner VALUES (?1)", [user]).map_err(at)?,
            Some(owner) if owner == user => {}
            Some(_) => {
                let text =
                    "belongs to another user: give each a file of their own, or let the other one log out";
                return Err(StoreError(format!("{} {text}", path.display())));
            }
        }
        Ok(SqliteStore { connection })
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.connection.path()).finish()
    }
}

/// What happened, for people.
fn told(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "another process has it open".to_owned(),
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            format!("it is damaged, or no store: move it away, and a new one is made ({error})")
        }
        _ => error.to_string(),
    }
}

fn store_error(error: rusqlite::Error) -> StoreError {
    StoreError(told(&error))
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    // One process at a time: the machine's memory is the truth while it runs.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let schema: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if schema > SCHEMA {
        transaction.execute_batch("DROP TABLE IF EXISTS message; DROP TABLE IF EXISTS place;")?;
    }
    transaction.execute_batch(OUTBOX)?;
    transaction.execute_batch(CACHE)?;
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Kept, StoreError> {
        let all = || -> rusqlite::Result<Kept> {
            Ok(Kept {
                publishes: rows(&self.connection, "SELECT * FROM outbox ORDER BY seq", publish)?,
                messages: rows(&self.connection, "SELECT * FROM message ORDER BY seq", message)?,
                places: rows(&self.connection, "SELECT name, filter, cursor FROM place", place)?,
            })
        };
        all().map_err(store_error)
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let durable = writes.iter().any(|write| matches!(write, Write::Enqueue { .. }));
        let mut all = || -> rusqlite::Result<()> {
            // A place that a loss of power takes back means that messages come again. What the user said does not come again.
            let synchronous = if durable { "FULL" } else { "NORMAL" };
            self.connection.pragma_update(None, "synchronous", synchronous)?;
            let transaction = self.connection.transaction()?;
            writes.iter().try_for_each(|write| apply(&transaction, write))?;
            transaction.commit()
        };
        all().map_err(store_error)
    }

    fn wipe(&mut self) -> Result<(), StoreError> {
        // What is deleted is overwritten, and the owner goes too: the next user may have the file.
        let wiped = self.connection.execute_batch(
            "PRAGMA secure_delete = ON; BEGIN IMMEDIATE; DELETE FROM outbox; DELETE FROM message; DELETE FROM place;
             DELETE FROM owner; COMMIT; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);",
        );
        wiped.map_err(store_error)
    }
}

fn apply(transaction: &Transaction<'_>, write: &Write) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql)?.execute(values).map(drop)
    };
    match write {
        Write::Enqueue { message_id, envelope, expires } => {
            let expires = expires.map(|at| i64::try_from(at).unwrap_or(i64::MAX));
            run("DELETE FROM outbox WHERE message_id = ?1", params![message_id])?;
            run(
                "INSERT INTO outbox (message_id, envelope, expires) VALUES (?1, ?2, ?3)",
                params![message_id, envelope, expires],
            )
        }
        Write::Wedge { message_id, why } => {
            let (code, message) = why.as_ref().map(|(code, message)| (code.0, message)).unzip();
            run(
                "UPDATE outbox SET code = ?2, message = ?3 WHERE message_id = ?1",
                params![message_id, code, message],
            )
        }
        Write::Settle { message_id } => run("DELETE FROM outbox WHERE message_id = ?1", params![message_id]),
        Write::Message { topic, position, about, envelope } => run(
            "INSERT INTO message (topic, position, about, envelope) VALUES (?1, ?2, ?3, ?4)",
            params![topic, position.to_string(), flags(*about), &**envelope],
        ),
        Write::Trim { topic, keep } => run(
            "DELETE FROM message WHERE topic = ?1 AND seq <=
                (SELECT seq FROM message WHERE topic = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
            params![topic, i64::try_from(*keep).unwrap_or(i64::MAX)],
        ),
        Write::Cursor { name, place: Some(Place { filter, cursor }) } => run(
            "INSERT OR REPLACE INTO place (name, filter, cursor) VALUES (?1, ?2, ?3)",
            params![name, filter.as_str(), cursor.to_string()],
        ),
        Write::Cursor { name, place: None } => run("DELETE FROM place WHERE name = ?1", params![name]),
    }
}

/// Rows that make sense. One that does not was written by another version, or by somebody else.
fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<Option<T>>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = connection.prepare(sql)?;
    let mut found = Vec::new();
    let mut all = statement.query([])?;
    while let Some(row) = all.next()? {
        match read(row)? {
            Some(one) => found.push(one),
            None => tracing::warn!("the store holds a row that cannot be read; it is left out"),
        }
    }
    Ok(found)
}

fn publish(row: &Row<'_>) -> rusqlite::Result<Option<KeptPublish>> {
    let expires: Option<i64> = row.get("expires")?;
    let (code, message): (Option<u16>, Option<String>) = (row.get("code")?, row.get("message")?);
    Ok(Some(KeptPublish {
        message_id: row.get::<_, String>("message_id")?.into(),
        envelope: row.get::<_, String>("envelope")?.into(),
        expires: expires.map(i64::unsigned_abs),
        wedged: code.map(|code| (Code(code), message.unwrap_or_default().into())),
    }))
}

fn message(row: &Row<'_>) -> rusqlite::Result<Option<KeptMessage>> {
    let Ok(position) = row.get::<_, String>("position")?.parse::<Position>() else { return Ok(None) };
    Ok(Some(KeptMessage {
        topic: row.get::<_, String>("topic")?.into(),
        position,
        about: about(row.get("about")?),
        envelope: row.get::<_, String>("envelope")?.into(),
    }))
}

fn place(row: &Row<'_>) -> rusqlite::Result<Option<(Box<str>, Place)>> {
    let (filter, cursor): (String, String) = (row.get("filter")?, row.get("cursor")?);
    let (Ok(filter), Ok(cursor)) = (Filter::new(&filter), cursor.parse::<Cursor>()) else { return Ok(None) };
    Ok(Some((row.get::<_, String>("name")?.into(), Place { filter, cursor })))
}

fn flags(about: About) -> u8 {
    u8::from(about.snapshot) | u8::from(about.stale) << 1 | u8::from(about.patch) << 2
}

fn about(flags: u8) -> About {
    About { snapshot: flags & 1 > 0, stale: flags & 2 > 0, patch: flags & 4 > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_sdk_core::store::conformance;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn enqueue(id: &str) -> Write {
        Write::Enqueue { message_id: id.into(), envelope: "{}".into(), expires: None }
    }

    #[test]
    fn keeps_what_every_store_keeps() {
        let folder = folder();
        let path = folder.path().join("store");
        let mut store = SqliteStore::open(&path, "u").expect("a store");
        conformance::check(&mut store, |store| {
            // Closed before it is opened again, as a process does.
            store.connection = Connection::open_in_memory().expect("memory");
            *store = SqliteStore::open(&path, "u").expect("the store again");
        });
    }

    #[test]
    fn a_file_belongs_to_one_user_and_one_process_until_it_is_wiped() {
        let folder = folder();
        let path = folder.path().join("store");
        let mut store = SqliteStore::open(&path, "u").expect("a store");
        store.commit(&[enqueue("1")]).expect("committed");
        let error = SqliteStore::open(&path, "u").expect_err("it is open");
        assert!(error.0.contains("another process"), "{error}");
        drop(store);
        let error = SqliteStore::open(&path, "v").expect_err("it is u's");
        assert!(error.0.contains("another user") && !error.0.contains("\"u\""), "{error}");
        let mut store = SqliteStore::open(&path, "u").expect("the store again");
        store.wipe().expect("wiped");
        drop(store);
        assert!(SqliteStore::open(&path, "v").is_ok());
    }

    #[test]
    fn of_a_newer_schema_the_outbox_is_taken_over_and_the_cache_dropped() {
        let folder = folder();
        let path = folder.path().join("store");
        let mut store = SqliteStore::open(&path, "u").expect("a store");
        let about = About::default();
        let position = "0:1".parse().expect("a position");
        let message = Write::Message { topic: "a".into(), position, about, envelope: "{}".into() };
        store.commit(&[enqueue("1"), message]).expect("committed");
        let newer = "ALTER TABLE message ADD COLUMN more TEXT; PRAGMA user_version = 9;";
        store.connection.execute_batch(newer).expect("changed");
        drop(store);
        let mut store = SqliteStore::open(&path, "u").expect("a store");
        let kept = store.load().expect("loaded");
        assert_eq!((kept.publishes.len(), kept.messages.len()), (1, 0));
    }

    #[test]
    fn what_is_no_store_is_said_to_be_none() {
        let folder = folder();
        let path = folder.path().join("store");
        std::fs::write(&path, [7; 4096]).expect("written");
        let error = SqliteStore::open(&path, "u").expect_err("no store");
        assert!(error.0.contains("move it away") && error.0.contains("store"), "{error}");
    }
}
