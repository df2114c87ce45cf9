//! A broker is asked over and over whether this node may do what a name says; only a change is told.

use futures_util::stream::{BoxStream, StreamExt, unfold};
use std::time::Duration;
use tokio::time::sleep;

/// How one broker lets one node at a time do something.
pub(super) trait Claim: Send + 'static {
    /// Between two looks.
    const PAUSE: Duration;

    /// Whether this node has the duty now. Takes it if nobody has, and keeps it if this node has.
    fn look(&mut self) -> impl Future<Output = Result<bool, Forbidden>> + Send;
}

/// The broker does not let nodes agree on anything; why, and what it was asked for.
pub(super) struct Forbidden(pub String);

/// Asks for ever. See [`Log::duty`](super::Log::duty).
pub(super) fn changes(claim: impl Claim) -> BoxStream<'static, bool> {
    unfold(Asking { claim, said: None, forbidden: false }, |mut asking| async move {
        Some((asking.change().await, asking))
    })
    .boxed()
}

struct Asking<C> {
    claim: C,
    said: Option<bool>,
    forbidden: bool,
}

impl<C: Claim> Asking<C> {
    async fn change(&mut self) -> bool {
        loop {
            if self.said.is_some() {
                sleep(C::PAUSE).await;
            }
            let now = self.claim.look().await.unwrap_or_else(|why| self.everybody_acts(&why));
            if self.said.replace(now) != Some(now) {
                return now;
            }
        }
    }

    fn everybody_acts(&mut self, Forbidden(why): &Forbidden) -> bool {
        if !std::mem::replace(&mut self.forbidden, true) {
            tracing::warn!(
                "nodes cannot agree on who acts, so each does, which is wasteful and harmless: {why}"
            );
        }
        true
    }
}
