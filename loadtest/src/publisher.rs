//! Puts messages straight on a broker, as devices and services do that have never heard of the gateway.

mod amqp;

use crate::broker::Address;
use amqp::Amqp;
use anyhow::Result;
use redis::aio::MultiplexedConnection;

/// The gateway's default exchange, and its default stream.
const NAME: &str = "iotsphere";

/// A connection to a broker.
pub enum Publisher {
    RabbitMq(Amqp),
    Redis(MultiplexedConnection),
}

impl Publisher {
    pub async fn connect(address: &Address) -> Result<Publisher> {
        Ok(match address {
            Address::RabbitMq { port } => Publisher::RabbitMq(Amqp::connect(*port).await?),
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
            Publisher::RabbitMq(amqp) => {
                amqp.check()?;
                for (topic, envelope) in messages {
                    amqp.publish(NAME, &topic.replace('/', "."), envelope.as_bytes());
                }
                amqp.flush().await?;
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
            Publisher::RabbitMq(amqp) => amqp.finish().await,
            // A pipeline ends with the last of its answers.
            Publisher::Redis(_) => Ok(()),
        }
    }
}
