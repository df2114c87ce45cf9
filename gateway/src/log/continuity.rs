//! Whether what a broker delivers continues what was seen before. Pure: no clock, no I/O.
//!
//! Brokers jump over what they have forgotten, and continue on another history, without a word. Offsets have legal
//! holes, so arithmetic alone proves nothing. The rules:
//!
//! ```text
//!   last seen   first delivery of a (re)start, which is asked for *inclusive* of the last seen
//!   7:aa        7:aa                     it is the same history; go on after 7
//!   7:aa        7:bb                     Reset(Diverged)
//!   7:aa        9, earliest ≤ 7          Reset(Diverged): 7 should be there
//!   7:aa        9, earliest = 9          Gap 7..9: 7 was forgotten, and perhaps 8
//!   7:aa        none, latest = 3         Reset(Ahead)
//!
//!   covered     while tailing
//!   7           8                        a record
//!   7           12, earliest ≤ 8         a record; 8 to 11 never existed
//!   7           12, earliest > 8         Gap 7..12
//!   7           5:ee, seen as 5:ee       a duplicate, dropped
//!   7           5:ee, seen as 5:dd       Reset(Diverged)
//!   7           2, not remembered        restart, inclusive of 7, and see
//!
//!   covered 9, of which 8 and 9 were no records
//!   7:aa        7:aa, nothing at 8 and 9 they come again after a restart, and are dropped
//!   7:aa        7:aa, 8:cc               Reset(Diverged)
//! ```
//!
//! `earliest` is asked *after* the delivery arrived: records are only ever forgotten from the front, so an answer at or
//! below the expected offset proves the hole, and any other errs on the side of a gap.

use super::source::Delivery;
use super::{Batch, Gap, GapReason, Record, ResetReason, TailEvent};
use anabranch_protocol::cursor::{Fingerprint, Offset, Partition, Position};
use std::collections::VecDeque;

/// How many of the newest records are remembered to tell a duplicate from another history.
const REMEMBERED: usize = 64;

/// Follows one partition.
#[derive(Clone, Debug)]
pub struct Continuity {
    partition: Partition,
    /// Everything up to here is accounted for; `None` before the first delivery of a tail from the earliest record.
    covered: Option<Offset>,
    /// The newest record seen: what a restart must find again.
    anchor: Option<(Offset, Fingerprint)>,
    /// Whether the present consumption has still to deliver the anchor.
    anchoring: bool,
    /// Whether the anchor, or a record between it and `covered`, kills whoever reads it: a restart begins behind `covered`.
    stepped_over: bool,
    remembered: VecDeque<(Offset, Fingerprint)>,
}

/// Where to start a consumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Inclusive.
    pub from: Offset,
    /// Fetch the record here first and hand it to [`Continuity::confirm`]: the consumption cannot deliver it.
    pub check: Option<Offset>,
}

/// What follows from some deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// To be passed on, in order.
    pub events: Vec<TailEvent>,
    pub then: Then,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Wait for more.
    Continue,
    /// Ask for the earliest offset, and judge what is left of the deliveries again with the answer.
    Probe,
    /// Drop this consumption and begin anew.
    Restart,
    /// Another history. This continuity is void.
    Reset(ResetReason),
}

impl Continuity {
    /// Before the earliest record.
    pub fn from_earliest(partition: Partition) -> Continuity {
        Continuity {
            partition,
            covered: None,
            anchor: None,
            anchoring: false,
            stepped_over: false,
            remembered: VecDeque::new(),
        }
    }

    /// After a position, which is verified if it has a fingerprint.
    pub fn after(position: Position) -> Continuity {
        let anchor = position.fingerprint.map(|fingerprint| (position.offset, fingerprint));
        Continuity {
            covered: Some(position.offset),
            anchor,
            remembered: anchor.into_iter().collect(),
            ..Continuity::from_earliest(position.partition)
        }
    }

    /// Up to where everything is accounted for.
    pub fn covered(&self) -> Option<Offset> {
        self.covered
    }

    /// Where the next consumption starts. Call it for each one.
    pub fn begin(&mut self) -> Begin {
        self.anchoring = false;
        match (self.anchor, self.covered) {
            (Some((offset, _)), Some(covered)) if self.stepped_over => {
                Begin { from: Offset(covered.0.saturating_add(1)), check: Some(offset) }
            }
            (Some((offset, _)), _) => {
                self.anchoring = true;
                Begin { from: offset, check: None }
            }
            (None, Some(covered)) => Begin { from: Offset(covered.0.saturating_add(1)), check: None },
            (None, None) => Begin { from: Offset(0), check: None },
        }
    }

    /// Whether the record at [`Begin::check`] is the one that was seen. Absence (`None`) proves nothing if
    /// `earliest` is beyond it.
    pub fn confirm(&self, found: Option<Position>, earliest: Offset) -> Result<(), ResetReason> {
        match (self.anchor, found) {
            (Some((offset, fingerprint)), Some(found))
                if found.offset == offset && found.fingerprint == Some(fingerprint) =>
            {
                Ok(())
            }
            (Some((offset, _)), _) if earliest <= offset => Err(ResetReason::Diverged),
            _ => Ok(()),
        }
    }

    /// Judges deliveries. Takes them from the front of `deliveries` as far as they could be judged; `earliest` is an
    /// answer that was asked for after all of them had arrived, if there is one.
    pub fn judge(&mut self, deliveries: &mut VecDeque<Delivery>, earliest: Option<Offset>) -> Judgement {
        let mut out = Judged::default();
        let then = loop {
            let Some(delivery) = deliveries.front() else { break Then::Continue };
            match self.verdict(delivery, earliest) {
                Verdict::Skip => drop(deliveries.pop_front()),
                Verdict::Accept { gap } => {
                    if let Some(gap) = gap {
                        out.gap(gap);
                    }
                    let Some(delivery) = deliveries.pop_front() else { break Then::Continue };
                    self.accept(&delivery);
                    match delivery {
                        Delivery::Record(record) => out.record(record),
                        Delivery::Blank(offset) => out.blank(offset),
                    }
                }
                Verdict::Stop(then) => break then,
            }
        };
        Judgement { events: out.finish(), then }
    }

    fn verdict(&mut self, delivery: &Delivery, earliest: Option<Offset>) -> Verdict {
        let offset = delivery.offset();
        let fingerprint = match delivery {
            Delivery::Record(record) => record.position.fingerprint,
            Delivery::Blank(_) => None,
        };
        if let (true, Some((anchor, expected))) = (self.anchoring, self.anchor) {
            if offset < anchor {
                return Verdict::Skip; // The broker began at the chunk before.
            }
            if offset == anchor {
                if fingerprint != Some(expected) {
                    return Verdict::Stop(Then::Reset(ResetReason::Diverged));
                }
                self.anchoring = false;
                return Verdict::Skip;
            }
            match earliest {
                None => return Verdict::Stop(Then::Probe),
                Some(earliest) if earliest <= anchor => {
                    return Verdict::Stop(Then::Reset(ResetReason::Diverged));
                }
                Some(_) => self.anchoring = false,
            }
        }
        let Some(covered) = self.covered else { return Verdict::Accept { gap: None } };
        if offset <= covered {
            return match self.remembered.iter().find(|(known, _)| *known == offset) {
                Some((_, known)) if fingerprint == Some(*known) => Verdict::Skip,
                Some(_) => Verdict::Stop(Then::Reset(ResetReason::Diverged)),
                // A restart begins at the anchor, so what was no record behind it comes again. Nothing else was there.
                None if self.anchor.is_some_and(|(anchor, _)| anchor < offset) => match delivery {
                    Delivery::Blank(_) => Verdict::Skip,
                    Delivery::Record(_) => Verdict::Stop(Then::Reset(ResetReason::Diverged)),
                },
                None => Verdict::Stop(Then::Restart),
            };
        }
        let expected = covered.0 + 1;
        if offset.0 == expected {
            return Verdict::Accept { gap: None };
        }
        match earliest {
            None => Verdict::Stop(Then::Probe),
            Some(earliest) if earliest.0 <= expected => Verdict::Accept { gap: None },
            Some(_) => Verdict::Accept {
                gap: Some(Gap { after: covered, before: offset, why: GapReason::Forgotten }),
            },
        }
    }

    fn accept(&mut self, delivery: &Delivery) {
        let offset = delivery.offset();
        self.covered = Some(offset);
        if let Delivery::Record(Record {
            position: Position { fingerprint: Some(fingerprint), .. }, ..
        }) = delivery
        {
            self.anchor = Some((offset, *fingerprint));
            self.stepped_over = false;
            if self.remembered.len() == REMEMBERED {
                self.remembered.pop_front();
            }
            self.remembered.push_back((offset, *fingerprint));
        }
    }

    /// Nothing has arrived for a while. `earliest` and `latest` were asked for in this order.
    ///
    /// [`Then::Restart`] means: records are there and were not delivered. They may be on their way, so wait a while
    /// before believing it.
    pub fn quiet(&self, earliest: Offset, latest: Option<Position>) -> Then {
        let Some(covered) = self.covered else {
            return if latest.is_some() { Then::Restart } else { Then::Continue };
        };
        match (latest, self.anchor) {
            // Everything was forgotten, or nothing was ever there.
            (None, _) if earliest > covered => Then::Continue,
            (None, _) => Then::Reset(ResetReason::Recreated),
            (Some(latest), Some((anchor, fingerprint))) => {
                if latest.offset < anchor {
                    Then::Reset(ResetReason::Ahead)
                } else if latest.offset == anchor && latest.fingerprint.is_some_and(|f| f != fingerprint) {
                    Then::Reset(ResetReason::Diverged)
                } else if latest.offset > covered || self.anchoring {
                    Then::Restart
                } else {
                    Then::Continue
                }
            }
            (Some(latest), None) if latest.offset > covered => Then::Restart,
            // No record is known to lie at `covered`: only an earliest beyond it explains a shorter log.
            (Some(latest), None) if latest.offset < covered && earliest <= latest.offset => {
                Then::Reset(ResetReason::Ahead)
            }
            (Some(_), None) => Then::Continue,
        }
    }

    /// Nothing is there, and what comes next will stand at `earliest` or behind it: what lies before and did not come is forgotten.
    pub fn forget(&mut self, earliest: Offset) -> Option<TailEvent> {
        let last = Offset(earliest.0.saturating_sub(1));
        let covered = self.covered;
        if covered.unwrap_or_default() >= last {
            return None;
        }
        self.covered = Some(last);
        Some(match covered {
            Some(after) => TailEvent::Gap(Gap { after, before: earliest, why: GapReason::Forgotten }),
            // Of one that began with the oldest there is, nothing is missed.
            None => TailEvent::Progress(last),
        })
    }

    /// Gives up the record after `covered`, which kills every consumer that reaches it.
    pub fn step_over(&mut self) -> Gap {
        let after = self.covered.unwrap_or(Offset(0));
        self.covered = Some(Offset(after.0 + 1));
        self.stepped_over = true;
        Gap { after, before: Offset(after.0 + 2), why: GapReason::Poisoned }
    }

    /// The anchor kills whoever reads it again: a restart begins behind it. Says whether that is news.
    pub fn leave_anchor(&mut self) -> bool {
        !std::mem::replace(&mut self.stepped_over, true)
    }

    /// The record that a restart must find again.
    pub fn anchor(&self) -> Option<Position> {
        let (offset, fingerprint) = self.anchor?;
        Some(Position { partition: self.partition, offset, fingerprint: Some(fingerprint) })
    }
}

enum Verdict {
    Skip,
    Accept { gap: Option<Gap> },
    Stop(Then),
}

/// Gathers accepted deliveries into as few events as their order allows.
#[derive(Default)]
struct Judged {
    events: Vec<TailEvent>,
    batch: Batch,
}

impl Judged {
    fn record(&mut self, record: Record) {
        self.batch.covered_to = record.position.offset;
        self.batch.records.push(record);
    }

    fn blank(&mut self, offset: Offset) {
        if self.batch.records.is_empty() {
            if let Some(TailEvent::Progress(covered)) = self.events.last_mut() {
                *covered = offset;
            } else {
                self.events.push(TailEvent::Progress(offset));
            }
        } else {
            self.batch.covered_to = offset;
        }
    }

    fn gap(&mut self, gap: Gap) {
        self.flush();
        self.events.push(TailEvent::Gap(gap));
    }

    fn flush(&mut self) {
        if !self.batch.records.is_empty() {
            self.events.push(TailEvent::Records(std::mem::take(&mut self.batch)));
        }
    }

    fn finish(mut self) -> Vec<TailEvent> {
        self.flush();
        self.events
    }
}

#[cfg(test)]
mod tests;
