//! Puts messages straight on a broker, as devices and services do that have never heard of the gateway.

mod amqp;

use crate::broker::Address;
use amqp::Amqp;
use anyhow::Result;
use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;

/// The gateway's default exchange, and its default stream.
const NAME: &str = "iotsphere";

/// Connections to a broker.
pub enum Publisher {
    /// A topic is always published by the same one, so its messages stay in order.
    RabbitMq(Vec<Amqp>),
    Redis(MultiplexedConnection),
}

impl Publisher {
    /// Over so many connections. RabbitMQ slows each one down by itself: it takes only so much that is not on the disk.
    pub async fn connect(address: &Address, connections: usize) -> Result<Publisher> {
        Ok(match address {
            Address::RabbitMq { port } => {
                let connecting = (0..connections.max(1)).map(|_| Amqp::connect(*port));
                Publisher::RabbitMq(try_join_all(connecting).await?)
            }
            Address::Redis { url } => {
                let client = redis::Client::open(url.as_str())?;
                Publisher::Redis(client.get_multiplexed_async_connection().await?)
            }
        })
    }

    /// Hands some messages to the broker, in order: topics and envelopes.
    pub async fn publish(&mut self, messages: &[(String, String)]) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        match self {
            Publisher::RabbitMq(connections) => {
                let count = connections.len();
                for (topic, envelope) in messages {
                    let sum: usize = topic.bytes().map(usize::from).sum();
                    connections[sum % count].publish(NAME, &topic.replace('/', "."), envelope.as_bytes());
                }
                connections.iter().try_for_each(Amqp::check)?;
                try_join_all(connections.iter_mut().map(Amqp::flush)).await?;
            }
            Publisher::Redis(connection) => {
                let mut pipeline = redis::pipe();
                for (topic, envelope) in messages {
                    let command = pipeline.cmd("XADD").arg(NAME).arg("*");
                    command.arg("topic").arg(topic).arg("envelope").arg(envelope).ignore();
                }
                pipeline.exec_async(connection).await?;
            }
        }
        Ok(())
    }

    /// Returns when the broker has taken everything.
    pub async fn finish(self) -> Result<()> {
        match self {
            Publisher::RabbitMq(connections) => {
                try_join_all(connections.into_iter().map(Amqp::finish)).await.map(drop)
            }
            // A pipeline ends with the last of its answers.
            Publisher::Redis(_) => Ok(()),
        }
    }
}
