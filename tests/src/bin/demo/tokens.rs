//! Tokens for the demo's three kinds of people: the page, the device and the developer. Each may do what it needs.

use crate::Failure;
use crate::state::State;
use anabranch_gateway::auth::NewToken;
use anabranch_gateway::config::Secret;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Long enough for an afternoon with the demo.
const DEVELOPER: Duration = Duration::from_secs(12 * 3600);

/// Signs with the demo's key.
#[derive(Clone)]
pub struct Minter {
    key: Arc<Secret>,
}

impl Minter {
    pub fn new(state: &State) -> Result<Minter, Failure> {
        Ok(Minter { key: Arc::new(Secret::from_file(state.key()?)) })
    }

    /// The page: sees every device, and may wish and command.
    pub fn page(&self, lives: Duration) -> String {
        let write = [
            "iotsphere/devices/+/shadow/desired",
            "iotsphere/devices/+/shadow/update",
            "iotsphere/devices/+/commands/request",
        ];
        self.mint("dashboard", lives, &["iotsphere/devices/#"], &write)
    }

    /// The device: says what it measures and what it does, hears what it should do, and answers commands.
    pub fn device(&self, lives: Duration) -> String {
        let write = [
            "iotsphere/devices/+/telemetry/#",
            "iotsphere/devices/+/shadow/reported",
            "iotsphere/devices/+/commands/response/+",
        ];
        let read = ["iotsphere/devices/+/shadow/+", "iotsphere/devices/+/commands/request"];
        self.mint("device-agent", lives, &read, &write)
    }

    /// The person at the terminal.
    pub fn developer(&self) -> String {
        self.mint("developer", DEVELOPER, &["#"], &["#"])
    }

    fn mint(&self, subject: &str, lives: Duration, read: &[&str], write: &[&str]) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let owned = |filters: &[&str]| filters.iter().map(|filter| filter.to_string()).collect();
        let token = NewToken {
            subject: subject.to_string(),
            issuer: "anabranch".to_string(),
            audience: "anabranch".to_string(),
            not_before: now,
            expires: now + lives.as_secs(),
            read: owned(read),
            write: owned(write),
            ..NewToken::default()
        };
        token.sign(&self.key)
    }
}
