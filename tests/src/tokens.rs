//! Tokens for anybody, to read and write anything.

use anabranch_gateway::auth::NewToken;
use anabranch_gateway::config::Secret;
use std::time::{Duration, SystemTime};

/// The key with which every gateway of the tests verifies. Easy to find where it must not be.
pub const SECRET: &str = "the-secret-of-the-system-tests-which-no-log-may-show";
/// `iss` and `aud` of the gateways of the tests.
pub const ISSUER: &str = "https://issuer.test";
pub const AUDIENCE: &str = "anabranch-tests";

/// A token that may read and write everything but `$` topics, for an hour.
pub fn all(subject: &str) -> String {
    Token::of(subject).read("#").write("#").sign()
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct Token {
    claims: NewToken,
}

impl Token {
    /// For this subject, with no grants, good for an hour.
    pub fn of(subject: &str) -> Token {
        let now = now();
        Token {
            claims: NewToken {
                subject: subject.into(),
                issuer: ISSUER.into(),
                audience: AUDIENCE.into(),
                not_before: now - 60,
                expires: now + 3600,
                ..NewToken::default()
            },
        }
    }

    pub fn read(mut self, filter: &str) -> Token {
        self.claims.read.push(filter.into());
        self
    }

    pub fn write(mut self, filter: &str) -> Token {
        self.claims.write.push(filter.into());
        self
    }

    pub fn deny(mut self, filter: &str) -> Token {
        self.claims.deny.push(filter.into());
        self
    }

    /// Good for so many whole seconds from now; the gateway adds its leeway of 5 s.
    pub fn for_seconds(mut self, seconds: u64) -> Token {
        self.claims.expires = now() + seconds;
        self
    }

    /// Ended so many seconds ago, with the beginning before that.
    pub fn ended_seconds_ago(mut self, seconds: u64) -> Token {
        self.claims.expires = now() - seconds;
        self.claims.not_before = now() - seconds - 60;
        self
    }

    /// For another audience.
    pub fn audience(mut self, audience: &str) -> Token {
        self.claims.audience = audience.into();
        self
    }

    pub fn sign(&self) -> String {
        self.sign_with(SECRET)
    }

    /// Signed with another key than the gateway's.
    pub fn sign_with(&self, secret: &str) -> String {
        self.claims.sign(&Secret::new(secret.as_bytes()))
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
