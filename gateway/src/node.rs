//! One gateway process: what its shards, its HTTP service and its background tasks share.

use crate::auth::{Authenticator, Principal};
use crate::connection::session::{Doorkeeper, Millis, Refusal, Rules};
use crate::hub::canary::{self, Canary};
use crate::hub::publish::Publisher;
use crate::hub::registry::Registry;
use crate::hub::replay::Replay;
use crate::hub::upstream::Upstream;
use crate::log::Log;
use crate::shadow::Shadows;
use anabranch_protocol::code::Code;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::time::Instant;

/// What is shared.
pub struct Node {
    /// Names this process in logs.
    pub id: String,
    pub log: Arc<dyn Log>,
    pub publisher: Arc<Publisher>,
    pub replay: Arc<Replay>,
    pub registry: Arc<Registry>,
    pub canary: Arc<Canary>,
    pub upstream: Arc<Upstream>,
    pub authenticator: Arc<Authenticator>,
    pub rules: Rules,
    /// The shadows of devices, if that service is on.
    pub shadows: Option<Arc<Shadows>>,
    /// How much of the recent frames each shard keeps, in bytes.
    pub ring_bytes: usize,
    pub clock: Clock,
    draining: AtomicBool,
}

/// The two clocks of a node.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { began: Instant::now() }
    }

    /// Milliseconds since the process began: never goes back.
    pub fn now(&self) -> Millis {
        self.began.elapsed().as_millis() as Millis
    }

    /// The instant of a moment on the monotonic clock.
    pub fn instant(&self, at: Millis) -> Instant {
        self.began + std::time::Duration::from_millis(at)
    }

    /// Milliseconds since 1970: for tokens and for people.
    pub fn unix_ms(&self) -> u64 {
        crate::outside::unix_ms()
    }
}

/// The parts of a node that come from outside.
pub struct Parts {
    pub id: String,
    pub log: Arc<dyn Log>,
    pub authenticator: Arc<Authenticator>,
    pub registry: Arc<Registry>,
    pub rules: Rules,
    pub shadows: Option<Arc<Shadows>>,
    pub ring_bytes: usize,
}

impl Node {
    pub fn new(parts: Parts) -> Arc<Node> {
        let Parts { id, log, authenticator, registry, rules, shadows, ring_bytes } = parts;
        let publisher = Publisher::new(Arc::clone(&log));
        Arc::new(Node {
            replay: Replay::new(
                Arc::clone(&log),
                Arc::clone(&publisher),
                Arc::clone(&rules.classes),
                shadows.clone(),
            ),
            upstream: Arc::new(Upstream::new(log.capabilities().partitions)),
            publisher,
            canary: Arc::new(Canary::new(&id)),
            id,
            log,
            registry,
            authenticator,
            rules,
            shadows,
            ring_bytes,
            clock: Clock::start(),
            draining: AtomicBool::new(false),
        })
    }

    /// Whether this node takes connections: not while it drains, nor while its own canary does not come back,
    /// nor with a partition out of reach: the canary is in one of them only.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.canary.sings() && !self.upstream.is_lost(canary::LATE)
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
}

impl Doorkeeper for Node {
    fn verify(&self, token: &str, unix_ms: u64) -> Result<Arc<Principal>, Refusal> {
        self.authenticator
            .verify(token, unix_ms)
            .map_err(|error| Refusal::new(error.code(), error.to_string()))
    }

    fn admit(&self, principal: &Principal) -> Result<(), Refusal> {
        if self.registry.has_room_for(&principal.subject) {
            Ok(())
        } else {
            Err(Refusal::plain(Code::TOO_MANY_CONNECTIONS))
        }
    }

    fn is_reserved(&self, topic: &str) -> bool {
        self.shadows.as_ref().is_some_and(|shadows| shadows.is_reserved(topic))
    }

    fn fresh_id(&self) -> String {
        crate::outside::fresh_id()
    }
}
