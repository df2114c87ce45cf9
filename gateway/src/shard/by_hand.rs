//! What tests need that drive a shard by hand: a waker that can be asked, and tokens that the shard takes.

use crate::auth::{Algorithm, Authenticator, NewToken};
use crate::config::{AuthConfig, KeyConfig, Secret};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Wake;

/// Whether somebody was woken since it was asked last.
#[derive(Default)]
pub struct Woken(AtomicBool);

impl Woken {
    /// Of one that has still to be looked at for the first time.
    pub fn already() -> Arc<Woken> {
        Arc::new(Woken(AtomicBool::new(true)))
    }

    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn secret() -> Secret {
    Secret::new(*b"a secret of at least 32 bytes, for tests only")
}

/// One for all tests of a process.
pub fn authenticator() -> Arc<Authenticator> {
    static ONE: OnceLock<Arc<Authenticator>> = OnceLock::new();
    let make = || {
        let key = KeyConfig { algorithm: Algorithm::Hs256, kid: None, issuer: None, material: secret() };
        let config = AuthConfig { keys: vec![key], ..AuthConfig::default() };
        Arc::new(Authenticator::new(&config).expect("one good key"))
    };
    Arc::clone(ONE.get_or_init(make))
}

/// A token that the [`authenticator`] takes until `expires`, in seconds since 1970.
pub fn token(subject: &str, read: &[&str], write: &[&str], expires: u64) -> String {
    let list = |filters: &[&str]| filters.iter().map(|&filter| filter.to_owned()).collect();
    let token = NewToken {
        subject: subject.into(),
        issuer: AuthConfig::DEFAULT_NAME.into(),
        audience: AuthConfig::DEFAULT_NAME.into(),
        not_before: 1,
        expires,
        read: list(read),
        write: list(write),
        ..NewToken::default()
    };
    token.sign(&secret())
}
