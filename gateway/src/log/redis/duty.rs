//! One node at a time does what a name says: its token stands beside the stream, for a while, unless it is renewed.
//!
//! Who cannot reach the server holds the duty no longer than the token stands there, by its own clock. After a failover that lost the
//! token, two may hold it.

use super::{Shared, script, trouble};
use futures_util::stream::{BoxStream, StreamExt, unfold};
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the token stands without being renewed.
const LIFE: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

struct Duty {
    shared: Arc<Shared>,
    name: String,
    token: String,
    said: Option<bool>,
    /// When it was asked that was answered last, if the answer was yes.
    held: Option<Instant>,
    forbidden: bool,
}

/// See [`Log::duty`](crate::log::Log::duty).
pub(super) fn hold(shared: Arc<Shared>, name: &str) -> BoxStream<'static, bool> {
    let token = uuid::Uuid::new_v4().to_string();
    let duty = Duty { shared, name: name.to_owned(), token, said: None, held: None, forbidden: false };
    unfold(duty, |mut duty| async move { Some((duty.change().await, duty)) }).boxed()
}

impl Duty {
    async fn change(&mut self) -> bool {
        loop {
            if self.said.is_some() {
                sleep(PAUSE).await;
            }
            let now = self.look().await;
            if self.said != Some(now) {
                self.said = Some(now);
                return now;
            }
        }
    }

    async fn look(&mut self) -> bool {
        let asked = Instant::now();
        let question = script::hold(&self.shared.keys[0], &self.name, &self.token, LIFE);
        match self.shared.links[0].ask(question).await {
            Ok(answer) => {
                self.held = (answer == Value::Int(1)).then_some(asked);
                self.held.is_some()
            }
            Err(error) if error.code().is_some() && !trouble::breaks_connection(&error) => {
                if !std::mem::replace(&mut self.forbidden, true) {
                    tracing::warn!(
                        duty = self.name,
                        "nodes cannot agree on who acts, so each does, which is wasteful and harmless: {}",
                        trouble::explain(&error)
                    );
                }
                true
            }
            Err(_) => self.held.is_some_and(|held| held.elapsed() < LIFE),
        }
    }
}
