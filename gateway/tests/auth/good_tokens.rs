//! Tokens that must open the door, and what they open.

use super::forge::*;
use anabranch_gateway::auth::AuthError;
use anabranch_protocol::filter::Filter;
use serde_json::json;
use std::sync::Arc;

#[test]
fn every_good_token_is_taken() {
    let with = |changes| with_claims(claims_with(changes));
    let partner = |kid: &str| {
        let header = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
        hs(PARTNER_SECRET, &header, claims_with(json!({ "iss": "partner" })))
    };
    let rows = [
        ("HS256", with_header(HEADER)),
        ("RS256", rsa(r#"{"alg":"RS256","kid":"rsa"}"#)),
        ("ES256", ec(r#"{"alg":"ES256","kid":"ec","typ":"JWT"}"#)),
        ("EdDSA", ed(r#"{"kid":"ed","alg":"EdDSA"}"#)),
        (
            "a second key of the same algorithm",
            hs(OTHER_SECRET, r#"{"alg":"HS256","kid":"hs"}"#, claims().to_string()),
        ),
        ("a partner with its own issuer", partner("partner")),
        ("a partner whose kid is ours too", partner("hs")),
        ("no typ", with_header(r#"{"alg":"HS256"}"#)),
        ("an access token by its typ", with_header(r#"{"alg":"HS256","typ":"at+JWT"}"#)),
        (
            "a thumbprint and an unknown header",
            with_header(r#"{"alg":"HS256","x5t":"AAAA","vendor":{"a":1}}"#),
        ),
        ("ours among several audiences", with(json!({ "aud": ["billing", "gateway"] }))),
        ("expired within the leeway", with(json!({ "exp": NOW - 4 }))),
        ("not valid yet, within the leeway", with(json!({ "nbf": NOW + 5, "exp": NOW + 60 }))),
        ("times with fractions", with(json!({ "nbf": NOW as f64 - 0.25, "exp": NOW as f64 + 0.5 }))),
        (
            "a time in scientific notation",
            with_claims(claims().to_string().replace(&(NOW + 60).to_string(), "1.9e9")),
        ),
        (
            "unknown claims",
            with(json!({ "iat": NOW, "jti": "x", "scope": "a b", "nested": { "a": [1, { "a": 2 }] } })),
        ),
        ("a subject with wildcards, in no filter", with(json!({ "sub": "+/#" }))),
        ("a subject in another script", with(json!({ "sub": "Zoë 李" }))),
        ("no grants", with(json!({ "anabranch": {} }))),
        ("the default roles", with(json!({ "anabranch": null }))),
        ("blanks between the fields", with_claims(claims().to_string().replace(',', " ,\n"))),
        (
            "256 filters",
            with(json!({ "anabranch": { "read": (0..256).map(|i| format!("a/{i}")).collect::<Vec<_>>() } })),
        ),
    ];
    for (name, token) in &rows {
        assert_eq!(verdict(token), Ok(()), "{name}");
    }
    println!("took {} good tokens", rows.len());
}

#[test]
fn a_principal_is_what_its_token_says() {
    let token = with_claims(claims_with(json!({
        "sub": "alice", "exp": NOW + 60,
        "anabranch": { "read": ["b/+"], "write": ["c"], "deny": ["b/x"], "roles": ["self", "viewer"] },
    })));
    let principal = gateway().verify(&token, NOW * 1000).unwrap();
    assert_eq!(&*principal.subject, "alice");
    assert_eq!(principal.expires_unix_ms, (NOW + 60) * 1000);
    let grants = &principal.grants;
    for (topic, read, write) in [
        ("a/x/y", true, false),
        ("b/y", true, false),
        ("b/x", false, false),
        ("c", false, true),
        ("users/alice", true, false),
        ("users/alice/preferences", true, true),
        ("users/alice/secret", false, false),
        ("users/bob", false, false),
        ("users/{sub}", false, false),
    ] {
        assert_eq!((grants.may_read(topic), grants.may_write(topic)), (read, write), "{topic}");
    }
    assert!(!grants.may_subscribe(&Filter::new("users/+").unwrap()));
    assert!(!grants.may_subscribe(&Filter::new("users/alice/#").unwrap()), "it overlaps the denied secret");
}

#[test]
fn a_token_without_the_claim_has_the_default_roles_and_with_an_empty_one_nothing() {
    let gateway = gateway();
    let without =
        gateway.verify(&with_claims(claims_with(json!({ "anabranch": null }))), NOW * 1000).unwrap();
    let empty = gateway.verify(&with_claims(claims_with(json!({ "anabranch": {} }))), NOW * 1000).unwrap();
    assert!(without.grants.may_read("a/b") && !without.grants.may_write("a/b"));
    assert!(empty.grants.is_empty());
}

#[test]
fn equal_tokens_share_a_principal_until_it_expires() {
    let gateway = gateway();
    let token = with_header(HEADER);
    let first = gateway.verify(&token, NOW * 1000).unwrap();
    let second = gateway.verify(&token, (NOW + 1) * 1000).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(gateway.verify(&token, (NOW + 65) * 1000).unwrap_err(), AuthError::Expired);
    assert_eq!(gateway.verify(&token, (NOW - 66) * 1000).unwrap_err(), AuthError::NotYetValid);
    assert!(first.is_expired((NOW + 65) * 1000) && !first.is_expired((NOW + 65) * 1000 - 1));
    let tampered = format!("{token}A");
    assert_eq!(gateway.verify(&tampered, NOW * 1000).unwrap_err(), AuthError::Signature);
}
