//! A workshop for tokens, good and bad, and the gateway that judges them.

use anabranch_gateway::auth::{Algorithm, AuthError, Authenticator};
use anabranch_gateway::config::{AuthConfig, KeyConfig, RoleConfig, Secret};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

/// When all the tests take place, in seconds since 1970.
pub const NOW: u64 = 1_800_000_000;

pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
pub const OTHER_SECRET: &[u8] = b"another secret, just as long as it";
pub const PARTNER_SECRET: &[u8] = b"the partner's secret is their own";
pub const RSA_PUBLIC: &[u8] = include_bytes!("keys/rsa.public.pem");
pub const EC_PUBLIC: &[u8] = include_bytes!("keys/ec.public.pem");
pub const ED_PUBLIC: &[u8] = include_bytes!("keys/ed.public.pem");

pub fn key(algorithm: Algorithm, kid: Option<&str>, material: &[u8]) -> KeyConfig {
    KeyConfig { algorithm, kid: kid.map(String::from), issuer: None, material: Secret::new(material) }
}

/// A gateway with keys of every kind, a partner with a key of its own, and two roles.
pub fn config() -> AuthConfig {
    let filters = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    AuthConfig {
        audience: "gateway".into(),
        issuer: "issuer".into(),
        keys: vec![
            key(Algorithm::Hs256, None, SECRET),
            key(Algorithm::Hs256, Some("hs"), OTHER_SECRET),
            key(Algorithm::Rs256, Some("rsa"), RSA_PUBLIC),
            key(Algorithm::Es256, Some("ec"), EC_PUBLIC),
            key(Algorithm::EdDsa, Some("ed"), ED_PUBLIC),
            KeyConfig {
                issuer: Some("partner".into()),
                ..key(Algorithm::Hs256, Some("partner"), PARTNER_SECRET)
            },
            // The partner, too, calls a key "hs".
            KeyConfig { issuer: Some("partner".into()), ..key(Algorithm::Hs256, Some("hs"), PARTNER_SECRET) },
        ],
        roles: [
            ("viewer".to_owned(), RoleConfig { read: filters(&["a/#"]), ..Default::default() }),
            (
                "self".to_owned(),
                RoleConfig {
                    read: filters(&["users/{sub}/#"]),
                    write: filters(&["users/{sub}/preferences"]),
                    deny_read: filters(&["users/{sub}/secret"]),
                    ..Default::default()
                },
            ),
        ]
        .into(),
        default_roles: vec!["viewer".to_owned()],
    }
}

pub fn gateway() -> Authenticator {
    Authenticator::new(&config()).unwrap()
}

/// Claims that are right in every way.
pub fn claims() -> Value {
    json!({
        "iss": "issuer", "aud": "gateway", "sub": "alice", "nbf": NOW - 60, "exp": NOW + 60,
        "anabranch": { "read": ["a/#"], "write": ["b"] },
    })
}

/// The good claims, with some replaced; `null` takes one out.
pub fn claims_with(changes: Value) -> String {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims.to_string()
}

/// The good claims as text, with one more field in front, written as it is.
pub fn claims_after(field: &str) -> String {
    claims().to_string().replacen('{', &format!("{{{field},"), 1)
}

pub fn part(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs with HMAC, whatever the header says.
pub fn hs(secret: &[u8], header: &str, claims: impl AsRef<[u8]>) -> String {
    signed(&EncodingKey::from_secret(secret), jsonwebtoken::Algorithm::HS256, header, claims)
}

/// The good header of the key without an id.
pub const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// A token with these claims, signed as it should be.
pub fn with_claims(claims: impl AsRef<[u8]>) -> String {
    hs(SECRET, HEADER, claims)
}

/// A token with this header, signed as it should be.
pub fn with_header(header: &str) -> String {
    hs(SECRET, header, claims().to_string())
}

pub fn rsa(header: &str) -> String {
    let key = EncodingKey::from_rsa_pem(include_bytes!("keys/rsa.private.pem")).unwrap();
    signed(&key, jsonwebtoken::Algorithm::RS256, header, claims().to_string())
}

pub fn rsa_pss(header: &str) -> String {
    let key = EncodingKey::from_rsa_pem(include_bytes!("keys/rsa.private.pem")).unwrap();
    signed(&key, jsonwebtoken::Algorithm::PS256, header, claims().to_string())
}

pub fn ec(header: &str) -> String {
    let key = EncodingKey::from_ec_pem(include_bytes!("keys/ec.private.pem")).unwrap();
    signed(&key, jsonwebtoken::Algorithm::ES256, header, claims().to_string())
}

pub fn ed(header: &str) -> String {
    let key = EncodingKey::from_ed_pem(include_bytes!("keys/ed.private.pem")).unwrap();
    signed(&key, jsonwebtoken::Algorithm::EdDSA, header, claims().to_string())
}

fn signed(
    key: &EncodingKey,
    algorithm: jsonwebtoken::Algorithm,
    header: &str,
    claims: impl AsRef<[u8]>,
) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// What the gateway says of a token at [`NOW`].
pub fn verdict(token: &str) -> Result<(), AuthError> {
    gateway().verify(token, NOW * 1000).map(drop)
}
