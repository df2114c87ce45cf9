//! Who a connection speaks for, and what they may read and write.
//!
//! A token is verified once, at the door, into a [`Principal`]; afterwards only the principal is asked. Nothing here
//! holds a clock or a socket: the time is an argument, so that every rule about it can be tested.
//!
//! ```text
//! token ──▶ jwt: size, form, header, key, signature, claims ──▶ Principal { subject, grants, expires }
//!            keys  one algorithm, one issuer each                   may_subscribe(filter)  may_read(topic)  may_write(topic)
//!            roles named sets of grants, {sub} is the subject
//! ```
//!
//! The claims of a token, all of them required but the last:
//!
//! ```json
//! { "iss": "https://login.example.com", "aud": "anabranch", "sub": "alice", "nbf": 1800000000, "exp": 1800003600,
//!   "anabranch": { "roles": ["viewer"], "read": ["iotsphere/devices/d1/#"], "write": [], "deny": [], "denyRead": [],
//!                  "denyWrite": [] } }
//! ```

mod claims;
mod error;
pub mod grants;
mod jwt;
mod keys;
mod mint;
mod roles;
mod shared;

pub use error::AuthError;
pub use jwt::{Authenticator, SetupError};
pub use keys::{Algorithm, KEYS, KeyError, SECRET_BYTES, check_key};
pub use mint::NewToken;
pub use roles::check_role_filter;

use grants::Grants;
use std::fmt;

/// Who a token speaks for. Held behind an `Arc` by every connection that the token opened, so it is kept small.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    /// The token's `sub`, as its issuer wrote it. Not empty, at most [`SUBJECT_BYTES`] bytes.
    pub subject: Box<str>,
    /// What it may read and write.
    pub grants: Grants,
    /// When it ends, in milliseconds since 1970. [`LEEWAY_MS`] is not included.
    pub expires_unix_ms: u64,
}

/// Longest subject, in bytes.
pub const SUBJECT_BYTES: usize = 255;

/// How far the issuer's clock and ours may lie apart, in milliseconds: a token is still taken that much after its
/// `exp` and before its `nbf`. Libraries often allow a minute, which is a minute of delivery to somebody who is out.
pub const LEEWAY_MS: u64 = 5_000;

impl Principal {
    /// Whether it has ended at this time, in milliseconds since 1970. The leeway is granted.
    pub fn is_expired(&self, now_unix_ms: u64) -> bool {
        now_unix_ms >= self.expires_unix_ms.saturating_add(LEEWAY_MS)
    }

    /// The subject for logs: control characters escaped, and cut at 64 characters, because it is somebody else's text.
    pub fn log_name(&self) -> impl fmt::Display + '_ {
        LogName(&self.subject)
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("subject", &format_args!("{}", self.log_name()))
            .field("grants", &self.grants)
            .field("expires_unix_ms", &self.expires_unix_ms)
            .finish()
    }
}

struct LogName<'a>(&'a str);

impl fmt::Display for LogName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        for c in self.0.chars().take(SHOWN) {
            write!(f, "{}", c.escape_debug())?;
        }
        if self.0.chars().nth(SHOWN).is_some() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_cannot_forge_log_lines() {
        let principal = Principal {
            subject: format!("eve\n2026-01-01 INFO {}", "x".repeat(200)).into(),
            grants: Grants::default(),
            expires_unix_ms: 0,
        };
        let shown = principal.log_name().to_string();
        assert!(shown.starts_with("eve\\n2026"), "{shown}");
        assert!(shown.chars().count() <= 66, "{shown}");
        assert!(!format!("{principal:?}").contains('\n'));
    }
}
