//! The app's token provider: one request at a time, on a task of its own, so that its panic is only its failure.

use anabranch_sdk_core::TokenWhy;
use futures_util::future::BoxFuture;
use std::future::pending;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Where tokens come from. Errors are texts, for people.
pub(crate) type Provider = Arc<dyn Fn(TokenWhy) -> Answer + Send + Sync>;
type Answer = BoxFuture<'static, Result<String, String>>;

/// Always the same token.
pub(crate) fn fixed(token: String) -> Provider {
    Arc::new(move |_| {
        let token = token.clone();
        Box::pin(async move { Ok(token) })
    })
}

/// The request under way.
pub(crate) struct Request {
    running: Option<(u32, JoinHandle<Result<String, String>>)>,
}

impl Request {
    pub(crate) fn none() -> Request {
        Request { running: None }
    }

    /// Starts a request. An older one is given up: its answer would be ignored.
    pub(crate) fn start(&mut self, number: u32, answer: Answer) {
        self.abort();
        self.running = Some((number, tokio::spawn(answer)));
    }

    /// The answer, and which request it is for. Waits for ever if there is none. Cancel safe.
    pub(crate) async fn answer(&mut self) -> (u32, Result<String, String>) {
        let Some((number, running)) = &mut self.running else { return pending().await };
        let answer = running.await.unwrap_or_else(|error| Err(format!("the token provider failed: {error}")));
        let number = *number;
        self.running = None;
        (number, answer)
    }

    fn abort(&mut self) {
        if let Some((_, running)) = self.running.take() {
            running.abort();
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.abort();
    }
}
