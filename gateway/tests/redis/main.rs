//! Redis Streams as the log, on real servers.

#![cfg(feature = "redis")]

mod cluster;
mod conformance;
mod doors;
mod failover;
mod foreign;
mod forgetting;
mod histories;
mod kit;
mod outages;
mod partitions;
mod relay;
mod transient;
mod untold;
