//! Connections that are conflated on purpose: their frames come, and are written when their time has come.

use super::Shard;
use super::lines::Line;
use crate::connection::Paced;
use crate::connection::session::Millis;
use crate::hub::interest::ConnectionId;
use crate::hub::ring::Sequence;

impl Shard {
    /// A frame of this topic is for those who were put into `self.paced`. An event may not wait, nor what somebody on the same
    /// connection wants as it comes.
    pub(super) fn come_for_paced(&mut self, at: Sequence, topic: &str, now: Millis) {
        let is_state = self.node.rules.classes.class_of(topic).is_state();
        let mut paced = std::mem::take(&mut self.paced);
        for id in paced.drain(..) {
            let wanted = self.connections[id as usize].session.subscriptions();
            let urgent = !is_state || wanted.are_eager(topic);
            self.come(id, at, urgent, now);
        }
        self.paced = paced;
    }

    pub(super) fn come(&mut self, id: ConnectionId, at: Sequence, urgent: bool, now: Millis) {
        let connection = &mut self.connections[id as usize];
        match connection.come(at, urgent, now, &self.ring) {
            Paced::Nothing => {}
            Paced::Now => self.stand(Line::Long, id),
            Paced::At(at) => self.timers.schedule(id, connection, at),
        }
    }

    /// What a connection asks for has changed.
    pub(super) fn set_pace(&mut self, id: ConnectionId) {
        let connection = &mut self.connections[id as usize];
        if let Some(until) = connection.set_pace(&self.ring) {
            self.timers.schedule(id, connection, until);
        }
        self.stand(Line::Long, id);
    }

    /// Lets a connection go on whose time has come.
    pub(super) fn let_go_if_due(&mut self, id: ConnectionId, now: Millis) {
        let connection = &mut self.connections[id as usize];
        if connection.held_until().is_some_and(|until| until <= now) {
            connection.let_go();
            self.stand(Line::Long, id);
        }
    }
}
