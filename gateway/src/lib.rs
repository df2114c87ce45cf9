//! The gateway: reads an ordered log, and pushes every record to the sockets that asked for it and may see it.
//!
//! From the log to a socket: [`log`], [`hub`] (what connections share), [`shard`] (a thread's connections and its loop), [`connection`],
//! [`socket`]. [`serve`] makes a [`gateway`] of a [`config`]; [`http`] lets in. `docs/ARCHITECTURE.md` walks through it.

pub mod auth;
pub mod cli;
pub mod config;
pub mod connection;
pub mod drain;
pub mod gateway;
pub mod http;
pub mod hub;
pub mod log;
pub mod metrics;
pub mod node;
mod outside;
pub mod serve;
pub mod shadow;
pub mod shard;
pub mod socket;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
