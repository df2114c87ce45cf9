//! Makes tokens, for development and tests. In production the platform's issuer does.

use crate::config::Secret;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::{Map, Value, json};

/// A token to be signed with HS256.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewToken {
    pub subject: String,
    pub issuer: String,
    pub audience: String,
    /// The key's id, if the gateway's key has one.
    pub kid: Option<String>,
    /// When it begins, in seconds since 1970.
    pub not_before: u64,
    /// When it ends, in seconds since 1970.
    pub expires: u64,
    pub read: Vec<String>,
    pub write: Vec<String>,
    pub deny: Vec<String>,
    pub roles: Vec<String>,
}

impl NewToken {
    /// The token as text. Whether it says anything that makes sense, [`Authenticator::verify`](super::Authenticator::verify) knows.
    pub fn sign(&self, secret: &Secret) -> String {
        let mut header = json!({ "alg": "HS256", "typ": "JWT" });
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        let mut grants = Map::new();
        for (name, list) in
            [("read", &self.read), ("write", &self.write), ("deny", &self.deny), ("roles", &self.roles)]
        {
            if !list.is_empty() {
                grants.insert(name.to_owned(), json!(list));
            }
        }
        let mut claims = json!({
            "iss": self.issuer,
            "sub": self.subject,
            "aud": self.audience,
            "nbf": self.not_before,
            "exp": self.expires,
        });
        // Without the claim the gateway's default roles hold.
        if !grants.is_empty() {
            claims["anabranch"] = Value::Object(grants);
        }
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let key = EncodingKey::from_secret(secret.reveal());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256)
            .expect("HMAC takes a key of any length");
        format!("{message}.{signature}")
    }
}
