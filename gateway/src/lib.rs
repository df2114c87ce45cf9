//! The gateway. (Table of contents follows as the rooms are built.)

pub mod auth;
pub mod config;
pub mod log;
