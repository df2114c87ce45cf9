//! What one client of a herd did, and when.

use crate::ledger::Witness;
use anabranch::Phase;
use anabranch_protocol::code::Code;

/// Milliseconds on the herd's clock, which is the core's.
pub type Moment = u64;

/// One client's diary.
#[derive(Debug)]
pub struct Diary {
    pub notes: Vec<Note>,
    pub phase: Phase,
    pub witness: Witness,
}

/// One thing that happened, or that the core decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The gateway gave it a slot: not before `after` from now. The core means to come at `until`.
    Slot { at: Moment, after: u64, until: Moment },
    /// An HTTP answer asked it to stay away for so long.
    Advice { at: Moment, after: u64 },
    /// The core decided to wait for `ms`, after so many attempts since it was last healthy.
    Wait { at: Moment, ms: u64, attempts: u32 },
    /// The core asked for a connection.
    Dial { at: Moment },
    /// The gateway has opened the socket.
    Open { at: Moment },
    /// Everything that was missed is here.
    Live { at: Moment },
    /// The gateway refused the connection or the subscription.
    Refused(Code),
}

impl Note {
    fn at(&self) -> Option<Moment> {
        match self {
            Note::Slot { at, .. }
            | Note::Advice { at, .. }
            | Note::Wait { at, .. }
            | Note::Dial { at }
            | Note::Open { at }
            | Note::Live { at } => Some(*at),
            Note::Refused(_) => None,
        }
    }
}

impl Diary {
    /// What was noted since that moment.
    pub fn since(&self, moment: Moment) -> impl Iterator<Item = Note> + '_ {
        self.notes.iter().copied().filter(move |note| note.at().is_none_or(|at| at >= moment))
    }

    /// The slot that it was given since that moment: when, how long, and when the core means to come.
    pub fn slot_since(&self, moment: Moment) -> Option<(Moment, u64, Moment)> {
        self.since(moment).find_map(|note| match note {
            Note::Slot { at, after, until } => Some((at, after, until)),
            _ => None,
        })
    }

    /// When the core asked for connections since that moment.
    pub fn dials_since(&self, moment: Moment) -> impl Iterator<Item = Moment> + '_ {
        self.since(moment).filter_map(|note| match note {
            Note::Dial { at } => Some(at),
            _ => None,
        })
    }

    /// Waits since that moment that the core drew by itself, with the attempts before them: no slot and no advice lay ahead.
    pub fn draws_since(&self, moment: Moment) -> Vec<(u64, u32)> {
        let mut told: Moment = 0;
        let mut draws = Vec::new();
        for note in self.since(moment) {
            match note {
                Note::Slot { until, .. } => told = told.max(until),
                // The core adds up to a fifth, and one for what its clock rounds off.
                Note::Advice { at, after } => told = told.max(at + after + 1 + after / 5),
                Note::Wait { at, ms, attempts } if at >= told => draws.push((ms, attempts)),
                _ => {}
            }
        }
        draws
    }

    /// Whether it has gone, come again and caught up since that moment.
    pub fn is_back(&self, moment: Moment) -> bool {
        let mut notes = self.since(moment);
        notes.any(|note| matches!(note, Note::Dial { .. }))
            && notes.any(|note| matches!(note, Note::Live { .. }))
    }

    /// Attempts that came before they were allowed to: by so many milliseconds each. A slot and a `Retry-After` allow nothing earlier, whatever else
    /// happens; a wait allows nothing earlier than the core itself decided.
    pub fn early(&self) -> Vec<u64> {
        let mut allowed: Moment = 0;
        let mut early = Vec::new();
        for note in &self.notes {
            match *note {
                Note::Slot { at, after, .. } | Note::Advice { at, after } => {
                    allowed = allowed.max(at + after)
                }
                Note::Wait { at, ms, .. } => allowed = allowed.max(at + ms),
                Note::Dial { at } if at < allowed => early.push(allowed - at),
                _ => {}
            }
        }
        early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_early_is_found_out() {
        let mut diary = Diary { notes: Vec::new(), phase: Phase::Idle, witness: Witness::new("#") };
        let slot = Note::Slot { at: 100, after: 50, until: 155 };
        diary.notes = vec![slot, Note::Dial { at: 150 }, Note::Wait { at: 160, ms: 70, attempts: 1 }];
        assert!(diary.early().is_empty());
        diary.notes.push(Note::Dial { at: 229 });
        assert_eq!(diary.early(), [1], "before the wait is over");
        // A wait that is shorter than the slot gives no leave to come before the slot.
        diary.notes = vec![slot, Note::Wait { at: 101, ms: 1, attempts: 1 }, Note::Dial { at: 149 }];
        assert_eq!(diary.early(), [1]);
        assert_eq!(diary.dials_since(149).collect::<Vec<_>>(), [149]);
        assert_eq!(diary.dials_since(150).count(), 0);
    }
}
