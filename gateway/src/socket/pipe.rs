//! A socket in memory, for tests that drive a shard by hand: as slow as its reader, and it may break at any byte.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// Both ends of a pipe.
#[derive(Clone, Default)]
pub struct Pipe(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// Bytes that fit on their way to the client.
    room: usize,
    waker: Option<Waker>,
    client: End,
    /// The server has said all that it says.
    server_is_done: bool,
}

/// How the client's side has ended.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// The server reads what was sent, then the end.
    Closed,
    /// The server reads nothing more.
    Reset,
}

impl Pipe {
    pub fn new(room: usize) -> Pipe {
        let pipe = Pipe::default();
        pipe.lock().room = room;
        pipe
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The client sends.
    pub fn send(&self, bytes: &[u8]) {
        let waker = {
            let mut state = self.lock();
            state.to_server.extend(bytes);
            state.waker.take()
        };
        waker.inspect(Waker::wake_by_ref);
    }

    /// The client reads at most so many bytes.
    pub fn receive(&self, max: usize) -> Vec<u8> {
        let (bytes, waker) = {
            let mut state = self.lock();
            let count = max.min(state.to_client.len());
            let waker = if count > 0 { state.waker.take() } else { None };
            (state.to_client.drain(..count).collect(), waker)
        };
        waker.inspect(Waker::wake_by_ref);
        bytes
    }

    /// The client's side ends: behind what it has sent, or, with a reset, before the server has read that.
    pub fn end(&self, reset: bool) {
        let waker = {
            let mut state = self.lock();
            state.client = if reset { End::Reset } else { End::Closed };
            state.waker.take()
        };
        waker.inspect(Waker::wake_by_ref);
    }

    /// Whether the client has read all that it will ever get.
    pub fn is_at_end(&self) -> bool {
        let state = self.lock();
        // With the server's end dropped, this one is the last.
        state.to_client.is_empty() && (state.server_is_done || Arc::strong_count(&self.0) == 1)
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        match state.client {
            End::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            End::Closed if state.to_server.is_empty() => return Poll::Ready(Ok(0)),
            End::Open | End::Closed => {}
        }
        if state.to_server.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.len().min(state.to_server.len());
        for (to, from) in buffer.iter_mut().zip(state.to_server.drain(..count)) {
            *to = from;
        }
        Poll::Ready(Ok(count))
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        if state.client != End::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut free = state.room - state.to_client.len();
        let mut written = 0;
        for slice in slices {
            let count = free.min(slice.len());
            state.to_client.extend(&slice[..count]);
            (free, written) = (free - count, written + count);
        }
        if written == 0 {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(written))
    }

    pub(super) fn shut_down(&self) {
        self.lock().server_is_done = true;
    }
}

/// A text as a client's frame.
pub fn client_frame(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x81, 0x80 | 126];
    bytes.extend(u16::try_from(text.len()).expect("a short text").to_be_bytes());
    // A mask that changes nothing.
    bytes.extend([0; 4]);
    bytes.extend(text.as_bytes());
    bytes
}

/// Takes the first of a server's frames off, if it is all there: its opcode, and its payload.
pub fn take_server_frame(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (start, len) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    if bytes.len() < start + len {
        return None;
    }
    let rest = bytes.split_off(start + len);
    let frame = std::mem::replace(bytes, rest);
    Some((frame[0] & 0x0f, frame[start..].to_vec()))
}
