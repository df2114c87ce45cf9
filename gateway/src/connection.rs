//! One client's conversation: a cursor and what is due, never a queue of messages.
//!
//! ```text
//!   frames in ──▶ session (pure) ──▶ actions ──▶ shard
//!                                                  │
//!   ring ──▶ due ranges (live)        ┐            ▼
//!   ring, log ──▶ one page (behind)   ┴──▶ output ──▶ socket
//! ```
//!
//! A connection is *live* while the shard hands it ranges of the ring, and *behind* while it reads by itself, at its own
//! pace: after a resume, when it is slow, when a subscription begins in the past. It changes to live when it stands at
//! the head. Both happen within one turn of its shard, so that no record falls between.

mod behind;
mod due;
pub mod look_ups;
mod output;
pub mod pace;
mod pacing;
mod page;
pub mod resume;
pub mod session;
pub mod start;
mod subscriptions;

pub use behind::{Behind, Known, Next};
pub use output::Wrote;
pub use pacing::{Offered, Paced};
pub use subscriptions::{Asked, Subscriptions, Wish};

use crate::hub::registry::{Admission, Seat};
use crate::hub::ring::{Ring, Sequence};
use crate::shard::lines::Places;
use crate::socket::Socket;
use crate::socket::header::{Opcode, write_close, write_frame};
use crate::socket::inbound::Inbound;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::server_frame::{Outcome, Refused, ServerFrame, Snapshot};
use due::Due;
use pace::Pace;
use session::{Millis, Session};
use std::task::Waker;

/// More bytes of its own frames than this, and a connection is not read from until some are written: a client that
/// publishes without reading the confirms stops itself.
const PRIVATE_BYTES: usize = 256 * 1024;

/// One client.
pub struct Connection {
    /// Tells this connection from an earlier one with the same number.
    pub serial: u64,
    pub socket: Socket,
    pub waker: Waker,
    pub inbound: Inbound,
    pub session: Session,
    delivery: Delivery,
    /// How it is conflated on purpose. Boxed, because hardly any connection is.
    pace: Option<Box<Pace>>,
    /// Bytes for this client alone: replies, and the rest of a shared frame that was cut. They leave first.
    private: Vec<u8>,
    /// How much of `private` has been written.
    private_sent: usize,
    /// Message frames handed to the socket.
    delivered: u64,
    /// In which of the shard's lines of connections to write to it stands.
    pub places: Places,
    /// Whether the socket is full; it wakes the shard when it is not.
    pub full: bool,
    /// Whether a full socket woke the shard, and nothing has been written since.
    pub drained: bool,
    /// Whether it was not read from, because it is [choked](Connection::is_choked).
    pub deaf: bool,
    /// The close that was said, and when the connection ends if it cannot be written.
    pub closing: Option<Millis>,
    /// When the shard's timer will look at it next.
    pub scheduled: Millis,
    /// What is asked of the log for its subscriptions.
    pub look_ups: look_ups::LookUps,
    /// When a read of the log that failed is tried again.
    pub retry_at: Option<Millis>,
    /// Its places in the counts by address and by subject; given back when it is dropped.
    pub seat: Seat,
    pub admission: Option<Admission>,
}

enum Delivery {
    Live(Due),
    Behind(Box<Behind>),
    /// At the head, of one that is conflated on purpose: what comes next decides when it reads on.
    Resting,
}

impl Connection {
    pub fn new(serial: u64, socket: Socket, waker: Waker, session: Session, seat: Seat) -> Connection {
        Connection {
            serial,
            socket,
            waker,
            inbound: Inbound::default(),
            session,
            delivery: Delivery::Live(Due::default()),
            pace: None,
            private: Vec::new(),
            private_sent: 0,
            delivered: 0,
            places: Places::default(),
            full: false,
            drained: false,
            deaf: false,
            closing: None,
            scheduled: Millis::MAX,
            look_ups: look_ups::LookUps::default(),
            retry_at: None,
            seat,
            admission: None,
        }
    }

    /// Where the client stands, once it has read what was written: everything up to here was sent, or was not wanted.
    pub fn cursor(&self, ring: &Ring) -> Cursor {
        match &self.delivery {
            Delivery::Live(due) => match due.first() {
                Some(first) => ring.cursor_before(first),
                None => ring.head().clone(),
            },
            Delivery::Behind(behind) => behind.cursor(ring),
            Delivery::Resting => ring.head().clone(),
        }
    }

    /// Message frames handed to the socket so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Frames `from..to` of the ring are for this client. Says whether there is something new to write.
    pub fn offer(&mut self, from: Sequence, to: Sequence, ring: &Ring) -> Offered {
        // Nothing follows a close frame.
        if self.closing.is_some() {
            return Offered::Nothing;
        }
        // The usual case first: this runs for each delivery.
        if let Delivery::Live(due) = &mut self.delivery {
            if !due.extend(from, to) {
                self.fall_behind(ring, false);
            }
            return Offered::Due;
        }
        if self.pace.is_some() { Offered::Paced } else { Offered::Nothing }
    }

    /// The first sequence of the ring that it still needs.
    pub fn needs(&self) -> Option<Sequence> {
        match &self.delivery {
            Delivery::Live(due) => due.first(),
            Delivery::Behind(behind) => behind.needs(),
            Delivery::Resting => None,
        }
    }

    /// Reads by itself from where it stands.
    pub fn fall_behind(&mut self, ring: &Ring, announce: bool) {
        self.read_from(Behind::new(self.cursor(ring), announce));
    }

    fn read_from(&mut self, behind: Behind) {
        self.let_go();
        let behind = match &self.delivery {
            Delivery::Behind(before) => behind.instead_of(before),
            Delivery::Live(_) | Delivery::Resting => behind,
        };
        self.delivery = Delivery::Behind(Box::new(behind));
    }

    /// Goes back to a cursor that another subscription begins at, if that is before where it stands.
    ///
    /// To be called before that subscription is started: the others remember what they have.
    pub fn go_back_to(&mut self, cursor: &Cursor, ring: &Ring) {
        let mut target = self.cursor(ring);
        self.session.subscriptions_mut().note_delivered(&target);
        target.retreat_to(cursor);
        self.read_from(Behind::new(target, true));
    }

    /// Another history begins, which agrees up to `head` with the one in which the connection stood at `place`. It reads on by
    /// itself: what still stands and it has not had, it gets. Tells each subscription.
    pub fn enter(&mut self, head: &Cursor, mut place: Cursor, code: Code) {
        if self.closing.is_some() {
            return;
        }
        for (subscription, cursor, values) in self.session.subscriptions_mut().enter(head, &mut place) {
            let snapshot = values.map(|state| Snapshot { whole: true, state });
            let outcome = Outcome::Reset(code);
            self.say(&ServerFrame::Subscribed { subscription, cursor, outcome, snapshot });
        }
        self.let_go();
        self.delivery = Delivery::Behind(Box::new(Behind::new(place, true)));
    }

    /// What a connection behind does next; `None` if it is live. Joins the live ones when it stands at the head.
    pub fn catch_up(&mut self, known: Known<'_>, now: Millis) -> Option<Next> {
        let Delivery::Behind(behind) = &mut self.delivery else { return None };
        if self.pace.as_mut().is_some_and(|pace| pace.holds(now)) {
            return Some(Next::Wait);
        }
        match behind.next(known, self.session.subscriptions()) {
            Next::Join => {
                let announce = behind.announce;
                self.delivery = match self.pace {
                    Some(_) => Delivery::Resting,
                    None => Delivery::Live(Due::default()),
                };
                self.session.subscriptions_mut().all_joined();
                if announce {
                    self.say(&ServerFrame::CaughtUp { cursor: known.ring.head().clone() });
                }
                None
            }
            Next::Tell(gap) => {
                let place = behind.cursor(known.ring);
                self.session.subscriptions_mut().pass(&place, behind::end_of(&gap));
                self.say(&ServerFrame::Gap { gap, values: true });
                Some(Next::Write)
            }
            Next::Admit => {
                self.say(&ServerFrame::Incomplete);
                Some(Next::Write)
            }
            next => Some(next),
        }
    }

    /// The reading place, while it is behind.
    pub fn behind(&mut self) -> Option<(&mut Behind, &Subscriptions)> {
        match &mut self.delivery {
            Delivery::Behind(behind) => Some((behind, self.session.subscriptions())),
            Delivery::Live(_) | Delivery::Resting => None,
        }
    }

    /// Whether it is at the head with nothing due.
    pub fn is_current(&self) -> bool {
        match &self.delivery {
            Delivery::Live(due) => due.is_empty(),
            Delivery::Resting => true,
            Delivery::Behind(_) => false,
        }
    }

    /// Queues a frame for this client alone.
    pub fn say(&mut self, frame: &ServerFrame<'_>) {
        write_frame(&mut self.private, Opcode::Text, frame.to_json().as_bytes());
    }

    /// Queues a frame that is the same for everyone and may be missed: by who cannot take it now. Says whether it was queued.
    pub fn pass(&mut self, frame: &[u8]) -> bool {
        let room = self.private.len() - self.private_sent + frame.len() <= PRIVATE_BYTES;
        let takes = room && !self.full && self.closing.is_none();
        if takes {
            self.private.extend_from_slice(frame);
        }
        takes
    }

    /// Queues a refusal of the whole connection, to be followed by its close.
    pub fn refuse(&mut self, code: Code, message: &'static str) {
        let message = message.into();
        let (retry_after_ms, subscription, message_id) = (None, None, None);
        self.say(&ServerFrame::Refused(Refused { code, message, retry_after_ms, subscription, message_id }));
    }

    /// Queues a pong.
    pub fn pong(&mut self, payload: &[u8]) {
        write_frame(&mut self.private, Opcode::Pong, payload);
    }

    /// Queues a close frame, drops everything else that was due, and ends the connection at `deadline` at the latest.
    pub fn close(&mut self, code: Code, deadline: Millis) {
        if self.closing.is_none() {
            self.delivery = Delivery::Live(Due::default());
            write_close(&mut self.private, code.0, code.name());
            self.closing = Some(deadline);
        }
    }

    /// Whether bytes of its own wait to be written.
    pub fn has_something_to_say(&self) -> bool {
        self.private_sent < self.private.len()
    }

    /// Whether it has so much to say that it does not listen.
    pub fn is_choked(&self) -> bool {
        self.private.len() - self.private_sent > PRIVATE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every connection of every shard pays for each field here; `loadtest idle` measures the whole.
    #[test]
    fn a_connection_is_a_sixth_of_its_budget() {
        assert!(size_of::<Connection>() <= 2048 / 6, "{} bytes", size_of::<Connection>());
    }
}
