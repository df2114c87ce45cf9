//! `anabranch token`: makes a token for development.

use crate::auth::{Algorithm, AuthError, Authenticator, NewToken};
use crate::config::{AuthConfig, Flag, Sources, duration_text, load_auth};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Make a token for development.
///
/// Signs with an HS256 key: that of --key-file, else the first one that the configuration has. Prints the token and
/// nothing else. In production, the platform's issuer makes the tokens.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct TokenArgs {
    /// Who the token speaks for
    #[arg(long, value_name = "SUBJECT")]
    sub: String,

    /// A filter that may be read; may be repeated
    #[arg(long, value_name = "FILTER")]
    read: Vec<String>,

    /// A filter that may be written; may be repeated
    #[arg(long, value_name = "FILTER")]
    write: Vec<String>,

    /// A filter that may be neither read nor written, whatever else allows it; may be repeated
    #[arg(long, value_name = "FILTER")]
    deny: Vec<String>,

    /// A role of the gateway's configuration; may be repeated
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<String>,

    /// How long it is good: 30s, 5m, 2h or 7d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration_text)]
    ttl: Duration,

    /// A file with the HS256 secret, at least 32 bytes
    #[arg(long, value_name = "FILE")]
    key_file: Option<String>,

    /// The key's id: of the --key-file, else to choose among the configured keys
    #[arg(long, value_name = "ID")]
    kid: Option<String>,

    /// The issuer that the gateway expects [default: as configured, else anabranch]
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,

    /// The audience that the gateway expects [default: as configured, else anabranch]
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,

    /// The gateway's configuration [variable: ANABRANCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  openssl rand -hex 32 > dev.key
  anabranch token --key-file dev.key --sub alice --read 'iotsphere/#'
  anabranch token --key-file dev.key --sub d1 --write 'iotsphere/devices/d1/#' --ttl 7d
  anabranch token --config anabranch.toml --sub bob --role viewer
  TOKEN=$(anabranch token --key-file dev.key --sub alice --read '#' --write '#')";

/// A token, and what its maker should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minted {
    pub token: String,
    pub warning: Option<&'static str>,
}

impl TokenArgs {
    /// Makes the token, good from `now_unix_s`, seconds since 1970. An error is one text with everything that is wrong.
    pub fn mint(&self, now_unix_s: u64) -> Result<Minted, String> {
        self.mint_with(super::variables(), now_unix_s)
    }

    /// The same with this environment.
    pub fn mint_with(&self, variables: Vec<(String, String)>, now_unix_s: u64) -> Result<Minted, String> {
        let auth = load_auth(self.sources(variables)).map_err(|mistakes| mistakes.to_string())?;
        let chosen = |kid: &Option<String>| self.kid.is_none() || *kid == self.kid;
        let key = auth.keys.iter().find(|key| key.algorithm == Algorithm::Hs256 && chosen(&key.kid)).ok_or(
            "there is no HS256 key to sign with: name one with --key-file, or a configuration that has one with --config",
        )?;
        let token = NewToken {
            subject: self.sub.clone(),
            issuer: key.issuer.clone().unwrap_or_else(|| auth.issuer.clone()),
            audience: auth.audience.clone(),
            kid: key.kid.clone(),
            not_before: now_unix_s,
            expires: now_unix_s + self.ttl.as_secs(),
            read: self.read.clone(),
            write: self.write.clone(),
            deny: self.deny.clone(),
            roles: self.roles.clone(),
        };
        let token = token.sign(&key.material);
        let warning = judge(&auth, &token, now_unix_s)?;
        Ok(Minted { token, warning })
    }

    fn sources(&self, variables: Vec<(String, String)>) -> Sources {
        let kid = self.kid.as_ref().filter(|_| self.key_file.is_some()).cloned();
        let own = [
            ("--key-file", "auth.key_file", &self.key_file),
            ("--kid", "auth.kid", &kid),
            ("--issuer", "auth.issuer", &self.issuer),
            ("--audience", "auth.audience", &self.audience),
        ];
        let flags = own
            .into_iter()
            .filter_map(|(flag, key, value)| Some(Flag::new(flag, key, value.as_deref()?)))
            .collect();
        Sources { file: self.config.clone(), variables, flags, dev: false }
    }
}

/// Shows the token to a gateway of this configuration: better refused here than there.
fn judge(auth: &AuthConfig, token: &str, now_unix_s: u64) -> Result<Option<&'static str>, String> {
    let gateway = Authenticator::new(auth).map_err(|error| error.to_string())?;
    match gateway.verify(token, now_unix_s * 1000) {
        Ok(principal) if principal.grants.is_empty() => {
            Ok(Some("the token grants nothing: add --read, --write or --role"))
        }
        Ok(_) => Ok(None),
        // The gateway that it is meant for may know more roles than this machine.
        Err(AuthError::UnknownRole) => {
            Ok(Some("the role is not configured here; name the gateway's file with --config"))
        }
        Err(error) => Err(format!("no gateway would take it: {error}")),
    }
}
