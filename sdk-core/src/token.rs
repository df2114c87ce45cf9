//! The token: asked for once at a time, refreshed before it expires, asked for again when it is rejected.
//!
//! Lifetimes are relative and counted here, so a wrong wall clock does not log anyone out.

use crate::Now;
use crate::backoff::{Random, delay};
use alloc::boxed::Box;

/// Why the app is asked for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenWhy {
    /// There was none yet.
    First,
    /// The one in use ends soon, or has ended.
    Expiring,
    /// The gateway did not accept the last one: do not answer with a cached copy of it.
    Rejected,
}

impl TokenWhy {
    /// Its name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            TokenWhy::First => "first",
            TokenWhy::Expiring => "expiring",
            TokenWhy::Rejected => "rejected",
        }
    }
}

/// A provider that has not answered for so long, in milliseconds, is asked again.
const PROVIDER_MS: u64 = 30_000;
/// A token is not used to connect in its last milliseconds.
const LAST_MS: u64 = 2_000;
/// A refresh begins at most so many milliseconds before expiry.
const LEAD_MS: u64 = 60_000;
/// After so many tokens rejected in a row, the app has to act: `needs_auth`.
pub const REJECTIONS: u32 = 5;

/// The token in use and the request for the next one.
#[derive(Default)]
pub struct Tokens {
    token: Option<Box<str>>,
    /// When it ends, on both clocks; whichever comes first, since the monotonic one may stand still in sleep.
    ends: Option<Now>,
    /// When to ask for the next one while connected.
    refresh_at: Option<u64>,
    /// The number of the last request.
    request: u32,
    /// A request is under way; given up at this moment.
    pending: Option<u64>,
    /// No request before this moment, after a failure of the provider.
    retry_at: Option<u64>,
    failures: u32,
    had_one: bool,
    rejections: u32,
}

impl Tokens {
    /// A token to connect with now.
    pub fn usable(&self, now: Now) -> Option<&str> {
        let ended = |ends: Now| {
            ends.mono.saturating_sub(now.mono) <= LAST_MS || ends.wall.saturating_sub(now.wall) <= LAST_MS
        };
        if self.ends.is_some_and(ended) { None } else { self.token.as_deref() }
    }

    /// The token, whether or not it may have ended: the gateway is the judge.
    pub fn current(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// Starts a request, unless one is under way or it is too early after a failure.
    pub fn ask(&mut self, now: u64) -> Option<(u32, TokenWhy)> {
        if self.pending.is_some() || self.waits_until(now).is_some() {
            return None;
        }
        self.retry_at = None;
        self.pending = Some(now.saturating_add(PROVIDER_MS));
        self.request = self.request.wrapping_add(1);
        let why = match (self.rejections, self.had_one) {
            (1.., _) => TokenWhy::Rejected,
            (0, true) => TokenWhy::Expiring,
            (0, false) => TokenWhy::First,
        };
        Some((self.request, why))
    }

    /// The provider answered. Only the answer to the request under way counts.
    pub fn received(&mut self, request: u32, token: &str) -> bool {
        let expected = self.pending.is_some() && request == self.request;
        if expected {
            self.pending = None;
            self.failures = 0;
            self.had_one = true;
            self.ends = None;
            self.token = Some(token.into());
        }
        expected
    }

    /// The provider failed: it is asked again later.
    pub fn failed(&mut self, now: u64, request: u32, random: &mut Random) {
        if self.pending.is_some() && request == self.request {
            self.pending = None;
            self.retry_at = Some(now.saturating_add(delay(self.failures, random)));
            self.failures = self.failures.saturating_add(1);
        }
    }

    /// The gateway accepted the token and said how long it is good for.
    pub fn in_force(&mut self, now: Now, ttl_ms: u64, random: &mut Random) {
        self.rejections = 0;
        self.ends =
            Some(Now { mono: now.mono.saturating_add(ttl_ms), wall: now.wall.saturating_add(ttl_ms) });
        // A fifth of the lifetime ahead, at most a minute; jitter keeps a fleet's refreshes apart.
        let lead = (ttl_ms / 5).min(LEAD_MS);
        let lead = lead + random.up_to(lead / 2);
        self.refresh_at = Some(now.mono.saturating_add(ttl_ms.saturating_sub(lead)));
    }

    /// The gateway did not accept it. The next one is asked for at once, those after it with backoff: a provider
    /// that keeps a bad token must not become a loop.
    pub fn rejected(&mut self, now: u64, random: &mut Random) {
        self.token = None;
        self.ends = None;
        self.refresh_at = None;
        if self.rejections > 0 {
            self.retry_at = Some(now.saturating_add(delay(self.rejections, random)));
        }
        self.rejections = self.rejections.saturating_add(1);
    }

    /// Tokens rejected in a row.
    pub fn rejections(&self) -> u32 {
        self.rejections
    }

    /// The app wants to try again: rejections of the past do not count.
    pub fn forgive(&mut self) {
        self.rejections = 0;
        self.retry_at = None;
    }

    /// Lets a request that waits after a failure start at once.
    pub fn hurry(&mut self) {
        self.retry_at = None;
    }

    /// Whether a connection in use should get a fresh token now.
    pub fn refresh_due(&self, now: u64) -> bool {
        self.token.is_none() || self.refresh_at.is_some_and(|at| at <= now)
    }

    /// The fresh token was sent: no second refresh until it is answered.
    pub fn sent(&mut self) {
        self.refresh_at = None;
    }

    /// When something here is due: the end of a request; where a token is wanted (to dial, or `connected` and not
    /// rejected too often), also the next request.
    pub fn deadline(&self, fetching: bool, connected: bool) -> Option<u64> {
        if self.pending.is_some() {
            return self.pending;
        }
        let connected = connected && self.rejections < REJECTIONS;
        let refreshing = connected && (self.token.is_none() || self.refresh_at.is_some());
        match self.retry_at {
            Some(at) if fetching => Some(at),
            Some(at) if refreshing => Some(at.max(self.refresh_at.unwrap_or(0))),
            None if connected => self.refresh_at,
            _ => None,
        }
    }

    /// When the next request may start, if it waits after a failure.
    pub fn waits_until(&self, now: u64) -> Option<u64> {
        self.retry_at.filter(|at| *at > now)
    }

    /// Gives up on a provider that does not answer; a late answer is then ignored.
    pub fn expire(&mut self, now: u64, random: &mut Random) {
        if self.pending.is_some_and(|until| until <= now) {
            self.failed(now, self.request, random);
        }
    }

    /// Forgets everything that names a user.
    pub fn wipe(&mut self) {
        *self = Tokens { request: self.request, ..Tokens::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono: u64) -> Now {
        Now { mono, wall: 1_000_000 + mono }
    }

    #[test]
    fn one_request_at_a_time_and_only_its_answer_counts() {
        let mut tokens = Tokens::default();
        assert_eq!(tokens.ask(0), Some((1, TokenWhy::First)));
        assert_eq!(tokens.ask(1), None);
        assert!(!tokens.received(7, "other"));
        assert!(tokens.received(1, "a"));
        assert!(!tokens.received(1, "b"), "an answer counts once");
        assert_eq!(tokens.usable(at(2)), Some("a"));
    }

    #[test]
    fn a_hanging_provider_is_asked_again_and_its_late_answer_is_ignored() {
        let mut random = Random::new(1);
        let mut tokens = Tokens::default();
        tokens.ask(0);
        tokens.expire(PROVIDER_MS, &mut random);
        let later = tokens.deadline(true, false).expect("a retry is due");
        assert_eq!(tokens.ask(later), Some((2, TokenWhy::First)));
        assert!(!tokens.received(1, "late"));
    }

    #[test]
    fn expiry_is_counted_on_either_clock() {
        let mut random = Random::new(1);
        let mut tokens = Tokens::default();
        tokens.ask(0);
        tokens.received(1, "a");
        tokens.in_force(at(0), 100_000, &mut random);
        assert!(tokens.usable(at(90_000)).is_some());
        assert!(tokens.usable(at(99_000)).is_none());
        let slept = Now { mono: 10, wall: 1_000_000 + 200_000 };
        assert!(tokens.usable(slept).is_none());
        assert!(!tokens.refresh_due(60_000));
        assert!(tokens.refresh_due(80_001));
    }

    #[test]
    fn a_rejected_token_is_not_used_again() {
        let mut tokens = Tokens::default();
        tokens.ask(0);
        tokens.received(1, "a");
        tokens.rejected(0, &mut Random::new(1));
        assert_eq!(tokens.usable(at(0)), None);
        assert_eq!(tokens.ask(0), Some((2, TokenWhy::Rejected)));
    }
}
