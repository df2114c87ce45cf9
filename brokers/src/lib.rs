//! Private RabbitMQ and Redis servers, from the programs that Debian's packages install: on ports of their own, in
//! folders of their own, with an Erlang port mapper of their own. No service of the system is touched, and nothing
//! outside the folder is written.
//!
//! Two ways to have one:
//!
//! * [`RabbitMq::start`] and [`Redis::start`]: a server that belongs to the caller, who may kill, freeze and restart it.
//!   It ends when the value is dropped.
//! * [`shared::rabbitmq`] and [`shared::redis`]: one server for all tests of a run, whichever process they run in. The
//!   first caller starts it, it stays, and [`shared::stop`] ends it. Tests keep apart by names of their own (virtual
//!   hosts, exchanges, queues, keys), and do nothing to it that others would notice.
//!
//! # Servers of another version
//!
//! The programs are those of the system, or those in the folders that `ANABRANCH_RABBITMQ_BIN` and `ANABRANCH_REDIS_BIN`
//! name ([`installation`]).
//!
//! # Where a server cannot be had
//!
//! Every start returns [`Unavailable`], which says in one line what is missing and how to get it. A test passes it to
//! [`not_run`], which prints `not run, because …` and returns; where the environment says `CI=true` it panics, so that
//! a run in CI cannot pass without the brokers. `cargo xtask test` installs the packages beforehand where it may, names a
//! file to the tests by `ANABRANCH_NOT_RUN`, where they write the line too, and counts those tests as not run instead of
//! passed. A server that is installed and does not start is a failure everywhere.

pub mod installation;
pub mod ports;
mod process;
pub mod rabbitmq;
pub mod redis;
mod server;
pub mod shared;
mod state;
mod unavailable;
mod wait;

pub use rabbitmq::{RabbitMq, RabbitMqOptions};
pub use redis::{Redis, RedisCluster, RedisOptions};
pub use unavailable::{Unavailable, not_run};
