//! Conditions with deadlines: a server tells nobody when it is ready.

use crate::unavailable::Unavailable;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);

/// Asks again and again until there is an answer; an error from `ask` ends it at once.
pub(crate) fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>, Unavailable>,
) -> Result<T, Unavailable> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(Unavailable::failed(format!("not within {} s: {what}", patience.as_secs())));
        }
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "between two questions, not in the place of one")]
fn pause() {
    std::thread::sleep(PAUSE);
}
