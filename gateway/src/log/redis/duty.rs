//! One node at a time does what a name says: its token stands beside the stream, for a while, unless it is renewed.
//!
//! Who cannot reach the server holds the duty no longer than the token stands there, by its own clock. After a failover that lost the
//! token, two may hold it.

use super::{Shared, script, trouble};
use crate::log::duty::{Claim, Forbidden, changes};
use futures_util::stream::BoxStream;
use redis::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the token stands without being renewed.
const LIFE: Duration = Duration::from_secs(3);

struct Duty {
    shared: Arc<Shared>,
    name: String,
    token: String,
    /// When it was asked that was answered last, if the answer was yes.
    held: Option<Instant>,
}

/// See [`Log::duty`](crate::log::Log::duty).
pub(super) fn hold(shared: Arc<Shared>, name: &str) -> BoxStream<'static, bool> {
    let token = uuid::Uuid::new_v4().to_string();
    changes(Duty { shared, name: name.to_owned(), token, held: None })
}

impl Claim for Duty {
    const PAUSE: Duration = Duration::from_millis(500);

    async fn look(&mut self) -> Result<bool, Forbidden> {
        let asked = Instant::now();
        let question = script::hold(&self.shared.keys[0], &self.name, &self.token, LIFE);
        match self.shared.links[0].ask(question).await {
            Ok(answer) => {
                self.held = (answer == Value::Int(1)).then_some(asked);
                Ok(self.held.is_some())
            }
            Err(error) if error.code().is_some() && !trouble::breaks_connection(&error) => {
                Err(Forbidden(format!("the duty {:?}: {}", self.name, trouble::explain(&error))))
            }
            Err(_) => Ok(self.held.is_some_and(|held| held.elapsed() < LIFE)),
        }
    }
}
