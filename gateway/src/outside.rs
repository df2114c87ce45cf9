//! What no state decides and comes from outside: the wall clock, and chance.
//!
//! Both are asked for here alone by what a simulation runs: in this crate's tests, a thread may have its own of both (`own`), and
//! then the same seed makes the same history.

use std::time::SystemTime;

/// The wall clock, in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    #[cfg(test)]
    if let Some(ms) = own::unix_ms() {
        return ms;
    }
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A number that nobody can guess.
///
/// # Errors
/// The operating system has none.
pub fn random() -> Result<u64, getrandom::Error> {
    #[cfg(test)]
    if let Some(number) = own::random() {
        return Ok(number);
    }
    getrandom::u64()
}

/// A name that nothing else has.
pub fn fresh_id() -> String {
    #[cfg(test)]
    if let Some((high, low)) = own::random().zip(own::random()) {
        return uuid::Uuid::from_u64_pair(high, low).to_string();
    }
    uuid::Uuid::new_v4().to_string()
}

/// A clock and chance of this thread's own, for as long as [`Own`](own::Own) lives.
#[cfg(test)]
pub mod own {
    use anabranch_sdk_core::backoff::Random;
    use std::cell::RefCell;

    thread_local! {
        static OWN: RefCell<Option<(u64, Random)>> = const { RefCell::new(None) };
    }

    /// While it lives, this thread's wall clock stands where it was set, and its chance follows from a seed.
    pub struct Own(());

    impl Own {
        pub fn new(unix_ms: u64, seed: u64) -> Own {
            OWN.with_borrow_mut(|own| *own = Some((unix_ms, Random::new(seed))));
            Own(())
        }

        pub fn set_clock(&self, unix_ms: u64) {
            OWN.with_borrow_mut(|own| own.iter_mut().for_each(|own| own.0 = unix_ms));
        }
    }

    impl Drop for Own {
        fn drop(&mut self) {
            OWN.set(None);
        }
    }

    pub(super) fn unix_ms() -> Option<u64> {
        OWN.with_borrow(|own| own.as_ref().map(|own| own.0))
    }

    pub(super) fn random() -> Option<u64> {
        OWN.with_borrow_mut(|own| own.as_mut().map(|own| own.1.up_to(u64::MAX)))
    }
}
