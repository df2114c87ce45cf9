//! The gateway. (Table of contents follows as the rooms are built.)

pub mod auth;
pub mod log;
