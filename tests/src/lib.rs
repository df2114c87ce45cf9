//! The kit of the whole-system tests: everything that stands around a gateway when it is tried in earnest.
//!
//! | module | what it gives |
//! |---|---|
//! | [`brokers`] | real brokers, and the MQTT clients of other people |
//! | [`gateway_process`] | the real `anabranch` binary as a child: started, killed, drained, started again on its port |
//! | [`proxy`] | a TCP proxy that misbehaves on command |
//! | [`raw_client`] | a WebSocket client that speaks byte by byte, so that it can break every rule |
//! | [`http_client`] | just enough HTTP/1.1 to publish, and to send what no library would |
//! | [`tokens`] | tokens for anybody, to read and write anything |
//! | [`publisher`] | publishers that retry under the same message id until they have a confirm |
//! | [`ledger`] | what was confirmed, against what each client saw: lost, doubled, out of order |
//! | [`herd`] | thousands of bare cores in one process, each with a diary of what it decided and when |
//! | [`spread`] | whether many moments are spread as they should be, as a statistical test |
//! | [`wait`] | conditions with deadlines, in the place of sleeps |
//!
//! A test takes its own gateway with its own folder and port, and ends it by dropping it.

#![forbid(unsafe_code)]

pub mod brokers;
pub mod gateway_process;
pub mod herd;
pub mod http_client;
pub mod ledger;
pub mod proxy;
pub mod publisher;
pub mod raw_client;
pub mod spread;
pub mod tokens;
pub mod wait;
