//! What sockets send, and what the clock says.

use super::lines::Line;
use super::{CLOSE_MS, INTAKE, Shard, moment};
use crate::connection::session::{Millis, Refusal};
use crate::hub::interest::ConnectionId;
use crate::socket::inbound::Message;
use anabranch_protocol::code::Code;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// Bytes read from one connection in a turn, at most: what is a millisecond's work if they are small messages.
const TURN_BYTES: usize = 64 * 1024;

impl Shard {
    /// Looks at the sockets that have become readable or writable, for a while. Says whether those were all.
    pub(super) fn take_ready(&mut self, cx: &mut Context<'_>, now: Millis) -> bool {
        let began = Instant::now();
        // Twice at most: a socket that is always readable must not keep the turn from its end.
        for _ in 0..2 {
            while let Some(id) = self.woken.pop() {
                self.look_at(id, now);
                if began.elapsed() >= INTAKE {
                    return false;
                }
            }
            if self.ready.poll_take(cx, &mut self.woken).is_pending() {
                return true;
            }
            self.woken.sort_unstable();
            self.woken.dedup();
        }
        false
    }

    fn look_at(&mut self, id: ConnectionId, now: Millis) {
        let Some(connection) = self.connections.get_mut(id as usize) else { return };
        if std::mem::take(&mut connection.full) {
            connection.drained = true;
            self.stand(Line::Long, id);
        }
        self.read(id, now);
    }

    /// Reads what a socket has.
    pub(super) fn read(&mut self, id: ConnectionId, now: Millis) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let mut taken = 0;
        while let Some(connection) = self.connections.get_mut(id as usize) {
            let closing = connection.closing.is_some();
            if connection.is_choked() && !closing {
                connection.deaf = true;
                break;
            }
            if taken >= TURN_BYTES {
                // Its turn is over, the socket may have more.
                connection.waker.wake_by_ref();
                break;
            }
            let mut cx = Context::from_waker(&connection.waker);
            match connection.socket.poll_read(&mut cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => {
                    self.drop_connection(id);
                    break;
                }
                Poll::Ready(Ok(n)) => {
                    taken += n;
                    // What comes behind a close is read, so that the stream can end, and dropped.
                    if !closing && !self.take_in(id, &mut buffer[..n], now) {
                        break;
                    }
                }
            }
        }
        self.read_buffer = buffer;
    }

    /// Takes bytes in. Says whether the connection goes on.
    pub(super) fn take_in(&mut self, id: ConnectionId, bytes: &mut [u8], now: Millis) -> bool {
        let Some(connection) = self.connections.get_mut(id as usize) else { return false };
        let mut inbound = std::mem::take(&mut connection.inbound);
        let max = self.node.rules.limits.frame_bytes as usize;
        let mut closed = None;
        let fed = inbound.feed(bytes, max, |message| {
            let Some(connection) = self.connections.get_mut(id as usize) else { return false };
            match message {
                Message::Text(text) => {
                    let moment = moment(&self.ring, &self.node, now);
                    let node = &*self.node;
                    connection.session.frame(text, &moment, &node.rules, node, &mut self.actions);
                    self.perform(id, now);
                }
                Message::Binary(_) => {
                    let refusal =
                        Refusal::new(Code::BAD_FRAME, "frames are text messages, this one is binary");
                    connection.session.end(refusal, &mut self.actions);
                    self.perform(id, now);
                }
                Message::Ping(payload) => {
                    connection.session.heard(now);
                    connection.pong(payload);
                    self.touch(id);
                }
                Message::Pong => connection.session.heard(now),
                Message::Close(code) => closed = Some(Code(code.unwrap_or(1000))),
            }
            self.connections.get(id as usize).is_some_and(|c| c.closing.is_none())
        });
        let Some(connection) = self.connections.get_mut(id as usize) else { return false };
        connection.inbound = inbound;
        match (fed, closed) {
            (Err(violation), _) => {
                tracing::debug!(id, %violation, "not WebSocket");
                connection.refuse(violation.code(), violation.what);
                connection.close(Code(violation.close), now + CLOSE_MS);
            }
            // The closing handshake: the same code back.
            (Ok(()), Some(code)) => connection.close(code, now + CLOSE_MS),
            (Ok(()), None) if connection.closing.is_none() => {
                let at = connection.session.next_tick(&self.node.rules);
                self.timers.schedule(id, connection, at);
                return true;
            }
            _ => {}
        }
        self.schedule_close(id);
        self.touch(id);
        false
    }

    /// Makes sure that a close ends, even if it cannot be written.
    pub(super) fn schedule_close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id as usize)
            && let Some(deadline) = connection.closing
        {
            self.timers.schedule(id, connection, deadline);
        }
    }

    /// Does what the clock says.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>, now: Millis) {
        while let Some((id, serial)) = self.timers.due(now) {
            let Some(connection) = self.connections.get_mut(id as usize).filter(|c| c.serial == serial)
            else {
                continue;
            };
            connection.scheduled = Millis::MAX;
            if connection.closing.is_some_and(|deadline| now >= deadline) {
                self.drop_connection(id);
                continue;
            }
            if connection.retry_at.is_some_and(|at| now >= at) {
                connection.retry_at = None;
                self.touch(id);
            }
            self.let_go_if_due(id, now);
            let moment = moment(&self.ring, &self.node, now);
            let connection = &mut self.connections[id as usize];
            connection.session.tick(&moment, &self.node.rules, &mut self.actions);
            self.perform(id, now);
            if let Some(connection) = self.connections.get_mut(id as usize) {
                let next = connection.session.next_tick(&self.node.rules);
                let next = next.min(connection.retry_at.unwrap_or(Millis::MAX));
                let next = next.min(connection.closing.unwrap_or(Millis::MAX));
                let next = next.min(connection.held_until().unwrap_or(Millis::MAX));
                self.timers.schedule(id, connection, next);
            }
        }
        self.timers.arm(cx, now);
    }
}
