//! What all connections share: the recent frames, who cares about which topic, one reader of the log, one window of
//! published messages.

pub mod bell;
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
pub mod relay;
pub mod replay;
pub mod ring;
pub mod sizes;
pub mod transient;
pub mod upstream;

/// What `bell`, `mailbox` and `relay` lock with. The loom tests give them loom's.
mod sync {
    pub use std::sync::{Mutex, MutexGuard};
}
