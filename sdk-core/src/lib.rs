//! The Anabranch client as a pure state machine.
//!
//! No socket, no clock, no timer, no randomness of its own, and no standard library to take them from: a body (`sdk-rust` on tokio, `sdk-wasm` in a browser) feeds
//! a [`Machine`] with what happened and when, and carries out the [`Effect`]s that it asks for.
//!
//! ```text
//!   the app ──── commands ────▶ ┌─────────┐ ──── Open, Send, Close ────▶ the socket
//!   the socket ── handle_* ───▶ │ Machine │ ──── Deliver, Gap, Live ───▶ the app
//!   the clock ─── now ────────▶ └─────────┘ ──── NeedToken ────────────▶ the token provider
//!                                    └────────── next_timer ───────────▶ the clock
//! ```
//!
//! | room | what it knows |
//! |---|---|
//! | [`machine`] | the whole: which input goes to which room |
//! | [`link`] | the one connection: wanted or not, dialing, greeting, online, waiting |
//! | [`resume`] | the subscriptions, each with its cursor: duplicates, gaps, resets, the count check |
//! | [`token`] | one request at a time, refresh before expiry, rejection |
//! | [`outbox`] | what is published and not confirmed yet |
//! | [`liveness`] | whether the connection is alive, and whether the machine slept |
//! | [`backoff`] | when to come back, and the random numbers for it |
//! | [`shadow`] | one device's shadow, this client's own changes on top of it |
//! | [`cache`] | the newest messages of each topic, within a number of bytes |
//! | [`command`] | requests to devices, their answers, and what a device has handled |
//! | [`store`] | what outlives the process |

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod backoff;
pub mod cache;
pub mod command;
pub mod effect;
pub mod link;
pub mod liveness;
pub mod machine;
pub mod outbox;
pub mod resume;
pub mod shadow;
pub mod store;
pub mod token;

pub use effect::{Effect, Phase, State};
pub use machine::Machine;
pub use outbox::PublishRefused;
pub use resume::{Start, Wish};
pub use token::TokenWhy;

/// A moment on two clocks, in milliseconds.
///
/// Deadlines live on the monotonic clock. The wall clock is compared with it only to notice that the machine slept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since any fixed moment; never goes back.
    pub mono: u64,
    /// Since 1970.
    pub wall: u64,
}
