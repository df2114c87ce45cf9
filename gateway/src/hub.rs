//! What all connections share: the recent frames, who cares about which topic, one reader of the log, one window of
//! published messages.

pub mod block;
pub mod canary;
pub mod classes;
pub mod interest;
pub mod mailbox;
pub mod newest;
pub mod piece;
pub mod publish;
pub mod pump;
pub mod recent;
pub mod registry;
pub mod replay;
pub mod ring;
pub mod sizes;
pub mod transient;
pub mod upstream;

/// What `mailbox` locks with. The loom test gives it loom's.
mod sync {
    pub use std::sync::{Mutex, MutexGuard};
}
