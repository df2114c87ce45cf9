//! A log of its own on the server that all test processes share.

use anabranch_brokers::{RabbitMq as Server, RabbitMqOptions, not_run, shared};
use anabranch_gateway::config::Secret;
use anabranch_gateway::log::conformance::record;
use anabranch_gateway::log::rabbitmq::{self, Options, RabbitMq};
use anabranch_gateway::log::verified::{Patience, Verified};
use anabranch_gateway::log::{AppendError, Log, Record};
use anabranch_protocol::cursor::Position;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm};
use std::time::Duration;
use tokio::time::timeout;

/// Doubts and retries sooner than in earnest.
pub fn quick() -> Patience {
    Patience {
        quiet: Duration::from_millis(200),
        stalled: Duration::from_millis(300),
        backoff: Duration::from_millis(20),
        backoff_max: Duration::from_millis(200),
    }
}

/// The server that all share; `None` where there is none, which is then said.
pub fn server() -> Option<Server> {
    shared::rabbitmq().map_err(|why| not_run(&why)).ok()
}

/// An exchange and a stream that nobody else uses.
pub fn options(server: &Server) -> Options {
    // The server outlives this run, so a number that counts would come again.
    let name = format!("t{:016x}", getrandom::u64().expect("random numbers"));
    Options {
        exchange: format!("{name}-exchange"),
        queue: name,
        retention_bytes: None,
        ..Options::at(address(server))
    }
}

/// Where a server is.
pub fn address(server: &Server) -> rabbitmq::Server {
    rabbitmq::Server {
        tls: false,
        host: "127.0.0.1".to_owned(),
        port: server.amqp_port(),
        vhost: "/".to_owned(),
        user: "guest".to_owned(),
        password: Secret::new("guest"),
    }
}

/// The log of these options.
pub async fn open(options: &Options) -> Verified<RabbitMq> {
    rabbitmq::open(options.clone(), quick()).await.unwrap_or_else(|why| panic!("{why}"))
}

/// Sets by a policy how many bytes a stream keeps, which takes effect at once.
pub fn keep(server: &Server, queue: &str, bytes: u64) {
    let set = format!(
        "rabbit_policy:set(<<\"/\">>, <<\"{queue}\">>, <<\"^{queue}$\">>, \
         [{{<<\"max-length-bytes\">>, {bytes}}}], 0, <<\"queues\">>, <<\"tests\">>)"
    );
    let answer = server.eval(&set).expect("the broker takes a policy");
    assert_eq!(answer, "ok");
}

/// A server of the test's own, to be killed, frozen or alarmed. It ends with the value.
pub async fn own_server() -> Option<(tempfile::TempDir, Server)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = RabbitMqOptions::new(folder.path());
    let started = tokio::task::spawn_blocking(|| Server::start(options)).await.expect("no panic");
    started.map_err(|why| not_run(&why)).ok().map(|server| (folder, server))
}

/// A publisher that has never heard of us.
pub struct Foreign {
    _connection: Connection,
    pub channel: Channel,
    exchange: String,
}

impl Foreign {
    pub async fn new(options: &Options) -> Foreign {
        let uri = format!("amqp://guest:guest@127.0.0.1:{}/%2f", options.server.port);
        let connection =
            Connection::connect(&uri, ConnectionProperties::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Foreign { _connection: connection, channel, exchange: options.exchange.clone() }
    }

    /// Publishes, and waits for the confirm.
    pub async fn publish(&self, key: &str, body: &[u8]) {
        self.send(key, body).await.await.expect("a confirm");
    }

    /// Publishes.
    pub async fn send(&self, key: &str, body: &[u8]) -> PublisherConfirm {
        let properties = BasicProperties::default();
        let exchange = self.exchange.as_str().into();
        let published = self.channel.basic_publish(
            exchange,
            key.into(),
            BasicPublishOptions::default(),
            body,
            properties,
        );
        published.await.expect("published")
    }

    /// Declares a stream with the broker's defaults.
    pub async fn stream(&self, queue: &str) {
        self.declare(queue, FieldTable::default()).await;
    }

    /// Declares a stream as a gateway does that keeps everything.
    pub async fn stream_as(&self, queue: &str, segment_bytes: u64) {
        let mut arguments = FieldTable::default();
        let segment = AMQPValue::LongLongInt(segment_bytes as i64);
        arguments.insert("x-stream-max-segment-size-bytes".into(), segment);
        self.declare(queue, arguments).await;
    }

    async fn declare(&self, queue: &str, mut arguments: FieldTable) {
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
        let how = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), how, arguments).await.expect("declared");
    }

    /// Publishes straight to a queue, and waits for the confirm.
    pub async fn publish_to(&self, queue: &str, body: &[u8]) {
        let how = BasicPublishOptions::default();
        let published =
            self.channel.basic_publish("".into(), queue.into(), how, body, BasicProperties::default()).await;
        published.expect("published").await.expect("a confirm");
    }

    /// Deletes a queue.
    pub async fn delete(&self, queue: &str) {
        let deleted = self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        deleted.expect("deleted");
    }
}

/// What a record of [`Foreign`] holds.
pub fn payload(record: &Record) -> String {
    let envelope: serde_json::Value = serde_json::from_slice(&record.envelope).expect("an envelope");
    envelope["payload"].to_string()
}

/// Appends as a publisher does that obeys: again, as long as it is told to retry.
pub async fn append_when_possible(log: &dyn Log, n: u64) -> Position {
    let appended = async {
        loop {
            match log.append(record(n)).await {
                Ok(position) => return position,
                Err(AppendError::Blocked(_) | AppendError::Unknown(_)) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    timeout(Duration::from_secs(20), appended).await.expect("appends work again")
}
