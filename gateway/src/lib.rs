//! The gateway. (Table of contents follows as the rooms are built.)

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
