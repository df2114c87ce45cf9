//! All sources together become one configuration, or one list of mistakes.

use super::file::File;
use super::mistake::{Mistake, Mistakes, Place};
use super::reader::Reader;
use super::value::{Raw, parsed, text, whole};
use super::{
    AuthConfig, Config, Dev, DrainConfig, HeartbeatConfig, KeyConfig, LimitsConfig, LogConfig, OriginRule,
    Origins, Secret, ShadowsConfig, TlsConfig, TopicsConfig,
};
use crate::auth::{Algorithm, Authenticator};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Where settings come from, in rising precedence.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file. Without a flag for it, the variable `ANABRANCH_CONFIG` may name one.
    pub file: Option<PathBuf>,
    /// The environment. Those that do not begin with `ANABRANCH_` are ignored.
    pub variables: Vec<(String, String)>,
    /// The command line, in its order.
    pub flags: Vec<Flag>,
    /// `--dev`: a random key, and loopback only.
    pub dev: bool,
}

/// A setting on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As it was written, for messages: `--listen`.
    pub flag: String,
    /// The setting that it means: `listen`.
    pub key: String,
    pub value: String,
}

impl Flag {
    pub fn new(flag: &str, key: &str, value: &str) -> Flag {
        Flag { flag: flag.to_owned(), key: key.to_owned(), value: value.to_owned() }
    }
}

pub(super) fn load(sources: Sources) -> Result<Config, Mistakes> {
    let dev = sources.dev;
    let mut reader = reader(sources);
    let config = read(&mut reader, dev);
    reader.finish()?;
    Ok(config)
}

/// Reads every section. What is wrong remains in the reader.
fn read(reader: &mut Reader, dev: bool) -> Config {
    let shadows = ShadowsConfig::read(reader);
    let mut config = Config {
        listen: read_listen(reader, dev),
        tls: read_tls(reader),
        origins: read_origins(reader, dev),
        static_files: read_static_files(reader),
        shards: reader.read("shards", cores(), whole(1..=256)),
        log: LogConfig::read(reader, dev),
        topics: TopicsConfig::read(reader, shadows.enabled),
        shadows,
        auth: AuthConfig::read(reader),
        limits: LimitsConfig::read(reader),
        heartbeat: HeartbeatConfig::read(reader),
        drain: DrainConfig::read(reader),
        dev: None,
    };
    if dev {
        add_dev_key(reader, &mut config);
    } else if !AuthConfig::has_keys(reader) {
        let text = "no key is configured, so no token could be verified: set auth.key_file (--auth-key-file, \
                    ANABRANCH_AUTH_KEY_FILE) or [[auth.keys]], or try things out on this machine with --dev";
        reader.mistake(Place::Nowhere, text);
    }
    // What the sections have overlooked would otherwise show later, in a worse place.
    if reader.is_clean()
        && let Err(error) = Authenticator::new(&config.auth)
    {
        reader.mistake(Place::Nowhere, format!("auth: {error}"));
    }
    config
}

/// Every setting that is read, those of keys and roles as `auth.keys.…` and `auth.roles.NAME.…`.
#[cfg(test)]
pub(super) fn known_settings() -> std::collections::BTreeSet<String> {
    let file = File::read("", "[[auth.keys]]\n[auth.roles.NAME]\n", &mut Vec::new());
    let mut reader = Reader::new(file, Path::new(""), Vec::new());
    read(&mut reader, false);
    reader.known().iter().map(|key| key.replace("auth.keys.0.", "auth.keys.")).collect()
}

/// Reads section `auth` alone, for making tokens: other sections may be those of another machine.
pub(crate) fn load_auth(sources: Sources) -> Result<AuthConfig, Mistakes> {
    let mut reader = reader(sources);
    let config = AuthConfig::read(&mut reader);
    reader.finish_section()?;
    Ok(config)
}

fn reader(sources: Sources) -> Reader {
    let mut mistakes = Vec::new();
    let variable =
        sources.variables.iter().find(|(name, value)| name == "ANABRANCH_CONFIG" && !value.is_empty());
    let (path, place) = match (sources.file, variable) {
        (Some(path), _) => (Some(path), Place::Flag("--config".into())),
        (None, Some((name, value))) => (Some(PathBuf::from(value)), Place::Variable(name.as_str().into())),
        (None, None) => (None, Place::Nowhere),
    };
    let mut folder = PathBuf::new();
    let mut file = File::default();
    if let Some(path) = path {
        match std::fs::read_to_string(&path) {
            Ok(text) => file = File::read(&path.to_string_lossy(), &text, &mut mistakes),
            Err(error) => {
                mistakes.push(Mistake { place, text: format!("cannot read {}: {error}", path.display()) });
            }
        }
        folder = path.parent().unwrap_or(Path::new("")).to_owned();
    }
    let variables = sources.variables.into_iter().filter(|(name, _)| name != "ANABRANCH_CONFIG");
    let mut reader = Reader::new(file, &folder, mistakes).with_variables(variables);
    for Flag { flag, key, value } in sources.flags {
        reader.flag(&flag, &key, Raw::Text(value));
    }
    reader
}

fn read_listen(reader: &mut Reader, dev: bool) -> SocketAddr {
    let listen = |raw: &Raw| {
        let text = text(raw)?;
        let number = text.strip_prefix("localhost:").map(|port| format!("{}:{port}", Ipv4Addr::LOCALHOST));
        let problem =
            |_| format!("{text:?} is not an address: write 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080");
        number.as_deref().unwrap_or(&text).parse::<SocketAddr>().map_err(problem)
    };
    let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
    reader.read("listen", default, |raw| {
        let address = listen(raw)?;
        if dev && !address.ip().is_loopback() {
            return Err(format!(
                "--dev listens on this machine only, {address} would let others in: use 127.0.0.1"
            ));
        }
        Ok(address)
    })
}

fn read_tls(reader: &mut Reader) -> Option<TlsConfig> {
    let mut file = |key| {
        let (path, place) = reader.path(key)?;
        if let Err(error) = std::fs::File::open(&path) {
            reader.mistake(place.clone(), format!("{key}: cannot read {}: {error}", path.display()));
        }
        Some((path, place))
    };
    match (file("tls.certificate"), file("tls.key")) {
        (Some((certificate, _)), Some((key, _))) => Some(TlsConfig { certificate, key }),
        (Some((_, place)), None) => {
            reader.mistake(place, "tls.certificate: tls.key is missing; both or none must be set");
            None
        }
        (None, Some((_, place))) => {
            reader.mistake(place, "tls.key: tls.certificate is missing; both or none must be set");
            None
        }
        (None, None) => None,
    }
}

fn read_origins(reader: &mut Reader, dev: bool) -> Origins {
    let default = if dev { vec![OriginRule::Same, OriginRule::Loopback] } else { vec![OriginRule::Same] };
    Origins::new(reader.list("origins", parsed).unwrap_or(default))
}

fn read_static_files(reader: &mut Reader) -> Option<PathBuf> {
    let (path, place) = reader.path("static_files")?;
    if !path.is_dir() {
        reader.mistake(place, format!("static_files: {} is not a folder", path.display()));
    }
    Some(path)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(256)
}

fn add_dev_key(reader: &mut Reader, config: &mut Config) {
    let mut bytes = vec![0; 32];
    if let Err(error) = getrandom::fill(&mut bytes) {
        reader.mistake(Place::Flag("--dev".into()), format!("the system has no random bytes: {error}"));
        return;
    }
    let secret = Secret::new(bytes);
    config.auth.keys.push(KeyConfig {
        algorithm: Algorithm::Hs256,
        kid: Some(Dev::KEY_ID.to_owned()),
        issuer: None,
        material: secret.clone(),
    });
    config.dev = Some(Dev { secret });
}
