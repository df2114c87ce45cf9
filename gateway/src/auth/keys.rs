//! Keys: each verifies one algorithm, for one issuer.

use crate::config::KeyConfig;
use jsonwebtoken::DecodingKey;
use std::fmt;
use std::str::FromStr;

/// Most keys of one gateway: a token without a `kid` may have to be tried against each.
pub const KEYS: usize = 32;

/// Shortest HS256 secret, in bytes (RFC 7518, section 3.2). Shorter ones are guessed offline, from any one token.
pub const SECRET_BYTES: usize = 32;

/// Longest key id, in bytes.
pub const KEY_ID_BYTES: usize = 128;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: a secret shared with the issuer.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256: 2,048 to 4,096 bits.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    pub const ALL: [Algorithm; 4] = [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

    /// The name in a token's header (RFC 7518, section 3.1; RFC 8037).
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    pub(super) const fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        known.ok_or_else(|| format!("{name:?} is not an algorithm: write HS256, RS256, ES256 or EdDSA"))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a key cannot be used. The text is for the operator and shows nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the secret has fewer than {SECRET_BYTES} bytes; make one with: openssl rand -hex 32")]
    ShortSecret,
    #[error(
        "this is a PEM file, HS256 needs a plain secret; for a public key set algorithm to RS256, ES256 or EdDSA"
    )]
    PemForSecret,
    #[error("this is a private key; the gateway needs only the public one, and must not have the other")]
    Private,
    #[error("this is not a PEM public key for {0} (it begins with -----BEGIN PUBLIC KEY-----)")]
    NotPem(Algorithm),
    #[error("the RSA key must have 2048 to 4096 bits")]
    RsaSize,
    #[error("the key id must have 1 to {KEY_ID_BYTES} letters, digits or . _ ~ + = : @ -")]
    BadKeyId,
}

/// A key that is ready to verify.
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<Box<str>>,
    pub(super) issuer: Box<str>,
    decoding: DecodingKey,
}

impl Key {
    pub(super) fn new(config: &KeyConfig, issuer: &str) -> Result<Key, KeyError> {
        if config.kid.as_deref().is_some_and(|kid| !is_plain_key_id(kid)) {
            return Err(KeyError::BadKeyId);
        }
        Ok(Key {
            algorithm: config.algorithm,
            kid: config.kid.as_deref().map(Into::into),
            issuer: config.issuer.as_deref().unwrap_or(issuer).into(),
            decoding: decoding_key(config.algorithm, config.material.reveal())?,
        })
    }

    /// Whether this key made the signature (base64url, as in the token) over the message (`header.payload`).
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        let algorithm = self.algorithm.of_library();
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.decoding, algorithm)
            .unwrap_or(false)
    }
}

/// Checks a key without keeping it, for the one who reads the configuration and knows where the key came from.
pub fn check_key(config: &KeyConfig) -> Result<(), KeyError> {
    Key::new(config, "").map(drop)
}

/// Key ids are compared, never opened, but they reach logs and other people's tools.
pub(super) fn is_plain_key_id(kid: &str) -> bool {
    (1..=KEY_ID_BYTES).contains(&kid.len())
        && kid.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~+=:@-".contains(&b))
}

fn decoding_key(algorithm: Algorithm, material: &[u8]) -> Result<DecodingKey, KeyError> {
    let contains = |text: &str| material.windows(text.len()).any(|window| window == text.as_bytes());
    if algorithm == Algorithm::Hs256 {
        // With an RSA public key as the secret, everybody who has the public key could sign.
        if contains("-----BEGIN ") {
            return Err(KeyError::PemForSecret);
        }
        if material.len() < SECRET_BYTES {
            return Err(KeyError::ShortSecret);
        }
        return Ok(DecodingKey::from_secret(material));
    }
    if contains("PRIVATE KEY-----") {
        return Err(KeyError::Private);
    }
    let not_pem = KeyError::NotPem(algorithm);
    // The library would take the first bit string of a certificate, whatever that is.
    if !contains("PUBLIC KEY-----") {
        return Err(not_pem);
    }
    let key = match algorithm {
        Algorithm::Rs256 => DecodingKey::from_rsa_pem(material),
        Algorithm::Es256 => DecodingKey::from_ec_pem(material),
        Algorithm::EdDsa | Algorithm::Hs256 => DecodingKey::from_ed_pem(material),
    }
    .map_err(|_| not_pem)?;
    let raw = key.try_get_as_bytes().map_err(|_| not_pem)?;
    match algorithm {
        Algorithm::Rs256 => match rsa_bits(raw).ok_or(not_pem)? {
            2048..=4096 => {}
            _ => return Err(KeyError::RsaSize),
        },
        // The library slices 32 bytes off without looking.
        Algorithm::EdDsa if raw.len() != 32 => return Err(not_pem),
        _ => {}
    }
    // A point that is not on the curve, or another curve, shows in a first use.
    let nothing = "A".repeat(86);
    jsonwebtoken::crypto::verify(&nothing, b"", &key, algorithm.of_library()).map_err(|_| not_pem)?;
    Ok(key)
}

/// The size of the modulus in a DER `RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }`.
fn rsa_bits(der: &[u8]) -> Option<usize> {
    let (_, sequence) = der_header(der, 0x30)?;
    let (length, modulus) = der_header(sequence, 0x02)?;
    let modulus = modulus.get(..length)?;
    let leading_zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(leading_zeros)?;
    Some((length - leading_zeros) * 8 - first.leading_zeros() as usize)
}

/// Reads a tag and a length of at most two bytes; returns the length and what follows.
fn der_header(der: &[u8], tag: u8) -> Option<(usize, &[u8])> {
    match der {
        [t, length @ 0..=0x7f, rest @ ..] if *t == tag => Some((usize::from(*length), rest)),
        [t, 0x81, length, rest @ ..] if *t == tag => Some((usize::from(*length), rest)),
        [t, 0x82, high, low, rest @ ..] if *t == tag => {
            Some((usize::from(*high) << 8 | usize::from(*low), rest))
        }
        _ => None,
    }
}
