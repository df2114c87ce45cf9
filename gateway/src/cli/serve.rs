//! `anabranch serve`: from the command line to a checked configuration.

use crate::config::{Config, Flag, Mistakes, SETTINGS, Sources};
use clap::Args;
use std::path::PathBuf;

/// Run a gateway.
///
/// Every setting can be made in the file, as a variable and as a flag; the later wins. The setting limits.connections is
/// `connections` under `[limits]` in the file, ANABRANCH_LIMITS_CONNECTIONS in the environment, and
/// --set limits.connections=… here. All mistakes are reported together, each with its place.
#[derive(Args, Debug, Default)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{SETTINGS}"))]
pub struct ServeArgs {
    /// A TOML file with settings [variable: ANABRANCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Try things out: makes a random key, prints a token for everything, listens on this machine only, keeps messages
    /// in memory
    #[arg(long)]
    dev: bool,

    /// Check the configuration and stop
    #[arg(long)]
    pub check: bool,

    /// Also drain and stop when standard input ends: for a parent process that holds the pipe's other end
    #[arg(long)]
    pub stop_with_stdin: bool,

    /// Where to listen [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,

    /// Where messages are kept: file:PATH or memory: [default: file:anabranch-log]
    #[arg(long, value_name = "URL")]
    log: Option<String>,

    /// A file with the key that verifies tokens: a secret for HS256, else a public key as PEM
    #[arg(long, value_name = "FILE")]
    auth_key_file: Option<String>,

    /// What that key is for: HS256, RS256, ES256 or EdDSA [default: HS256]
    #[arg(long, value_name = "NAME")]
    auth_algorithm: Option<String>,

    /// A web page's origin that may connect, or same, loopback, any; may be repeated [default: same]
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,

    /// A folder to serve at /
    #[arg(long, value_name = "FOLDER")]
    static_files: Option<String>,

    /// Threads that serve connections [default: one for each core]
    #[arg(long, value_name = "NUMBER")]
    shards: Option<String>,

    /// A PEM file with the certificate chain
    #[arg(long, value_name = "FILE")]
    tls_certificate: Option<String>,

    /// A PEM file with the certificate's private key
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,

    /// Any other setting; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    settings: Vec<(String, String)>,
}

const EXAMPLES: &str = "\
Examples:
  anabranch serve --dev
  anabranch serve --auth-key-file issuer.pem --auth-algorithm ES256 --listen 0.0.0.0:8080
  anabranch serve --config anabranch.toml --set limits.connections=50000
  anabranch serve --config anabranch.toml --check
  anabranch serve --auth-key-file dev.key --log 'file:/var/lib/anabranch?fsync=200ms'

A file:
  listen = \"0.0.0.0:8080\"
  log = \"file:/var/lib/anabranch?age=7d\"
  origins = [\"https://dashboard.example.com\"]

  [auth]
  issuer = \"https://login.example.com\"
  audience = \"anabranch\"
  default_roles = [\"viewer\"]

  [[auth.keys]]
  kid = \"2026-11\"
  algorithm = \"RS256\"
  file = \"issuer.pem\"

  [auth.roles.viewer]
  read = [\"iotsphere/devices/+/shadow/#\", \"iotsphere/users/{sub}/#\"]
  write = [\"iotsphere/devices/+/shadow/desired\"]";

impl ServeArgs {
    /// The configuration that these flags, the environment and the file make together.
    pub fn config(&self) -> Result<Config, Mistakes> {
        Config::load(self.sources(super::variables()))
    }

    /// The same, for `main`: prints every mistake and ends the process with status 2 if there is any.
    pub fn config_or_exit(&self) -> Config {
        self.config().unwrap_or_else(|mistakes| {
            eprint!("anabranch: {mistakes}");
            std::process::exit(2);
        })
    }

    /// Where the settings come from, with this environment.
    pub fn sources(&self, variables: Vec<(String, String)>) -> Sources {
        let origins = (!self.origins.is_empty()).then(|| self.origins.join(","));
        let own = [
            ("--listen", "listen", &self.listen),
            ("--log", "log", &self.log),
            ("--auth-key-file", "auth.key_file", &self.auth_key_file),
            ("--auth-algorithm", "auth.algorithm", &self.auth_algorithm),
            ("--origin", "origins", &origins),
            ("--static-files", "static_files", &self.static_files),
            ("--shards", "shards", &self.shards),
            ("--tls-certificate", "tls.certificate", &self.tls_certificate),
            ("--tls-key", "tls.key", &self.tls_key),
        ];
        let mut flags: Vec<Flag> = own
            .into_iter()
            .filter_map(|(flag, key, value)| Some(Flag::new(flag, key, value.as_deref()?)))
            .collect();
        flags.extend(self.settings.iter().map(|(key, value)| Flag::new("--set", key, value)));
        Sources { file: self.config.clone(), variables, flags, dev: self.dev }
    }
}

fn key_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as limits.connections=50000")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}
