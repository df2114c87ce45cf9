//! Puts messages straight on a broker, as devices and services do that have never heard of the gateway.

use crate::broker::Kind;
use anyhow::Result;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use redis::aio::MultiplexedConnection;

/// The gateway's default exchange, and its default stream.
const NAME: &str = "iotsphere";

/// A connection to a broker.
#[expect(clippy::large_enum_variant, reason = "there is one in the whole program")]
pub enum Publisher {
    RabbitMq {
        channel: Channel,
        /// Kept, because its channels end with it.
        _connection: Connection,
    },
    Redis(MultiplexedConnection),
}

impl Publisher {
    pub async fn connect(kind: Kind, url: &str) -> Result<Publisher> {
        Ok(match kind {
            Kind::Rabbitmq => {
                let connection = Connection::connect(url, ConnectionProperties::default()).await?;
                let channel = connection.create_channel().await?;
                Publisher::RabbitMq { channel, _connection: connection }
            }
            Kind::Redis => {
                Publisher::Redis(redis::Client::open(url)?.get_multiplexed_async_connection().await?)
            }
        })
    }

    /// Hands some messages to the broker, in order: topics and envelopes.
    pub async fn publish(&mut self, messages: &[(String, String)]) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        match self {
            Publisher::RabbitMq { channel, .. } => {
                for (topic, envelope) in messages {
                    let key = topic.replace('/', ".");
                    channel
                        .basic_publish(
                            NAME.into(),
                            key.as_str().into(),
                            BasicPublishOptions::default(),
                            envelope.as_bytes(),
                            BasicProperties::default(),
                        )
                        .await?;
                }
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
}
