//! Shadows: what a device says of itself, what apps want of it, and the difference.
//!
//! ```text
//!   shadow/desired ─┐                    ┌─▶ shadow/document   state: the newest counts
//!   shadow/reported ┼─▶ log ─▶ ledger ───┼─▶ shadow/delta      state
//!   shadow/update  ─┘     ▲    (a fold)  └─▶ shadow/accepted, shadow/rejected
//!                         └──── service appends what is due ◀──┘
//! ```
//!
//! A shadow is a fold of the log, which every node makes. Whoever holds the duty proposes the next document; the first one that
//! stands in the log with the next step is true, on every node, and what was proposed beside it is void. So which node acts is a
//! matter of efficiency, never of truth: `docs/adr/0011-shadows.md`.
//!
//! * [`document`], [`update`]: what a shadow is, and what an update makes of it. Pure.
//! * [`entry`]: what a document's record says beside the document.
//! * [`ledger`]: the fold, and what is due. Pure: time is an argument.
//! * [`service`]: appends what is due while this node holds the duty.

pub mod document;
pub mod entry;
pub mod ledger;
mod message;
pub mod service;
mod times;
pub mod topics;
pub mod update;

pub use ledger::Ledger;
pub use service::Shadows;
pub use topics::Topics;

use std::time::Duration;

/// What a shadow may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest state, desired and reported together, in bytes of JSON.
    pub bytes: usize,
    /// Levels of objects and arrays within desired or reported.
    pub depth: usize,
    /// Updates of one device in a second, in the long run; as many may come at once.
    pub rate: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 8 * 1024, depth: 8, rate: 100 }
    }
}

/// How long a question of what a shadow is may wait for its answer. Whoever asked has asked again since.
pub const QUESTION: Duration = Duration::from_secs(60);
