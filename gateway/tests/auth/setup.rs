//! Keys and roles that a gateway must not start with, and tokens that it makes itself.

use super::forge::*;
use anabranch_gateway::auth::grants::GrantError;
use anabranch_gateway::auth::{Algorithm, Authenticator, KEYS, KeyError, NewToken, SetupError};
use anabranch_gateway::config::{AuthConfig, KeyConfig, RoleConfig, Secret};
use anabranch_protocol::topic::NameError;

fn with_key(key: KeyConfig) -> Result<(), SetupError> {
    Authenticator::new(&AuthConfig { keys: vec![key], ..AuthConfig::default() }).map(drop)
}

#[test]
fn bad_keys_are_refused_at_start() {
    let pem = |text: &str| text.as_bytes().to_vec();
    let rows: Vec<(&str, Algorithm, Vec<u8>, KeyError)> = vec![
        ("an empty secret", Algorithm::Hs256, vec![], KeyError::ShortSecret),
        ("31 bytes", Algorithm::Hs256, SECRET[..31].into(), KeyError::ShortSecret),
        ("a public key as a secret", Algorithm::Hs256, RSA_PUBLIC.into(), KeyError::PemForSecret),
        ("a private key", Algorithm::Rs256, include_bytes!("keys/rsa.private.pem").into(), KeyError::Private),
        (
            "a private EC key",
            Algorithm::Es256,
            include_bytes!("keys/ec.private.pem").into(),
            KeyError::Private,
        ),
        ("1024 bits", Algorithm::Rs256, include_bytes!("keys/rsa-1024.public.pem").into(), KeyError::RsaSize),
        (
            "another curve",
            Algorithm::Es256,
            include_bytes!("keys/p384.public.pem").into(),
            KeyError::NotPem(Algorithm::Es256),
        ),
        ("EC for RSA", Algorithm::Rs256, EC_PUBLIC.into(), KeyError::NotPem(Algorithm::Rs256)),
        ("RSA for EC", Algorithm::Es256, RSA_PUBLIC.into(), KeyError::NotPem(Algorithm::Es256)),
        ("EC for Ed25519", Algorithm::EdDsa, EC_PUBLIC.into(), KeyError::NotPem(Algorithm::EdDsa)),
        ("a secret for RSA", Algorithm::Rs256, SECRET.into(), KeyError::NotPem(Algorithm::Rs256)),
        (
            "a certificate",
            Algorithm::Es256,
            include_bytes!("keys/certificate.pem").into(),
            KeyError::NotPem(Algorithm::Es256),
        ),
        (
            "an empty PEM",
            Algorithm::EdDsa,
            pem("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"),
            KeyError::NotPem(Algorithm::EdDsa),
        ),
        (
            "a short Ed25519 key",
            Algorithm::EdDsa,
            pem("-----BEGIN PUBLIC KEY-----\nMA4wBQYDK2VwAwUAAQIDBA==\n-----END PUBLIC KEY-----\n"),
            KeyError::NotPem(Algorithm::EdDsa),
        ),
    ];
    for (name, algorithm, material, error) in rows {
        assert_eq!(
            with_key(key(algorithm, None, &material)),
            Err(SetupError::Key { number: 1, error }),
            "{name}"
        );
    }
    let error = KeyError::BadKeyId;
    assert_eq!(
        with_key(key(Algorithm::Hs256, Some("../k"), SECRET)),
        Err(SetupError::Key { number: 1, error }),
        "a key id that no token could name"
    );
    with_key(key(Algorithm::Rs256, None, include_bytes!("keys/rsa-pkcs1.public.pem"))).unwrap();
}

#[test]
fn no_keys_and_too_many_keys_are_refused() {
    let with = |keys| Authenticator::new(&AuthConfig { keys, ..AuthConfig::default() }).map(drop);
    assert_eq!(with(vec![]), Err(SetupError::NoKey));
    assert_eq!(with(vec![key(Algorithm::Hs256, None, SECRET); KEYS + 1]), Err(SetupError::TooManyKeys));
}

#[test]
fn bad_roles_are_refused_at_start() {
    let with = |filter: &str| {
        let role = RoleConfig { deny: vec![filter.to_owned()], ..RoleConfig::default() };
        Authenticator::new(&AuthConfig { roles: [("r".to_owned(), role)].into(), ..config() }).map(drop)
    };
    let error = |filter: &str, error| SetupError::Role { role: "r".into(), filter: filter.into(), error };
    let misplaced = GrantError::Filter(NameError::MisplacedWildcard);
    assert_eq!(with("a/{sub}#"), Err(error("a/{sub}#", misplaced)));
    assert_eq!(with("a/#/{sub}"), Err(error("a/#/{sub}", misplaced)));
    // The configuration still names `viewer` as a default role, which these configurations no longer have.
    assert_eq!(with("a/{sub}/#"), Err(SetupError::UnknownDefaultRole("viewer".into())));
}

#[test]
fn a_minted_token_is_taken() {
    let token = NewToken {
        subject: "dev".into(),
        issuer: "issuer".into(),
        audience: "gateway".into(),
        kid: Some("hs".into()),
        not_before: NOW,
        expires: NOW + 60,
        read: vec!["#".into()],
        deny: vec!["a/secret".into()],
        roles: vec!["self".into()],
        ..NewToken::default()
    };
    let principal = gateway().verify(&token.sign(&Secret::new(OTHER_SECRET)), NOW * 1000).unwrap();
    assert!(principal.grants.may_read("x") && !principal.grants.may_read("a/secret"));
    assert!(principal.grants.may_write("users/dev/preferences") && !principal.grants.may_write("x"));
    assert!(!format!("{:?}", config()).contains("0123456789"), "Debug shows a secret");
}
