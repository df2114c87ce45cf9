//! The suite that every log passes.

use crate::kit::{keep, open, options, server};
use anabranch_brokers::RabbitMq as Server;
use anabranch_gateway::log::Log;
use anabranch_gateway::log::conformance::{Harness, PATIENCE};
use anabranch_gateway::log::rabbitmq::{Options, RabbitMq};
use anabranch_gateway::log::verified::Verified;
use anabranch_protocol::cursor::Offset;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;
use std::time::Instant;

struct Rabbit {
    server: Server,
    options: Options,
    log: Option<Verified<RabbitMq>>,
}

/// The smallest segments that RabbitMQ makes are larger, see `forget`.
const SEGMENT: u64 = 64 << 10;

impl Rabbit {
    async fn fresh() -> Option<Rabbit> {
        let server = server()?;
        let options = Options { segment_bytes: SEGMENT, ..options(&server) };
        let log = Some(open(&options).await);
        Some(Rabbit { server, options, log })
    }

    fn open(&self) -> &Verified<RabbitMq> {
        self.log.as_ref().expect("the log is open")
    }

    async fn oldest(&self) -> Offset {
        self.open().bounds(0).await.expect("bounds").oldest
    }
}

impl Harness for Rabbit {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.open().clone())
    }

    fn forget(&mut self) -> BoxFuture<'_, bool> {
        async {
            let oldest = self.oldest().await;
            let last = self.open().bounds(0).await.expect("bounds").last;
            if last.0.saturating_sub(oldest.0) < 500 {
                return false; // All in one segment, which stays.
            }
            keep(&self.server, &self.options.queue, 2 * SEGMENT);
            let begun = Instant::now();
            while self.oldest().await == oldest {
                assert!(begun.elapsed() < PATIENCE, "the broker forgets nothing");
            }
            true
        }
        .boxed()
    }

    fn reopen(&mut self) -> BoxFuture<'_, bool> {
        async {
            if let Some(log) = self.log.take() {
                log.close();
            }
            self.log = Some(open(&self.options).await);
            true
        }
        .boxed()
    }
}

anabranch_gateway::log_conformance!(try Rabbit::fresh);
