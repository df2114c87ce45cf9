//! Verifies JSON Web Tokens (RFC 7519, RFC 8725) against configured keys.

use super::claims::{Claims, Header};
use super::error::AuthError;
use super::grants::{GrantError, GrantList};
use super::keys::{KEYS, Key, KeyError, is_plain_key_id};
use super::roles::Role;
use super::shared::Shared;
use super::{LEEWAY_MS, Principal, SUBJECT_BYTES};
use crate::config::AuthConfig;
use anabranch_protocol::limits;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Turns tokens into principals. Cheap to share behind an `Arc`; has no clock and does no I/O.
///
/// The order of the checks: size, form, header, key, signature, then the claims. Nothing of a token's claims is read
/// before its signature holds.
pub struct Authenticator {
    audience: Box<str>,
    keys: Vec<Key>,
    roles: BTreeMap<Box<str>, Role>,
    default_roles: Vec<Box<str>>,
    shared: Shared,
}

/// Why an [`Authenticator`] cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    #[error("no key is configured, so no token could ever be taken")]
    NoKey,
    #[error("more than {KEYS} keys are configured")]
    TooManyKeys,
    #[error("key {number}: {error}")]
    Key { number: usize, error: KeyError },
    #[error("role {role:?}, filter {filter:?}: {error}")]
    Role { role: String, filter: String, error: GrantError },
    #[error("the default role {0:?} is not configured")]
    UnknownDefaultRole(String),
}

impl Authenticator {
    /// Checks every key and every role.
    pub fn new(config: &AuthConfig) -> Result<Authenticator, SetupError> {
        if config.keys.is_empty() {
            return Err(SetupError::NoKey);
        }
        if config.keys.len() > KEYS {
            return Err(SetupError::TooManyKeys);
        }
        let key = |(index, key)| {
            Key::new(key, &config.issuer).map_err(|error| SetupError::Key { number: index + 1, error })
        };
        let keys = config.keys.iter().enumerate().map(key).collect::<Result<_, _>>()?;
        let mut roles = BTreeMap::new();
        for (name, role) in &config.roles {
            let role = Role::new(role).map_err(|(filter, error)| SetupError::Role {
                role: name.clone(),
                filter: filter.to_owned(),
                error,
            })?;
            roles.insert(name.as_str().into(), role);
        }
        if let Some(unknown) = config.default_roles.iter().find(|name| !config.roles.contains_key(*name)) {
            return Err(SetupError::UnknownDefaultRole(unknown.clone()));
        }
        Ok(Authenticator {
            audience: config.audience.as_str().into(),
            keys,
            roles,
            default_roles: config.default_roles.iter().map(|name| name.as_str().into()).collect(),
            shared: Shared::default(),
        })
    }

    /// Who this token speaks for at `now_unix_ms`, milliseconds since 1970.
    ///
    /// A token that somebody presented before and still uses gives the same principal, without the work of verifying:
    /// tabs of one user, and the thousand screens of one wall, share it.
    pub fn verify(&self, token: &str, now_unix_ms: u64) -> Result<Arc<Principal>, AuthError> {
        if token.len() > limits::TOKEN_BYTES {
            return Err(AuthError::TooLong);
        }
        if let Some((principal, not_before)) = self.shared.find(token) {
            check_time(principal.expires_unix_ms, not_before, now_unix_ms)?;
            return Ok(principal);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(AuthError::NotThreeParts)?;
        let (header, payload) = message.split_once('.').ok_or(AuthError::NotThreeParts)?;
        let (header, payload) = (decode(header)?, decode(payload)?);
        let key = self.signer(&Header::read(&header)?, message, signature)?;

        let claims = Claims::read(&payload)?;
        if *claims.issuer != *key.issuer {
            return Err(AuthError::Issuer);
        }
        if !claims.audiences.iter().any(|audience| **audience == *self.audience) {
            return Err(AuthError::Audience);
        }
        check_time(claims.expires, claims.not_before, now_unix_ms)?;
        let principal = Arc::new(self.principal(&claims)?);
        self.shared.keep(token, &principal, claims.not_before);
        Ok(principal)
    }

    /// The key that signed. The header chooses among configured keys by name; it never chooses how they are used.
    fn signer(&self, header: &Header<'_>, message: &str, signature: &str) -> Result<&Key, AuthError> {
        if header.kid.as_deref().is_some_and(|kid| !is_plain_key_id(kid)) {
            return Err(AuthError::Header("kid must be 1 to 128 letters, digits or . _ ~ + = : @ -"));
        }
        // Several issuers may use the same kid, so there may be several keys; each still speaks for its issuer alone.
        let mut refusal = AuthError::UnknownKey;
        for key in self.keys.iter().filter(|key| key.kid.as_deref() == header.kid.as_deref()) {
            if key.algorithm.name() != header.alg {
                refusal = AuthError::WrongAlgorithm;
            } else if key.verifies(message, signature) {
                return Ok(key);
            } else {
                refusal = AuthError::Signature;
            }
        }
        Err(refusal)
    }

    fn principal(&self, claims: &Claims<'_>) -> Result<Principal, AuthError> {
        let subject = &claims.subject;
        if subject.is_empty() || subject.len() > SUBJECT_BYTES || subject.chars().any(char::is_control) {
            return Err(AuthError::BadClaim("sub", "it must have 1 to 255 bytes and no control characters"));
        }
        let mut list = GrantList::default();
        let mut grant = |name: &str| match self.roles.get(name) {
            Some(role) => role.grant(subject, &mut list),
            // Its denials are unknown too, so leaving it out could allow too much.
            None => Err(AuthError::UnknownRole),
        };
        match &claims.grants {
            None => self.default_roles.iter().try_for_each(|name| grant(name))?,
            Some(claim) => {
                claim.roles.iter().try_for_each(|name| grant(name))?;
                claim.filters.iter().try_for_each(|(kind, filter)| list.push(*kind, filter))?;
            }
        }
        Ok(Principal {
            subject: subject.as_ref().into(),
            grants: list.into(),
            expires_unix_ms: claims.expires,
        })
    }
}

fn decode(part: &str) -> Result<String, AuthError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthError::NotThreeParts)?;
    String::from_utf8(bytes).map_err(|_| AuthError::NotThreeParts)
}

fn check_time(expires: u64, not_before: u64, now: u64) -> Result<(), AuthError> {
    if now >= expires.saturating_add(LEEWAY_MS) {
        return Err(AuthError::Expired);
    }
    if now.saturating_add(LEEWAY_MS) < not_before {
        return Err(AuthError::NotYetValid);
    }
    Ok(())
}
