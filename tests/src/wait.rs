//! Conditions with deadlines, in the place of sleeps.

use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Long enough for anything that is expected to happen on a machine with other work to do.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a future, at most [`PATIENCE`]. Panics with what it waited for.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Asks again and again until there is an answer, at most [`PATIENCE`]: for conditions that nobody signals.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        pause().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "between two questions, not in the place of one")]
pub(crate) async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

/// Asks again and again, at most for so long; says whether it was met. For what a test wants to report, not only fail at.
pub async fn met_within(patience: Duration, mut met: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if met().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        pause().await;
    }
}
