//! A log of its own on the server that all test processes share.

use anabranch_brokers::{RabbitMq as Server, not_run, shared};
use anabranch_gateway::config::Secret;
use anabranch_gateway::log::rabbitmq::{self, Options, RabbitMq};
use anabranch_gateway::log::verified::{Patience, Verified};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

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
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
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
