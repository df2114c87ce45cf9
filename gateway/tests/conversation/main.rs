//! A gateway in this process, spoken to frame by frame over a real socket.

mod kit;
mod limits;
mod publishing;
mod resuming;
mod snapshots;
