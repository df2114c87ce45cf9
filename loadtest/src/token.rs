//! A principal for each connection, signed with the key that the gateway of this run verifies with.

use anabranch_gateway::auth::NewToken;
use anabranch_gateway::config::Secret;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The key of one run: HS256.
#[derive(Clone)]
pub struct Issuer {
    secret: String,
}

impl Issuer {
    pub fn new(secret: String) -> Issuer {
        Issuer { secret }
    }

    /// A token that may read one filter, for a day.
    pub fn token(&self, subject: &str, read: &str) -> String {
        self.grant(subject, read, &[])
    }

    /// A token that may read one filter and write to others, for a day.
    pub fn grant(&self, subject: &str, read: &str, write: &[&str]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let claims = NewToken {
            subject: subject.to_owned(),
            issuer: "anabranch".to_owned(),
            audience: "anabranch".to_owned(),
            not_before: now.saturating_sub(60),
            expires: now + 24 * 3600,
            read: vec![read.to_owned()],
            write: write.iter().map(|&filter| filter.to_owned()).collect(),
            ..NewToken::default()
        };
        claims.sign(&Secret::new(self.secret.clone().into_bytes()))
    }
}
