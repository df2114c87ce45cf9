//! Where a subscription begins: after which place its events, and after which its state.
//!
//! State is read from the newest values, so what the log has forgotten is a gap for events alone. A client's state begins
//! where the client stands, at the place where its snapshot was interrupted, or, for a whole snapshot, at the beginning.

use super::resume::Verdict;
use super::subscriptions::{Earlier, Wish};
use crate::hub::classes::Holds;
use crate::hub::newest::Values;
use anabranch_protocol::client_frame::SnapshotMode;
use anabranch_protocol::cursor::{Cursor, Offset};
use anabranch_protocol::server_frame::{Outcome, Snapshot};

/// How the delivery of one subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// After this place, everything.
    pub after: Cursor,
    /// After this earlier place, newest values.
    pub state: Option<Earlier>,
    pub outcome: Outcome,
    /// What the client is told of it.
    pub snapshot: Option<Snapshot>,
}

impl Start {
    /// Decides, by the verdict on the client's cursor, what it wished, what its filter's topics may be, and what is known: the values
    /// as of `head`.
    pub fn new(verdict: &Verdict, wish: &Wish, holds: Holds, values: &Values, head: &Cursor) -> Start {
        let Verdict { cursor, outcome, given, .. } = verdict.clone();
        if !holds.state {
            return Start { after: cursor, state: None, outcome, snapshot: None };
        }
        let (after, outcome) = match (outcome, &given) {
            (Outcome::Gap(_), Some(given)) if !holds.events => (given.clone(), Outcome::Resumed),
            (outcome, _) => (cursor, outcome),
        };
        let begin = match &given {
            None => None,
            Some(_) if wish.snapshot == SnapshotMode::Always && wish.state.is_none() => None,
            Some(given) => Some(interrupted(wish, given).unwrap_or(given)),
        };
        // Where deletions are forgotten that the client has not heard of, it is told everything that there is.
        let begin =
            begin.filter(|begin| wish.snapshot == SnapshotMode::None || knows_deletions_since(values, begin));
        let told = wish.snapshot != SnapshotMode::None;
        match begin {
            Some(begin) => {
                let early = *begin != after;
                let snapshot = (told || early).then(|| Snapshot { whole: false, state: begin.clone() });
                Start { state: early.then(|| begin.clone().into()), after, outcome, snapshot }
            }
            None if told => {
                let beginning = Cursor::beginning(after.log());
                let snapshot = Some(Snapshot { whole: true, state: beginning.clone() });
                let state = Earlier { from: beginning, whole_as_of: Some(head.clone()) };
                Start { after, state: Some(state), outcome, snapshot }
            }
            None => Start { after, state: None, outcome, snapshot: None },
        }
    }

    /// Where the connection must read from.
    pub fn place(&self) -> Cursor {
        let mut place = self.after.clone();
        if let Some(state) = &self.state {
            place.retreat_to(&state.from);
        }
        place
    }
}

/// The place of an interrupted snapshot, if it is one that the client can have.
fn interrupted<'w>(wish: &'w Wish, given: &Cursor) -> Option<&'w Cursor> {
    wish.state.as_ref().filter(|state| state.log() == given.log() && given.includes_all(state))
}

fn knows_deletions_since(values: &Values, begin: &Cursor) -> bool {
    values.partitions().all(|partition| {
        let offset = begin.position(partition).map_or(Offset(0), |position| position.offset);
        values.deletions_unsure_to(partition) <= offset
    })
}
