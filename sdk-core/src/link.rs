//! The one connection: where it stands, and whether the app wants it at all.
//!
//! ```text
//!            connect                 token                opened             welcome
//!   Idle ──────────────▶ Fetching ──────────▶ Dialing ──────────▶ Greeting ──────────▶ Online (syncing, then live)
//!    ▲                       ▲                   │                   │                    │
//!    │ disconnect            │ the wait is over  │ failed            │ refused            │ lost, silent, go_away
//!    │                       │                   ▼                   ▼                    ▼
//!   (from anywhere)        Waiting ◀─────────────┴───────────────────┴────────────────────┤
//!                                                                                         │ by the code's range
//!   Paused (the set of reasons is not empty)      NeedsAuth (42xx, repeatedly) ◀──────────┤
//!   Closed (the app's close: for good)            Stopped (45xx) ◀────────────────────────┘
//! ```

use crate::liveness::Liveness;
use alloc::boxed::Box;
use alloc::vec::Vec;
use anabranch_protocol::code::Code;

/// How long dialing may take, in milliseconds.
pub const DIAL_MS: u64 = 15_000;
/// How long the gateway may take to answer `hello`, in milliseconds.
pub const GREET_MS: u64 = 10_000;
/// After a wake, the next attempt comes within so many milliseconds: at once, but not all clients together.
pub const WAKE_MS: u64 = 300;
/// Wakes closer together than this, in milliseconds, count as one: they must not defeat the backoff.
pub const WAKES_APART_MS: u64 = 3_000;

/// Where the connection stands.
#[derive(Clone, Debug)]
pub enum Link {
    /// The app has not asked for it.
    Idle,
    /// A token is needed before dialing.
    Fetching,
    /// The body opens a socket.
    Dialing { attempt: u32, deadline: u64 },
    /// `hello` was sent.
    Greeting { attempt: u32, deadline: u64 },
    /// The gateway has welcomed us.
    Online(Online),
    /// Until the next attempt.
    Waiting { until: u64 },
    /// The app has reasons to be silent.
    Paused,
    /// Too many tokens were rejected.
    NeedsAuth,
    /// The gateway said: do not come back.
    Stopped,
    /// The app closed it, for good.
    Closed,
}

/// A welcomed connection.
#[derive(Clone, Debug)]
pub struct Online {
    pub attempt: u32,
    pub since: u64,
    pub caught_up: bool,
    pub liveness: Liveness,
    /// Whether the gateway reaches its log.
    pub upstream: bool,
    /// The gateway drains: leave at this moment, which is the slot it gave us.
    pub leave_at: Option<u64>,
    /// Whether the gateway understands how a client wants to be conflated, and whether it was told that nobody looks.
    pub conflates: bool,
    pub told_hidden: bool,
}

impl Link {
    /// The number of the attempt whose socket exists or is being opened.
    pub fn attempt(&self) -> Option<u32> {
        match self {
            Link::Dialing { attempt, .. } | Link::Greeting { attempt, .. } => Some(*attempt),
            Link::Online(online) => Some(online.attempt),
            _ => None,
        }
    }

    /// The welcomed connection.
    pub fn online(&self) -> Option<&Online> {
        match self {
            Link::Online(online) => Some(online),
            _ => None,
        }
    }

    /// When the link itself needs attention.
    pub fn deadline(&self) -> Option<u64> {
        match self {
            Link::Dialing { deadline, .. } | Link::Greeting { deadline, .. } => Some(*deadline),
            Link::Waiting { until } => Some(*until),
            Link::Online(online) => {
                let silent = online.liveness.deadline();
                Some(online.leave_at.map_or(silent, |leave| leave.min(silent)))
            }
            _ => None,
        }
    }
}

/// What the app wants, whatever the network does.
///
/// Reasons to pause are a set, because two parts of an app may pause at once and the first to resume must not wake the
/// other's. Nothing but the app changes this: no wake, no timer, no frame.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    pub connect: bool,
    reasons: Vec<Box<str>>,
    /// Why the last connection ended.
    pub code: Option<Code>,
}

impl Intent {
    /// Adds a reason to pause; says whether it is the first.
    pub fn pause(&mut self, reason: &str) -> bool {
        let first = self.reasons.is_empty();
        if !self.reasons.iter().any(|r| **r == *reason) {
            self.reasons.push(reason.into());
        }
        first
    }

    /// Takes a reason away; says whether it was the last.
    pub fn resume(&mut self, reason: &str) -> bool {
        let before = self.reasons.len();
        self.reasons.retain(|r| **r != *reason);
        before > 0 && self.reasons.is_empty()
    }

    /// Whether there is a reason to be silent.
    pub fn paused(&self) -> bool {
        !self.reasons.is_empty()
    }
}
