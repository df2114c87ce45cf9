//! One socket of the floor.

use mio::net::TcpStream;
use std::io::{self, ErrorKind, IoSlice, Write};

/// Most slices of one vectored write.
const SLICES: usize = 64;

/// A socket, and what it is still to be sent.
pub struct Connection {
    pub stream: TcpStream,
    /// Whether the upgrade is behind it.
    pub upgraded: bool,
    /// The beginning of a request or frame whose rest has not come yet.
    pub partial: Vec<u8>,
    /// Bytes for this client alone, and what a full socket left of earlier turns.
    pub own: Vec<u8>,
    /// Ranges of this turn's frames; neighbours are one range.
    due: Vec<(usize, usize)>,
    /// Whether it is on the list of those to be written to.
    pub touched: bool,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Connection {
        Connection {
            stream,
            upgraded: false,
            partial: Vec::new(),
            own: Vec::new(),
            due: Vec::new(),
            touched: false,
        }
    }

    /// These bytes of the turn's frames are for this client.
    pub fn extend(&mut self, from: usize, to: usize) {
        match self.due.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => self.due.push((from, to)),
        }
    }

    /// Writes what is due, as far as the socket takes it. The rest is copied: the turn's frames end with the turn.
    pub fn flush(&mut self, frames: &[u8]) -> io::Result<()> {
        let mut done = 0;
        let mut skip = 0;
        while !self.own.is_empty() || done < self.due.len() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            slices[0] = IoSlice::new(&self.own);
            let mut count = 1;
            for &(from, to) in self.due[done..].iter().take(SLICES - 1) {
                let from = if count == 1 { from + skip } else { from };
                slices[count] = IoSlice::new(&frames[from..to]);
                count += 1;
            }
            let first = usize::from(self.own.is_empty());
            let wrote = match self.stream.write_vectored(&slices[first..count]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(wrote) => wrote,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let own = wrote.min(self.own.len());
            if own == self.own.len() {
                self.own = Vec::new();
            } else {
                self.own.drain(..own);
            }
            let mut left = wrote - own;
            while left > 0 {
                let (from, to) = self.due[done];
                let here = (to - from - skip).min(left);
                (left, skip) = (left - here, skip + here);
                if from + skip == to {
                    (done, skip) = (done + 1, 0);
                }
            }
        }
        for &(from, to) in &self.due[done..] {
            self.own.extend_from_slice(&frames[from + std::mem::take(&mut skip)..to]);
        }
        self.due.clear();
        Ok(())
    }
}
