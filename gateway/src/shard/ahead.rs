//! Patience with a cursor that the log, or this node, has not come to: another node may have read further, and a replica may be behind.

use crate::connection::resume::{self, Verdict};
use crate::log::{Log, ReadError};
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::server_frame::Outcome;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a cursor may be ahead of the log before the client is told that it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// Until it is looked at again; and twice as long each further time, for each look is a read of the log.
const STEP: Duration = Duration::from_millis(50);
/// So many steps between two looks at the log while this node is waited for: two seconds.
const LOOKS_AGAIN: u32 = 40;

/// Asks the log about a cursor that the ring cannot judge. One that is ahead is given a little time, which begins with the call and not with
/// the first poll: a connection asks a few things at a time, and the others would wait for each other's patience.
pub(super) fn ask(
    cursor: Cursor,
    head: Cursor,
    log: Arc<dyn Log>,
) -> impl Future<Output = Result<Verdict, ReadError>> + Send {
    let give_up = Instant::now() + PATIENCE;
    async move {
        let mut step = STEP;
        loop {
            let verdict = resume::from_log(cursor.clone(), head.clone(), &*log).await?;
            let ahead = verdict.outcome == Outcome::Reset(Code::CURSOR_AHEAD);
            let now = Instant::now();
            if !ahead || now >= give_up {
                return Ok(verdict);
            }
            sleep_until(give_up.min(now + step)).await;
            step *= 2;
        }
    }
}

/// Waits a little for this node to come to where a client stands. Now and then looks whether that place is still there.
pub(super) async fn wait(verdict: Verdict, head: Cursor, log: Arc<dyn Log>) -> Result<Verdict, ReadError> {
    sleep(STEP).await;
    let waits = verdict.waits.saturating_add(1);
    if !waits.is_multiple_of(LOOKS_AGAIN) {
        return Ok(Verdict { waits, ..verdict });
    }
    let again = match verdict.given.clone() {
        Some(given) => resume::from_log(given, head, &*log).await,
        // Who came without a cursor, and waits, wants all that there is: a place since some time is never ahead of the head.
        None => resume::from_start(None, &head, &*log).await,
    };
    match again {
        Ok(again) if again.given.is_none() => Ok(Verdict { waits, ..again }),
        // The place is there, or the log does not answer at present.
        Ok(_) | Err(_) => Ok(Verdict { waits, ..verdict }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::conformance::record;
    use crate::log::memory::{self, MemoryLog};
    use anabranch_protocol::cursor::{Offset, Position};
    use futures_util::StreamExt;

    /// A log with one record, and a cursor that says that there were two.
    async fn ahead() -> (Arc<MemoryLog>, Cursor, Cursor) {
        let log = MemoryLog::new(memory::Options::default());
        let mut head = Cursor::beginning(log.id());
        head.set(log.append(record(1)).await.expect("appended"));
        let mut cursor = head.clone();
        cursor.set(Position { partition: 0, offset: Offset(2), fingerprint: None });
        (log, head, cursor)
    }

    /// Time is the test's: it goes on once nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn who_is_ahead_is_told_so_after_a_little_time_and_few_reads() {
        let (log, head, cursor) = ahead().await;
        let (began, before) = (Instant::now(), log.lies().fetches());
        let verdict = ask(cursor, head, log.clone()).await.expect("an answer");
        assert_eq!(verdict.outcome, Outcome::Reset(Code::CURSOR_AHEAD));
        assert_eq!(began.elapsed(), PATIENCE);
        let reads = log.lies().fetches() - before;
        assert!(reads <= 8, "{reads} reads");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_before_the_log_has_come_there_is_resumed() {
        let (log, head, cursor) = ahead().await;
        let asked = tokio::spawn(ask(cursor, head, log.clone()));
        sleep(PATIENCE / 2).await;
        log.append(record(2)).await.expect("appended");
        let verdict = asked.await.expect("no panic").expect("an answer");
        assert_eq!(verdict.outcome, Outcome::Resumed);
    }

    /// Four at a time, as a connection asks.
    #[tokio::test(start_paused = true)]
    async fn many_who_are_ahead_do_not_wait_for_each_other() {
        let (log, head, cursor) = ahead().await;
        let began = Instant::now();
        let asked: Vec<_> = (0..64).map(|_| ask(cursor.clone(), head.clone(), log.clone())).collect();
        let answers: Vec<_> = futures_util::stream::iter(asked).buffered(4).collect().await;
        assert_eq!(answers.len(), 64);
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
