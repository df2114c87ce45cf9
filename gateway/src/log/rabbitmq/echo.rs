//! Where an append ended up: a confirm of AMQP carries no offset, but the record itself comes back.
//!
//! ```text
//!   append ──▶ publish (writer, sequence) ──▶ broker ──▶ confirm ──┐
//!                                               │                   ├──▶ the append's position
//!                            a tail, a read ◀──┴──▶ echo ──────────┘
//! ```
//!
//! Anybody who may read the exchange sees these headers, and anybody who may write to it can set them. So an echo counts only
//! with the routing key and the body of the append: at worst it is a copy, which stands in the log as well.

use super::mark::Mark;
use crate::log::AppendError;
use anabranch_protocol::cursor::{Offset, Position};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What an append is told.
pub(super) type Verdict = Result<Position, AppendError>;

/// After so long nobody waits for an append any more.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Most appends of which the outcome is open, and most bytes of them.
pub(super) const APPENDS: usize = 20_000;
const BYTES: usize = 64 << 20;

/// Appends whose outcome is open.
#[derive(Debug)]
pub(super) struct EchoBoard {
    /// Told apart from every other writer's echoes by this.
    writer: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, Open>,
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    verdict: oneshot::Sender<Verdict>,
    key: String,
    body: Bytes,
    since: Instant,
    /// The record lies behind these offsets, one for each partition. Empty until it is published.
    floors: Box<[Option<Offset>]>,
    confirmed: Option<Instant>,
    position: Option<Position>,
}

/// An append that was confirmed and has not been seen.
#[derive(Clone, Debug)]
pub(super) struct Unseen {
    pub(super) confirmed: Instant,
    pub(super) floors: Box<[Option<Offset>]>,
}

impl EchoBoard {
    pub(super) fn new(writer: u64) -> EchoBoard {
        EchoBoard { writer, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an append. `None`: too many are open.
    pub(super) fn open(&self, key: &str, body: &Bytes) -> Option<(Mark, oneshot::Receiver<Verdict>)> {
        let mut state = self.lock();
        if state.open.len() >= APPENDS || state.bytes + body.len() > BYTES {
            return None;
        }
        let sequence = state.next;
        state.next += 1;
        state.bytes += body.len();
        let (verdict, waiting) = oneshot::channel();
        let open = Open {
            verdict,
            key: key.to_owned(),
            body: body.clone(),
            since: Instant::now(),
            floors: Box::default(),
            confirmed: None,
            position: None,
        };
        state.open.insert(sequence, open);
        Some((Mark { writer: self.writer, sequence }, waiting))
    }

    /// It is about to be published.
    pub(super) fn publishing(&self, sequence: u64, floors: Box<[Option<Offset>]>) {
        if let Some(open) = self.lock().open.get_mut(&sequence) {
            open.floors = floors;
        }
    }

    /// The broker has stored it.
    pub(super) fn confirmed(&self, sequence: u64) {
        let mut state = self.lock();
        let Some(open) = state.open.get_mut(&sequence) else { return };
        match open.position {
            Some(position) => state.close(sequence, Ok(position)),
            None => open.confirmed = Some(Instant::now()),
        }
    }

    /// A record was seen in the log.
    pub(super) fn seen(&self, mark: Mark, key: &str, body: &Bytes, position: Position) {
        if mark.writer != self.writer {
            return;
        }
        let mut state = self.lock();
        let Some(open) = state.open.get_mut(&mark.sequence) else { return };
        if (open.key.as_str(), &open.body) != (key, body) {
            return;
        }
        match open.confirmed {
            Some(_) => state.close(mark.sequence, Ok(position)),
            None => open.position = Some(position),
        }
    }

    pub(super) fn failed(&self, sequence: u64, why: AppendError) {
        self.lock().close(sequence, Err(why));
    }

    /// Ends every append that the broker has not confirmed.
    pub(super) fn fail_unconfirmed(&self, sequences: impl IntoIterator<Item = u64>, why: &AppendError) {
        let mut state = self.lock();
        for sequence in sequences {
            if state.open.get(&sequence).is_some_and(|open| open.confirmed.is_none()) {
                state.close(sequence, Err(why.clone()));
            }
        }
    }

    /// The oldest append that was confirmed and not seen. Forgets those for which nobody waits any more.
    pub(super) fn oldest_unseen(&self) -> Option<Unseen> {
        let mut state = self.lock();
        let stale: Vec<u64> = state
            .open
            .iter()
            .filter(|(_, open)| {
                open.since.elapsed() > FORGOTTEN || (open.confirmed.is_some() && open.verdict.is_closed())
            })
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in stale {
            state.close(sequence, Err(AppendError::Unknown("it was not seen in the log".into())));
        }
        state.open.values().find_map(|open| {
            let confirmed = open.confirmed?;
            Some(Unseen { confirmed, floors: open.floors.clone() })
        })
    }

    /// Whether no append is open.
    pub(super) fn is_idle(&self) -> bool {
        self.lock().open.is_empty()
    }
}

impl State {
    fn close(&mut self, sequence: u64, verdict: Verdict) {
        let Some(open) = self.open.remove(&sequence) else { return };
        self.bytes -= open.body.len();
        // Whoever stopped waiting does not want to know; the record is stored all the same.
        drop(open.verdict.send(verdict));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: Bytes = Bytes::from_static(b"0123456789");
    const AT: Position = Position { partition: 0, offset: Offset(7), fingerprint: None };

    #[test]
    fn confirm_and_echo_are_both_needed_in_either_order() {
        let board = EchoBoard::new(1);
        let (mark, mut waiting) = board.open("a", &BODY).unwrap();
        board.seen(mark, "a", &BODY, AT);
        assert!(waiting.try_recv().is_err());
        board.confirmed(mark.sequence);
        assert_eq!(waiting.try_recv().unwrap(), Ok(AT));
        let (mark, mut waiting) = board.open("a", &BODY).unwrap();
        board.confirmed(mark.sequence);
        assert!(waiting.try_recv().is_err());
        board.seen(Mark { writer: 2, ..mark }, "a", &BODY, AT);
        assert!(waiting.try_recv().is_err(), "another writer's record has the same number");
        board.seen(mark, "a", &BODY, AT);
        assert_eq!(waiting.try_recv().unwrap(), Ok(AT));
        assert!(board.is_idle());
    }

    #[test]
    fn what_is_confirmed_does_not_fail_with_the_connection() {
        let board = EchoBoard::new(1);
        let (one, mut first) = board.open("a", &BODY).unwrap();
        let (two, mut second) = board.open("a", &BODY).unwrap();
        board.confirmed(one.sequence);
        let why = AppendError::Unknown("lost".into());
        board.fail_unconfirmed([one.sequence, two.sequence], &why);
        assert_eq!(second.try_recv().unwrap(), Err(why));
        assert!(board.oldest_unseen().is_some());
        board.seen(one, "a", &BODY, AT);
        assert_eq!(first.try_recv().unwrap(), Ok(AT));
    }

    #[test]
    fn open_appends_are_bounded() {
        let board = EchoBoard::new(1);
        let all = Bytes::from(vec![0; BYTES]);
        let (mark, _waiting) = board.open("a", &all).unwrap();
        assert!(board.open("a", &BODY).is_none());
        board.failed(mark.sequence, AppendError::Closed);
        assert!(board.open("a", &BODY).is_some());
    }

    #[test]
    fn a_forged_echo_is_none() {
        let board = EchoBoard::new(1);
        let (mark, mut waiting) = board.open("a", &BODY).unwrap();
        board.confirmed(mark.sequence);
        board.seen(mark, "b", &BODY, AT);
        board.seen(mark, "a", &Bytes::from_static(b"another"), AT);
        assert!(waiting.try_recv().is_err());
        board.seen(mark, "a", &BODY, AT);
        assert_eq!(waiting.try_recv().unwrap(), Ok(AT));
    }
}
