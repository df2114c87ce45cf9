//! A private broker for one run, and its CPU time.

use anabranch_brokers::{RabbitMq, RabbitMqOptions, Redis, RedisOptions};
use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Rabbitmq,
    Redis,
}

/// Where a broker takes messages.
#[derive(Clone, Debug)]
pub enum Address {
    RabbitMq { port: u16 },
    Redis { url: String },
}

/// A broker of this run. It ends when this is dropped.
pub struct Broker {
    server: Server,
    _folder: TempDir,
}

enum Server {
    RabbitMq(RabbitMq),
    Redis(Redis),
}

impl Broker {
    pub fn start(kind: Kind) -> Result<Broker> {
        let folder = tempfile::tempdir()?;
        let server = match kind {
            Kind::Rabbitmq => Server::RabbitMq(RabbitMq::start(RabbitMqOptions::new(folder.path()))?),
            Kind::Redis => Server::Redis(Redis::start(RedisOptions::new(folder.path()))?),
        };
        Ok(Broker { server, _folder: folder })
    }

    /// For the gateway's `--log`, with the defaults of everything.
    pub fn url(&self) -> String {
        match &self.server {
            Server::RabbitMq(server) => server.url(),
            Server::Redis(server) => server.url(),
        }
    }

    /// For who publishes there.
    pub fn address(&self) -> Address {
        match &self.server {
            Server::RabbitMq(server) => Address::RabbitMq { port: server.amqp_port() },
            Server::Redis(server) => Address::Redis { url: server.url() },
        }
    }

    /// Lets RabbitMQ believe that it is low on memory, or that it is so no longer. It then takes nothing from publishers.
    pub fn memory_alarm(&self, raised: bool) -> Result<()> {
        match &self.server {
            Server::RabbitMq(server) => Ok(server.memory_alarm(raised)?),
            Server::Redis(_) => bail!("Redis has no alarm"),
        }
    }

    pub fn pid(&self) -> Result<u32> {
        let pid = match &self.server {
            Server::RabbitMq(server) => server.pid(),
            Server::Redis(server) => server.pid(),
        };
        pid.context("the broker has ended")
    }
}
