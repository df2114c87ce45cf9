//! What a client is made of.

use crate::client::Client;
use crate::driver::{self, Dialer, Provider};
use crate::error::BuildError;
use crate::keeper::Keeper;
use crate::shared::Shared;
use crate::token::{self, TokenRequests};
use anabranch_protocol::limits;
use anabranch_sdk_core::store::{Kept, Store};
use anabranch_sdk_core::{Machine, TokenWhy};
#[cfg(feature = "tls")]
use rustls::RootCertStore;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio_tungstenite::tungstenite::http::Uri;
use uuid::Uuid;

/// What the operator sees of this library.
const SDK: &str = concat!("anabranch-rust/", env!("CARGO_PKG_VERSION"));

/// How much of the newest messages is kept in memory for [`Client::cached`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Bytes of envelopes and topics, about. 0 keeps nothing.
    pub bytes: usize,
}

impl Default for CacheLimits {
    fn default() -> CacheLimits {
        CacheLimits { bytes: anabranch_sdk_core::cache::BYTES }
    }
}

/// Describes a client. Opens nothing, not even in [`build`](ClientBuilder::build).
#[must_use = "a client is made by build()"]
pub struct ClientBuilder {
    url: String,
    provider: Provider,
    client_id: Option<String>,
    cache: CacheLimits,
    #[cfg(feature = "tls")]
    roots: Option<RootCertStore>,
    store: Option<Box<dyn Store>>,
    runtime: Option<Handle>,
}

impl ClientBuilder {
    pub(crate) fn new(url: String) -> ClientBuilder {
        ClientBuilder {
            url,
            provider: driver::fixed(String::new()),
            client_id: None,
            cache: CacheLimits::default(),
            #[cfg(feature = "tls")]
            roots: None,
            store: None,
            runtime: None,
        }
    }

    /// A token that never changes. When the gateway no longer accepts it, the client ends up in
    /// [`Phase::NeedsAuth`](crate::Phase::NeedsAuth).
    pub fn token(mut self, token: impl Into<String>) -> ClientBuilder {
        self.provider = driver::fixed(token.into());
        self
    }

    /// Where tokens come from. Called when one is needed, never twice at once, and told why: with
    /// [`TokenWhy::Rejected`], do not answer with a cached copy. An answer that takes over 30 s is given up; an error
    /// is tried again later.
    pub fn token_provider<P, F, E>(mut self, provider: P) -> ClientBuilder
    where
        P: Fn(TokenWhy) -> F + Send + Sync + 'static,
        F: Future<Output = Result<String, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let provider = Arc::new(provider);
        self.provider = Arc::new(move |why| {
            let provider = provider.clone();
            // Called inside the future, so that a panic of the call is as harmless as one of its answer.
            Box::pin(async move { provider(why).await.map_err(|error| error.into().to_string()) })
        });
        self
    }

    /// Tokens without a function: the app takes [requests](TokenRequests) and answers them. In the place of [`token`](ClientBuilder::token) and
    /// [`token_provider`](ClientBuilder::token_provider).
    ///
    /// ```
    /// # anabranch_gateway::testing::example(async |url, token| {
    /// # use anabranch::Client;
    /// let (builder, mut requests) = Client::builder(url).token_requests();
    /// let client = builder.build()?;
    /// tokio::spawn(async move {
    ///     while let Some(request) = requests.next().await {
    ///         request.answer(token.clone());               // or fetch one, told why by request.why()
    ///     }
    /// });
    /// client.connect();
    /// client.wait_live(std::time::Duration::from_secs(5)).await?;
    /// # Ok(()) });
    /// ```
    pub fn token_requests(mut self) -> (ClientBuilder, TokenRequests) {
        let (provider, requests) = token::requests();
        self.provider = provider;
        (self, requests)
    }

    /// Names the client across reconnects, and in the gateway's logs. At most 128 bytes. Without it, a random one.
    pub fn client_id(mut self, client_id: impl Into<String>) -> ClientBuilder {
        self.client_id = Some(client_id.into());
        self
    }

    /// Bounds the memory cache.
    pub fn cache(mut self, limits: CacheLimits) -> ClientBuilder {
        self.cache = limits;
        self
    }

    /// Trusts these certificate authorities instead of Mozilla's, for `wss://` URLs.
    #[cfg(feature = "tls")]
    pub fn tls_roots(mut self, roots: RootCertStore) -> ClientBuilder {
        self.roots = Some(roots);
        self
    }

    /// Keeps the outbox, and messages and places of subscriptions that are [kept](crate::Subscribe::keep_as), where they outlive the process. Another user is
    /// another store.
    pub fn store(mut self, store: impl Store + 'static) -> ClientBuilder {
        self.store = Some(Box::new(store));
        self
    }

    /// Drives the client on this runtime, whose timers and I/O must be on. Without it, on the one in which [`build`](ClientBuilder::build) is called.
    ///
    /// The client's functions and futures may be called and awaited anywhere, on threads without a runtime and by other executors, too.
    pub fn runtime(mut self, runtime: Handle) -> ClientBuilder {
        self.runtime = Some(runtime);
        self
    }

    /// Makes the client, and the task that will drive it. Reads the whole store, if there is one, some megabytes at most.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub fn build(self) -> Result<Client, BuildError> {
        let url = parse_url(&self.url)?;
        let client_id = match self.client_id {
            Some(id) if id.len() > limits::CLIENT_ID_BYTES => return Err(BuildError::ClientId),
            Some(id) => id,
            None => Uuid::new_v4().to_string(),
        };
        let runtime = match self.runtime {
            Some(runtime) => runtime,
            None => Handle::try_current().map_err(|_| BuildError::NoRuntime)?,
        };
        let seed = getrandom::u64().map_err(BuildError::Random)?;
        #[cfg(feature = "tls")]
        let dialer = Dialer::new(url, driver::tls::connector(self.roots)?);
        #[cfg(not(feature = "tls"))]
        let dialer = Dialer::new(url);
        let mut machine = Machine::new(&client_id, SDK, seed);
        machine.limit_cache(self.cache.bytes);
        let (keeper, kept) = match self.store {
            None => (Keeper::none(), Kept::default()),
            Some(mut store) => {
                let kept = store.load()?;
                (Keeper::start(store).map_err(BuildError::Thread)?, kept)
            }
        };
        let shared = Arc::new(Shared::new(machine, client_id, keeper, kept, runtime));
        shared.spawn(driver::run(shared.clone(), dialer, self.provider));
        Ok(Client::new(shared))
    }
}

impl fmt::Debug for ClientBuilder {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("url", &self.url)
            .field("client_id", &self.client_id)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// Checks a URL and adds the path that gateways serve by default.
fn parse_url(text: &str) -> Result<Uri, BuildError> {
    let error = |reason: &str| BuildError::Url { url: text.into(), reason: reason.into() };
    let url: Uri = text.parse().map_err(|e| error(&format!("{e}")))?;
    if !matches!(url.scheme_str(), Some("ws" | "wss")) {
        return Err(error("the scheme must be ws or wss"));
    }
    if url.scheme_str() == Some("wss") && !cfg!(feature = "tls") {
        return Err(error("this program is built without the feature tls"));
    }
    let Some(authority) = url.authority().filter(|a| !a.host().is_empty()) else {
        return Err(error("there is no host"));
    };
    if authority.as_str().contains('@') {
        return Err(error("credentials do not belong into a URL; use token or token_provider"));
    }
    if !matches!(url.path(), "" | "/") {
        return Ok(url);
    }
    let mut parts = url.clone().into_parts();
    let path = match url.query() {
        Some(query) => format!("/v1/ws?{query}"),
        None => "/v1/ws".into(),
    };
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).map_err(|e| error(&format!("{e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_get_the_default_path_or_keep_theirs() {
        for (given, meant) in [
            ("ws://gw:8080", "ws://gw:8080/v1/ws"),
            ("ws://gw/", "ws://gw/v1/ws"),
            ("ws://gw/edge/v1/ws", "ws://gw/edge/v1/ws"),
        ] {
            assert_eq!(parse_url(given).expect("a URL").to_string(), meant);
        }
        for wrong in ["", "gw", "http://gw", "ws://", "ws://u:p@gw/"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_url("wss://gw").is_ok(), cfg!(feature = "tls"));
    }

    #[test]
    fn needs_a_runtime() {
        assert!(matches!(Client::builder("ws://gw").build(), Err(BuildError::NoRuntime)));
    }
}
