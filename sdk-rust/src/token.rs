//! Tokens that the app fetches when it is asked, without being called back.

use crate::driver::Provider;
use anabranch_sdk_core::TokenWhy;
use std::fmt;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Asks for tokens, one at a time: for those who cannot give the client a function, such as other languages behind a foreign function interface. See
/// [`ClientBuilder::token_requests`](crate::ClientBuilder::token_requests).
#[derive(Debug)]
pub struct TokenRequests {
    asked: mpsc::Receiver<TokenRequest>,
}

impl TokenRequests {
    /// Waits until a token is needed; `None` when the client has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<TokenRequest> {
        loop {
            let request = self.asked.recv().await?;
            // One that was given up meanwhile stands before the one that counts.
            if !request.answer.is_closed() {
                return Some(request);
            }
        }
    }
}

/// A token is needed. Dropping this is as good as [`fail`](TokenRequest::fail).
pub struct TokenRequest {
    why: TokenWhy,
    answer: oneshot::Sender<Result<String, String>>,
}

impl TokenRequest {
    /// Why it is needed. With [`TokenWhy::Rejected`], do not answer with a cached copy.
    pub fn why(&self) -> TokenWhy {
        self.why
    }

    /// Here it is. An answer that comes after 30 s is ignored: there is another request by then.
    pub fn answer(self, token: impl Into<String>) {
        // Given up meanwhile.
        let _ = self.answer.send(Ok(token.into()));
    }

    /// There is none now; the client asks again later. `why` is for people, see [`Client::last_failure`](crate::Client::last_failure).
    pub fn fail(self, why: impl Into<String>) {
        let _ = self.answer.send(Err(why.into()));
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest").field("why", &self.why).finish_non_exhaustive()
    }
}

/// A provider that passes the client's questions on.
pub(crate) fn requests() -> (Provider, TokenRequests) {
    let (ask, asked) = mpsc::channel(1);
    let provider: Provider = Arc::new(move |why| {
        let ask = ask.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let nobody = || "nobody answers requests for tokens".to_owned();
            ask.send(TokenRequest { why, answer }).await.map_err(|_| nobody())?;
            answered.await.map_err(|_| nobody())?
        })
    });
    (provider, TokenRequests { asked })
}
