//! Writes what is due: private bytes first, then shared frames, in as few system calls as there are.

use super::{Connection, Delivery};
use crate::hub::block::Kind;
use crate::hub::piece::Piece;
use crate::hub::ring::Ring;
use crate::socket::Socket;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

/// Most slices of one vectored write. The kernel takes 1,024; beyond some dozens there is nothing left to win.
const SLICES: usize = 64;
/// Most bytes written to one connection in a turn, so that one far behind does not hold up the others.
const TURN_BYTES: usize = 256 * 1024;

/// How a write ended.
#[derive(Debug)]
pub enum Wrote {
    /// Nothing is due any more.
    All,
    /// Something is left: the turn's share is used up.
    Some,
    /// The socket is full, and wakes its waker when it is not.
    Full,
    /// The socket is dead.
    Failed(io::Error),
}

impl Connection {
    /// Writes what is due, as far as the socket and the turn's share allow. Says too how many bytes went.
    pub fn write(&mut self, ring: &Ring) -> (Wrote, usize) {
        let mut written = 0;
        loop {
            if written >= TURN_BYTES {
                return (Wrote::Some, written);
            }
            match self.write_once(ring) {
                Poll::Ready(Ok(0)) => return (Wrote::All, written),
                // What is nearly always so: everything went at once, and a plain socket holds nothing back.
                Poll::Ready(Ok(n)) if self.has_written_all() => return (Wrote::All, written + n),
                Poll::Ready(Ok(n)) => written += n,
                Poll::Ready(Err(error)) => return (Wrote::Failed(error), written),
                Poll::Pending => return (Wrote::Full, written),
            }
        }
    }

    fn has_written_all(&self) -> bool {
        self.private.is_empty()
            && matches!(&self.delivery, Delivery::Live(due) if due.is_empty())
            && matches!(self.socket, Socket::Plain(_))
    }

    /// One vectored write; `Ok(0)` when there is nothing to write.
    fn write_once(&mut self, ring: &Ring) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        if self.private_sent < self.private.len() {
            slices[0] = IoSlice::new(&self.private[self.private_sent..]);
            count = 1;
        }
        self.delivery.pieces(ring, |piece| {
            slices[count] = IoSlice::new(piece.bytes());
            count += 1;
            count < SLICES
        });
        let mut cx = Context::from_waker(&self.waker);
        if count == 0 {
            return self.socket.poll_flush(&mut cx).map_ok(|()| 0);
        }
        match self.socket.poll_write(&mut cx, &slices[..count]) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(n)) => {
                self.consume(n, ring);
                Poll::Ready(Ok(n))
            }
            other => other,
        }
    }

    /// Takes `bytes` that were written off what is due.
    fn consume(&mut self, bytes: usize, ring: &Ring) {
        let private = bytes.min(self.private.len() - self.private_sent);
        self.private_sent += private;
        let mut left = bytes - private;
        if self.private_sent == self.private.len() {
            // Freed, not kept for next time: an idle connection owns no buffer.
            (self.private, self.private_sent) = (Vec::new(), 0);
        }
        if left == 0 {
            return;
        }
        let (mut frames, mut messages) = (0, 0);
        let rest = &mut self.private;
        self.delivery.pieces(ring, |piece| {
            let done = if left >= piece.bytes().len() {
                left -= piece.bytes().len();
                piece.frames() as u64
            } else {
                // The rest of the one cut frame moves here, so that the ring may evict at any time.
                let (begun, cut) = piece.cut(left);
                rest.extend_from_slice(cut);
                left = 0;
                begun as u64
            };
            frames += done;
            if piece.kind() == Kind::Messages {
                messages += done;
            }
            left > 0
        });
        self.delivered += messages;
        match &mut self.delivery {
            Delivery::Live(due) => due.advance(frames),
            Delivery::Behind(behind) => behind.written(frames),
            Delivery::Resting => {}
        }
    }
}

impl Delivery {
    /// Hands out what is due as pieces of blocks, in order, until the visitor has enough.
    fn pieces<'r>(&'r self, ring: &'r Ring, mut visit: impl FnMut(Piece<'r>) -> bool) {
        let due = match self {
            Delivery::Live(due) => due,
            Delivery::Behind(behind) => return behind.pieces(ring, visit),
            Delivery::Resting => return,
        };
        for (mut from, to) in due.ranges() {
            while from < to {
                let Some(piece) = ring.piece(from, to) else { return };
                if !visit(piece) {
                    return;
                }
                from += piece.frames() as u64;
            }
        }
    }
}
