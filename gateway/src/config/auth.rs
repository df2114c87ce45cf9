//! Section `auth`: whose tokens are taken, and what roles mean.

use super::Secret;
use crate::auth::Algorithm;
use std::collections::BTreeMap;

/// Section `auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// The token's `aud` must be this, or an array that contains it.
    pub audience: String,
    /// The token's `iss` must be this, unless the key that signed it has an issuer of its own.
    pub issuer: String,
    /// Who may sign. At least one, unless the gateway is started with `--dev`.
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
