//! A socket in memory, for tests that drive a shard by hand: as slow as its reader.

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

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
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
}
