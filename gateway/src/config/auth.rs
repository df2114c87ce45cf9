//! Section `auth`: whose tokens are taken, and what roles mean.

use super::Secret;
use super::mistake::Place;
use super::reader::Reader;
use super::value::{Raw, parsed, text};
use crate::auth::grants::GRANTS;
use crate::auth::{Algorithm, KEYS, check_key, check_role_filter};
use std::collections::BTreeMap;
use std::path::Path;

/// Section `auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// The token's `aud` must be this, or an array that contains it.
    pub audience: String,
    /// The token's `iss` must be this, unless the key that signed it has an issuer of its own.
    pub issuer: String,
    /// Who may sign: `[[auth.keys]]`, and the one that needs no file: `auth.key_file` (or the key itself in the variable
    /// `ANABRANCH_AUTH_KEY`), `auth.algorithm` (default `HS256`) and `auth.kid` (default none). At least one, unless the
    /// gateway is started with `--dev`. A key never stands in the configuration file or on the command line.
    pub keys: Vec<KeyConfig>,
    /// Named sets of grants, which a token refers to with `"anabranch": { "roles": ["…"] }`.
    pub roles: BTreeMap<String, RoleConfig>,
    /// The roles of a token that has no claim `anabranch`. Lets issuers in that cannot add claims.
    pub default_roles: Vec<String>,
}

impl AuthConfig {
    /// What holds for every field that is not set.
    pub const DEFAULT_NAME: &str = "anabranch";
}

impl Default for AuthConfig {
    fn default() -> Self {
        AuthConfig {
            audience: Self::DEFAULT_NAME.to_owned(),
            issuer: Self::DEFAULT_NAME.to_owned(),
            keys: Vec::new(),
            roles: BTreeMap::new(),
            default_roles: Vec::new(),
        }
    }
}

/// One of `[[auth.keys]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// The only algorithm that this key verifies. A token whose header says otherwise is refused.
    pub algorithm: Algorithm,
    /// The token's `kid` must be this; a key without one verifies the tokens without one. Letters, digits and
    /// `. _ ~ + = : @ -`, at most 128.
    pub kid: Option<String>,
    /// The `iss` of the tokens that this key signs, if it is not `auth.issuer`. A key speaks for one issuer only.
    pub issuer: Option<String>,
    /// From `file` or `env`: for HS256 the secret, at least 32 bytes; else the public key as PEM.
    pub material: Secret,
}

/// One of `[auth.roles.NAME]`: filters, in which `{sub}` stands for the token's subject.
///
/// A subject that is put into a filter must not be empty, begin with `$`, or contain `/`, `+`, `#` or control
/// characters: its token is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleConfig {
    /// May be subscribed to and read.
    pub read: Vec<String>,
    /// May be published to.
    pub write: Vec<String>,
    /// May be neither read nor written, whatever else allows it.
    pub deny: Vec<String>,
    /// May not be read, whatever else allows it.
    pub deny_read: Vec<String>,
    /// May not be written, whatever else allows it.
    pub deny_write: Vec<String>,
}

impl AuthConfig {
    pub(super) fn read(reader: &mut Reader) -> AuthConfig {
        let name = || Self::DEFAULT_NAME.to_owned();
        let mut config = AuthConfig {
            audience: reader.read("auth.audience", name(), text),
            issuer: reader.read("auth.issuer", name(), text),
            keys: Vec::new(),
            roles: BTreeMap::new(),
            default_roles: Vec::new(),
        };
        config.keys.extend(read_single_key(reader));
        for (index, place) in reader.tables("auth.keys") {
            config.keys.extend(read_key(reader, &format!("auth.keys.{index}"), place));
        }
        if config.keys.len() > KEYS {
            reader.mistake(Place::Nowhere, format!("auth.keys: expected at most {KEYS} keys"));
        }
        for (name, place) in reader.tables("auth.roles") {
            let role = read_role(reader, &format!("auth.roles.{name}"), place);
            config.roles.insert(name, role);
        }
        let default_roles = reader.list("auth.default_roles", |raw| {
            let name = text(raw)?;
            if config.roles.contains_key(&name) {
                Ok(name)
            } else {
                Err(format!("there is no role {name:?}"))
            }
        });
        config.default_roles = default_roles.unwrap_or_default();
        config
    }

    /// Whether any key is set, good or bad.
    pub(super) fn has_keys(reader: &mut Reader) -> bool {
        reader.is_set("auth.key_file") || reader.is_set("auth.key") || !reader.tables("auth.keys").is_empty()
    }
}

/// The variable that holds a key itself, for platforms that hand secrets out that way.
const KEY_VARIABLE: &str = "ANABRANCH_AUTH_KEY";

/// The key that can be set without a file: `auth.key_file` or [`KEY_VARIABLE`], `auth.algorithm` and `auth.kid`.
fn read_single_key(reader: &mut Reader) -> Option<KeyConfig> {
    let algorithm = reader.read("auth.algorithm", Algorithm::Hs256, parsed);
    let kid = reader.optional("auth.kid", text);
    let file = reader.path("auth.key_file");
    let mut variable = None;
    if let Some(setting) = reader.find("auth.key") {
        match (setting.place, setting.raw, &file) {
            (place @ Place::Variable(_), Raw::Text(key), file) => match file {
                Some((_, Place::Flag(_))) => {}
                Some((_, Place::Variable(_))) => {
                    reader.mistake(place, "auth.key: auth.key_file is set, too; only one of them may be");
                }
                _ => variable = Some((key, place)),
            },
            (place, ..) => {
                let text = format!(
                    "auth.key: others can read it here; use auth.key_file or the variable {KEY_VARIABLE}"
                );
                reader.mistake(place, text);
            }
        }
    }
    let (material, place) = match variable {
        Some((key, place)) => (Secret::from_file(key.into_bytes()), place),
        None => {
            let (path, place) = file?;
            (read_key_file(reader, "auth.key_file", &path, &place)?, place)
        }
    };
    checked(reader, "auth.key", place, KeyConfig { algorithm, kid, issuer: None, material })
}

fn read_key(reader: &mut Reader, key: &str, place: Place) -> Option<KeyConfig> {
    let algorithm = reader.optional(&format!("{key}.algorithm"), parsed::<Algorithm>);
    if algorithm.is_none() && reader.find(&format!("{key}.algorithm")).is_none() {
        reader.mistake(place.clone(), format!("{key}.algorithm is missing: HS256, RS256, ES256 or EdDSA"));
    }
    let kid = reader.optional(&format!("{key}.kid"), text);
    let issuer = reader.optional(&format!("{key}.issuer"), text);
    let file = reader.path(&format!("{key}.file"));
    let variable = reader.optional(&format!("{key}.env"), text);
    let material = match (file, variable) {
        (Some((path, place)), None) => read_key_file(reader, &format!("{key}.file"), &path, &place),
        (None, Some(name)) => {
            let value = reader.variable(&name);
            if value.is_none() {
                reader.mistake(place.clone(), format!("{key}.env: the variable {name} is not set"));
            }
            value.map(|value| Secret::from_file(value.into_bytes()))
        }
        _ => {
            let text = format!(
                "{key}: expected either file (a path) or env (the name of a variable that holds the key)"
            );
            reader.mistake(place.clone(), text);
            None
        }
    };
    checked(reader, key, place, KeyConfig { algorithm: algorithm?, kid, issuer, material: material? })
}

fn read_key_file(reader: &mut Reader, key: &str, path: &Path, place: &Place) -> Option<Secret> {
    match std::fs::read(path) {
        Ok(content) => Some(Secret::from_file(content)),
        Err(error) => {
            reader.mistake(place.clone(), format!("{key}: cannot read {}: {error}", path.display()));
            None
        }
    }
}

fn checked(reader: &mut Reader, key: &str, place: Place, config: KeyConfig) -> Option<KeyConfig> {
    match check_key(&config) {
        Ok(()) => Some(config),
        Err(error) => {
            reader.mistake(place, format!("{key}: {error}"));
            None
        }
    }
}

fn read_role(reader: &mut Reader, key: &str, place: Place) -> RoleConfig {
    let mut filters = |name: &str| {
        let take = |raw: &Raw| {
            let filter = text(raw)?;
            check_role_filter(&filter).map_err(|error| format!("{filter:?}: {error}"))?;
            Ok(filter)
        };
        reader.list(&format!("{key}.{name}"), take).unwrap_or_default()
    };
    let role = RoleConfig {
        read: filters("read"),
        write: filters("write"),
        deny: filters("deny"),
        deny_read: filters("deny_read"),
        deny_write: filters("deny_write"),
    };
    let count = role.read.len()
        + role.write.len()
        + 2 * role.deny.len()
        + role.deny_read.len()
        + role.deny_write.len();
    if count > GRANTS {
        reader.mistake(
            place,
            format!("{key}: expected at most {GRANTS} filters (deny counts twice); use wildcards"),
        );
    }
    role
}
