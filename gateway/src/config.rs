//! Everything an operator can set.

mod auth;
mod secret;

pub use auth::{AuthConfig, KeyConfig, RoleConfig};
pub use secret::Secret;
