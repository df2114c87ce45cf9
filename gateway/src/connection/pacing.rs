//! A connection that is conflated on purpose: when it rests, when it is held, and when it is let go.

use super::behind::Behind;
use super::due::Due;
use super::session::Millis;
use super::{Connection, Delivery};
use crate::hub::ring::{Ring, Sequence};

/// What becomes of frames that are for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It reads by itself, and comes to them.
    Nothing,
    /// There is something new to write.
    Due,
    /// It is conflated on purpose: [`Connection::come`] decides.
    Paced,
}

/// When one that is conflated on purpose is to be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paced {
    /// It reads on already.
    Nothing,
    Now,
    At(Millis),
}

impl Connection {
    /// A frame of the ring is for this client, which is conflated on purpose. `urgent`: it may not wait, unless nobody looks.
    pub fn come(&mut self, at: Sequence, urgent: bool, now: Millis, ring: &Ring) -> Paced {
        let Some(pace) = &mut self.pace else { return Paced::Nothing };
        match &self.delivery {
            Delivery::Resting => {
                let behind = Behind::new(ring.cursor_before(at), false);
                self.delivery = Delivery::Behind(Box::new(behind));
            }
            Delivery::Behind(_) if pace.until().is_some() => {}
            Delivery::Behind(_) | Delivery::Live(_) => return Paced::Nothing,
        }
        pace.arrive(urgent, now).map_or(Paced::Now, Paced::At)
    }

    /// What its client asks for has changed. Returns until when it is held.
    pub fn set_pace(&mut self, ring: &Ring) -> Option<Millis> {
        let asked = if self.closing.is_some() { None } else { self.session.pace() };
        match (self.pace.take(), asked) {
            (_, None) => {
                if let Delivery::Resting = self.delivery {
                    self.delivery = Delivery::Live(Due::default());
                }
            }
            (Some(before), Some(pace)) => self.pace = Some(Box::new(before.replaced_by(pace))),
            (None, Some(pace)) => {
                self.pace = Some(Box::new(pace));
                match &self.delivery {
                    Delivery::Live(due) if due.is_empty() => self.delivery = Delivery::Resting,
                    Delivery::Live(_) => self.fall_behind(ring, false),
                    Delivery::Behind(_) | Delivery::Resting => {}
                }
            }
        }
        self.held_until()
    }

    /// Whether it is conflated on purpose.
    pub fn is_paced(&self) -> bool {
        self.pace.is_some()
    }

    /// Until when it is held.
    pub fn held_until(&self) -> Option<Millis> {
        self.pace.as_ref().and_then(|pace| pace.until())
    }

    /// It is held no longer.
    pub fn let_go(&mut self) {
        if let Some(pace) = &mut self.pace {
            pace.let_go();
        }
    }
}
