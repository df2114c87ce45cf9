//! The suite that every log passes.

use crate::kit::{open, options, server};
use anabranch_gateway::log::Log;
use anabranch_gateway::log::conformance::Harness;
use anabranch_gateway::log::redis::{Options, RedisSource};
use anabranch_gateway::log::verified::Verified;
use futures_util::future::{BoxFuture, FutureExt};
use std::sync::Arc;

struct Redis {
    options: Options,
    log: Option<Verified<RedisSource>>,
}

impl Redis {
    async fn fresh() -> Option<Redis> {
        let options = options(&server()?);
        let log = Some(open(&options).await);
        Some(Redis { options, log })
    }

    fn open(&self) -> &Verified<RedisSource> {
        self.log.as_ref().expect("the log is open")
    }
}

impl Harness for Redis {
    fn log(&self) -> Arc<dyn Log> {
        Arc::new(self.open().clone())
    }

    fn forget(&mut self) -> BoxFuture<'_, bool> {
        async { self.open().source().forget_half(0).await.expect("the server answers") }.boxed()
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

anabranch_gateway::log_conformance!(try Redis::fresh);
