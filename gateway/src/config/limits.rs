//! Sections `limits`, `heartbeat` and `drain`.

use super::reader::Reader;
use super::value::{duration, size, whole};
use anabranch_protocol::limits;
use std::time::Duration;

/// Section `limits`: what a client may use. What both sides must know is in the `welcome` frame, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Connections of this node. Default 100,000. The process needs as many file descriptors and some more.
    pub connections: usize,
    /// Connections from one address. Default 10,000. Behind a proxy all come from one address: set it to `connections`.
    pub connections_per_address: usize,
    /// Connections of one subject. Default 1,000.
    pub connections_per_subject: usize,
    /// Subscriptions on one connection. Default and most 256.
    pub subscriptions: usize,
    /// Publishes of one connection that wait for their confirm. Default and most 256.
    pub publishes_in_flight: usize,
    /// Largest envelope. Default and most 256KiB, at least 1KiB.
    pub envelope: usize,
    /// Recent frames that each shard keeps, for clients that are a little behind. Default 64MiB, at least 1MiB.
    pub ring: usize,
    /// Newest values of state topics that the node keeps, in bytes of memory. Default 256MiB, at least 1MiB. When there are
    /// more, deleted ones go first, then the oldest; snapshots that this concerns say that they are not complete.
    pub newest: usize,
    /// Time from the socket's opening to `hello`. Default 10s.
    pub hello: Duration,
}

/// Section `heartbeat`: how soon a dead connection is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// How often the gateway pings. Default 25s: many proxies cut what is silent for 30.
    pub interval: Duration,
    /// How long after a missed ping a connection counts as dead. Default 10s.
    pub grace: Duration,
}

/// Section `drain`: what happens on SIGTERM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainConfig {
    /// Over how long the clients are told to come back elsewhere, each at a time of its own. Default 10s.
    pub spread: Duration,
    /// How long to wait for them before closing what is left. Default 20s; at least `spread`.
    pub patience: Duration,
}

const MS: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for LimitsConfig {
    fn default() -> Self {
        LimitsConfig {
            connections: 100_000,
            connections_per_address: 10_000,
            connections_per_subject: 1_000,
            subscriptions: limits::SUBSCRIPTIONS,
            publishes_in_flight: limits::PUBLISHES_IN_FLIGHT,
            envelope: limits::ENVELOPE_BYTES,
            ring: 64 << 20,
            newest: 256 << 20,
            hello: Duration::from_secs(10),
        }
    }
}

impl LimitsConfig {
    pub(super) fn read(reader: &mut Reader) -> LimitsConfig {
        const CONNECTIONS: usize = 10_000_000;
        let d = LimitsConfig::default();
        let bytes =
            |low: u64, high: usize| move |raw: &_| size(low..=high as u64)(raw).map(|bytes| bytes as usize);
        LimitsConfig {
            connections: reader.read("limits.connections", d.connections, whole(1..=CONNECTIONS)),
            connections_per_address: reader.read(
                "limits.connections_per_address",
                d.connections_per_address,
                whole(1..=CONNECTIONS),
            ),
            connections_per_subject: reader.read(
                "limits.connections_per_subject",
                d.connections_per_subject,
                whole(1..=CONNECTIONS),
            ),
            subscriptions: reader.read(
                "limits.subscriptions",
                d.subscriptions,
                whole(1..=limits::SUBSCRIPTIONS),
            ),
            publishes_in_flight: reader.read(
                "limits.publishes_in_flight",
                d.publishes_in_flight,
                whole(1..=limits::PUBLISHES_IN_FLIGHT),
            ),
            envelope: reader.read("limits.envelope", d.envelope, bytes(1 << 10, limits::ENVELOPE_BYTES)),
            ring: reader.read("limits.ring", d.ring, bytes(1 << 20, 1 << 40)),
            newest: reader.read("limits.newest", d.newest, bytes(1 << 20, 1 << 40)),
            hello: reader.read("limits.hello", d.hello, duration(100 * MS..=600_000 * MS)),
        }
    }
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        HeartbeatConfig { interval: Duration::from_secs(25), grace: Duration::from_secs(10) }
    }
}

impl HeartbeatConfig {
    pub(super) fn read(reader: &mut Reader) -> HeartbeatConfig {
        let d = HeartbeatConfig::default();
        HeartbeatConfig {
            interval: reader.read("heartbeat.interval", d.interval, duration(100 * MS..=3_600_000 * MS)),
            grace: reader.read("heartbeat.grace", d.grace, duration(100 * MS..=3_600_000 * MS)),
        }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        DrainConfig { spread: Duration::from_secs(10), patience: Duration::from_secs(20) }
    }
}

impl DrainConfig {
    pub(super) fn read(reader: &mut Reader) -> DrainConfig {
        let d = DrainConfig::default();
        let spread = reader.read("drain.spread", d.spread, duration(Duration::ZERO..=DAY));
        let patience = reader.read("drain.patience", d.patience.max(spread), duration(Duration::ZERO..=DAY));
        if patience < spread
            && let Some(setting) = reader.find("drain.patience")
        {
            let text = format!("drain.patience: expected at least drain.spread, which is {spread:?}");
            reader.mistake(setting.place, text);
        }
        DrainConfig { spread, patience }
    }
}
