//! A gateway in the process of whoever tries a client on it.

use crate::auth::Authenticator;
use crate::config::{Config, Flag, Sources};
use crate::gateway::Gateway;
use crate::log::open::Opened;
use crate::serve;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::runtime::Builder;
use tokio::time::timeout;

/// Longer than any example takes on a machine with other work to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway as `anabranch serve --dev` starts it, with shadows, on a free port of loopback. Ends when it is dropped.
pub struct Playground {
    url: String,
    token: String,
    _gateway: Gateway,
    _log: Opened,
}

impl Playground {
    /// Starts it on the runtime in which this is called.
    ///
    /// # Panics
    /// It cannot be started.
    pub async fn start() -> Playground {
        let set = |key: &str, value: &str| Flag::new("--set", key, value);
        let flags = vec![set("listen", "127.0.0.1:0"), set("shards", "1"), set("shadows.enabled", "true")];
        let sources = Sources { flags, dev: true, ..Sources::default() };
        let config = Config::load(sources).expect("a configuration");
        let authenticator = Arc::new(Authenticator::new(&config.auth).expect("a key"));
        let (gateway, log) = serve::start(&config, None, authenticator).await.expect("a gateway");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Playground {
            url: format!("ws://{}", gateway.address()),
            token: config.dev_token(now.as_secs()).expect("a key of --dev"),
            _gateway: gateway,
            _log: log,
        }
    }

    /// For clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// For the subject `dev`, to read and write everything.
    pub fn token(&self) -> &str {
        &self.token
    }
}

/// Runs an example of a client's documentation, with the URL and the token of a gateway of its own.
///
/// # Panics
/// The example fails, or does not end within a minute.
pub fn example(run: impl AsyncFnOnce(String, String) -> Result<(), Box<dyn Error>>) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let playground = Playground::start().await;
        let example = run(playground.url.clone(), playground.token.clone());
        match timeout(PATIENCE, example).await {
            Ok(outcome) => outcome.expect("the example succeeds"),
            Err(_) => panic!("the example does not end"),
        }
    });
}
