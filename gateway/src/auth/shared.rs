//! Principals that are in use, by token: equal tokens share one.

use super::Principal;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Forgets a principal when its last connection does. Keeps hashes, not tokens.
#[derive(Default)]
pub(super) struct Shared(Mutex<Table>);

#[derive(Default)]
struct Table {
    known: HashMap<[u8; 32], Known>,
    /// Clear out the dead entries when there are this many, so that the cost is spread evenly.
    sweep_at: usize,
}

struct Known {
    principal: Weak<Principal>,
    not_before: u64,
}

impl Shared {
    /// The principal of this very token, and the token's `nbf` in milliseconds since 1970.
    pub(super) fn find(&self, token: &str) -> Option<(Arc<Principal>, u64)> {
        let hash = hash(token);
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = table.known.get(&hash)?;
        Some((known.principal.upgrade()?, known.not_before))
    }

    pub(super) fn keep(&self, token: &str, principal: &Arc<Principal>, not_before: u64) {
        let known = Known { principal: Arc::downgrade(principal), not_before };
        let hash = hash(token);
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.known.len() >= table.sweep_at {
            table.known.retain(|_, known| known.principal.strong_count() > 0);
            table.sweep_at = (table.known.len() * 2).max(1024);
        }
        table.known.insert(hash, known);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().unwrap().known.len()
    }
}

/// A second token with the hash of a verified one would be let in, hence a hash that nobody can collide.
fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal() -> Arc<Principal> {
        Arc::new(Principal { subject: "s".into(), grants: Default::default(), expires_unix_ms: 1 })
    }

    #[test]
    fn a_principal_is_known_while_it_is_used() {
        let shared = Shared::default();
        let used = principal();
        shared.keep("token", &used, 7);
        let (found, not_before) = shared.find("token").unwrap();
        assert!(Arc::ptr_eq(&found, &used) && not_before == 7);
        assert!(shared.find("tokem").is_none());
        drop((found, used));
        assert!(shared.find("token").is_none());
    }

    #[test]
    fn the_table_does_not_grow_with_the_tokens_of_the_past() {
        let shared = Shared::default();
        let used = principal();
        shared.keep("used", &used, 0);
        for i in 0..10_000 {
            shared.keep(&i.to_string(), &principal(), 0);
        }
        assert!(shared.len() <= 1024, "{}", shared.len());
        assert!(shared.find("used").is_some());
    }
}
