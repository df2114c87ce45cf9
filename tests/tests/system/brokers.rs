//! Real brokers for the system's tests.

use anabranch_brokers::{RabbitMq, Redis, Unavailable, not_run};
use anabranch_gateway::config::Secret;
use anabranch_gateway::log::rabbitmq;
use anabranch_gateway::log::verified::{Patience, Verified};
use anabranch_tests::gateway_process::Gateway;
use anabranch_tests::http_client::request;
use anabranch_tests::tokens;
use serde_json::{Value, json};

/// What was started, or nothing where the broker is not installed.
pub fn had<T>(started: Result<T, Unavailable>) -> Option<T> {
    started.inspect_err(not_run).ok()
}

/// The setting `log` for a stream that nobody else uses.
pub fn redis_log(server: &Redis) -> String {
    format!("{}?stream=t{:016x}", server.url(), rand::random::<u64>())
}

/// The same on RabbitMQ, with an exchange of its own too.
pub fn rabbitmq_log(server: &RabbitMq) -> String {
    let name = format!("t{:016x}", rand::random::<u64>());
    format!("{}?exchange={name}-exchange&queue={name}", server.url())
}

/// Publishes one message by HTTP, once, and returns the refusal.
pub async fn publish_once(gateway: &Gateway) -> Value {
    let authorization = format!("Bearer {}", tokens::all("plant"));
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let envelope = json!({ "metadata": { "topic": "elsewhere" }, "payload": 1 }).to_string();
    let answer = request(gateway.address(), "POST", "/v1/publish", &headers, envelope.as_bytes()).await;
    let answer = answer.expect("an answer").json();
    answer["results"][0].clone()
}

/// The smallest segments that RabbitMQ makes; it forgets whole ones.
const SEGMENT: u64 = 64 << 10;

/// A stream queue of RabbitMQ, and what an operator, or a stranger, does to it.
#[derive(Clone, Debug)]
pub struct Queue<'a> {
    server: &'a RabbitMq,
    name: String,
}

impl<'a> Queue<'a> {
    /// One that nobody else uses, of the smallest segments, which keeps everything. With the setting `log` for it.
    pub fn fresh(server: &'a RabbitMq) -> (Queue<'a>, String) {
        let name = format!("t{:016x}", rand::random::<u64>());
        let log =
            format!("{}?exchange={name}-exchange&queue={name}&segment={SEGMENT}&retention=all", server.url());
        (Queue { server, name }, log)
    }

    /// The same log, opened by the test itself.
    pub async fn open(&self) -> Verified<rabbitmq::RabbitMq> {
        let server = rabbitmq::Server {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: self.server.amqp_port(),
            vhost: "/".to_owned(),
            user: "guest".to_owned(),
            password: Secret::new("guest"),
        };
        let options = rabbitmq::Options {
            exchange: format!("{}-exchange", self.name),
            queue: self.name.clone(),
            segment_bytes: SEGMENT,
            retention_bytes: None,
            ..rabbitmq::Options::at(server)
        };
        rabbitmq::open(options, Patience::default()).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Keeps no more than so many bytes, from now on.
    pub fn keep(&self, bytes: u64) {
        let Queue { name, .. } = self;
        self.eval(&format!(
            "rabbit_policy:set(<<\"/\">>, <<\"{name}\">>, <<\"^{name}$\">>, [{{<<\"max-length-bytes\">>, {bytes}}}], \
             0, <<\"queues\">>, <<\"tests\">>)"
        ));
    }

    pub fn delete(&self) {
        self.eval(&self.deletion());
    }

    /// Deletes it and declares it again, faster than anybody can notice.
    pub fn replace(&self) {
        self.eval(&format!(
            "{}, {{new, _}} = rabbit_amqqueue:declare({}, true, false, \
             [{{<<\"x-queue-type\">>, longstr, <<\"stream\">>}}, \
              {{<<\"x-stream-max-segment-size-bytes\">>, long, {SEGMENT}}}], none, <<\"tests\">>), ok",
            self.deletion(),
            self.resource()
        ));
    }

    fn resource(&self) -> String {
        format!("rabbit_misc:r(<<\"/\">>, queue, <<\"{}\">>)", self.name)
    }

    fn deletion(&self) -> String {
        let resource = self.resource();
        format!(
            "{{ok, _}} = rabbit_amqqueue:with({resource}, fun(Q) -> rabbit_amqqueue:delete(Q, false, false, <<\"tests\">>) end)"
        )
    }

    fn eval(&self, expressions: &str) {
        let answer = self.server.eval(expressions).unwrap_or_else(|error| panic!("{error}"));
        assert!(answer.starts_with("ok") || answer.starts_with("{ok"), "{answer}");
    }
}
