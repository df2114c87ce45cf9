//! Everything an operator can set, one struct for each section. The fields' documentation is the manual.
//!
//! A setting `limits.connections` is `connections = 1000` under `[limits]` in the TOML file that `--config` names, or
//! `ANABRANCH_LIMITS_CONNECTIONS=1000` in the environment, or `--set limits.connections=1000` on the command line; the
//! later wins. Sizes have units (`64KiB`, `10MiB`), so have times (`500ms`, `30s`, `7d`). Relative paths in the file
//! start from the file's folder. Whatever is wrong is reported at once, each mistake with its place.

mod auth;
mod file;
mod limits;
mod load;
mod log;
mod manual;
mod mistake;
mod origins;
mod reader;
mod secret;
mod shadows;
mod topics;
mod value;

pub use auth::{AuthConfig, KeyConfig, RoleConfig};
pub use limits::{DrainConfig, HeartbeatConfig, LimitsConfig};
pub(crate) use load::load_auth;
pub use load::{Flag, Sources};
#[cfg(feature = "rabbitmq")]
pub use log::RabbitMqLogConfig;
pub use log::{FileLogConfig, Fsync, LogConfig, MemoryLogConfig};
pub use manual::SETTINGS;
pub use mistake::{Mistake, Mistakes, Place};
pub use origins::{Origin, OriginRule, Origins};
pub use secret::Secret;
pub use shadows::ShadowsConfig;
pub use topics::TopicsConfig;
pub(crate) use value::duration_text;

use crate::auth::NewToken;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The whole configuration, checked: what it names exists, and what it allows is within the protocol's limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `listen`: address and port for WebSocket and HTTP. Default `127.0.0.1:8080`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `[tls]`: without it, connections are not encrypted, which is right behind a proxy that ends TLS and nowhere else.
    pub tls: Option<TlsConfig>,
    /// `origins`: the web pages that may connect, a list of `https://dashboard.example.com`, `same` (pages that this
    /// gateway serves), `loopback` (pages of the reader's own machine) and `any`. Default `same`; with `--dev` also
    /// `loopback`.
    pub origins: Origins,
    /// `static_files`: a folder whose files are served at `/`. Default none.
    pub static_files: Option<PathBuf>,
    /// `shards`: threads that serve connections, 1 to 256. Default one for each core.
    pub shards: usize,
    /// `log`: where messages come from and go to. Default `file:anabranch-log`; with `--dev`, `memory:`.
    pub log: LogConfig,
    /// `[topics]`: which topics are state, and which commands.
    pub topics: TopicsConfig,
    /// `[shadows]`: the documents of devices.
    pub shadows: ShadowsConfig,
    /// `[auth]`: whose tokens are taken, and what roles mean.
    pub auth: AuthConfig,
    /// `[limits]`: what a client may use.
    pub limits: LimitsConfig,
    /// `[heartbeat]`: how soon a dead connection is noticed.
    pub heartbeat: HeartbeatConfig,
    /// `[drain]`: the orderly end.
    pub drain: DrainConfig,
    /// Set by `--dev` only.
    pub dev: Option<Dev>,
}

/// Section `tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// A PEM file with the certificate chain, the server's own first.
    pub certificate: PathBuf,
    /// A PEM file with the private key.
    pub key: PathBuf,
}

/// What `--dev` makes: a key that dies with this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dev {
    pub(crate) secret: Secret,
}

impl Dev {
    const KEY_ID: &str = "dev";
    /// How long a token of `--dev` is good, in seconds: longer than anybody's session of development.
    const LIFE: u64 = 30 * 24 * 3600;
}

impl Config {
    /// Reads and checks all sources. Reads the files that they name, too: keys, certificates, folders.
    pub fn load(sources: Sources) -> Result<Config, Mistakes> {
        load::load(sources)
    }

    /// With `--dev`: a token that may read and write everything, good from `now_unix_s`, seconds since 1970.
    pub fn dev_token(&self, now_unix_s: u64) -> Option<String> {
        let token = NewToken {
            subject: "dev".to_owned(),
            issuer: self.auth.issuer.clone(),
            audience: self.auth.audience.clone(),
            kid: Some(Dev::KEY_ID.to_owned()),
            not_before: now_unix_s,
            expires: now_unix_s + Dev::LIFE,
            read: vec!["#".to_owned()],
            write: vec!["#".to_owned()],
            ..NewToken::default()
        };
        Some(token.sign(&self.dev.as_ref()?.secret))
    }
}
