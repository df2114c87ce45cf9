//! The language that Anabranch's gateway and clients speak.
//!
//! No tokio, no clock, no socket, no serde, and nothing of the standard library that needs a system below it: it builds for
//! wasm32, small, and is what both sides agree on. A subscription's life in ten frames:
//!
//! ```text
//! client                                             gateway
//!   hello { token, cursor, subscriptions } ─────────▶
//!                                          ◀───────── welcome { cursor, pingIntervalMs, limits, … }
//!                                          ◀───────── subscribed { cursor, outcome: resumed | gap | reset | live }
//!                                          ◀───────── message { position, envelope } …
//!                                          ◀───────── caught_up { cursor }           from here on: live
//!                                          ◀───────── mark { cursor, delivered }     covers what the filters left out
//!                                          ◀───────── ping
//!   pong ───────────────────────────────────────────▶
//!   publish { envelope } ───────────────────────────▶
//!                                          ◀───────── published { messageId, position }
//! ```
//!
//! `docs/PROTOCOL.md` is the specification, `vectors/*.json` the examples that every implementation must pass.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod client_frame;
pub mod code;
pub mod cursor;
pub mod delta;
pub mod envelope;
pub mod filter;
pub mod json;
pub mod limits;
pub mod merge_patch;
pub mod server_frame;
pub mod topic;

/// The WebSocket subprotocol of this version, frames as JSON text.
pub const SUBPROTOCOL: &str = "anabranch.v1.json";
