//! Tokens that must not open the door. Each is wrong in one way only, so that no other check can hide a missing one.

use super::forge::*;
use anabranch_gateway::auth::AuthError::{self, *};
use anabranch_gateway::auth::grants::GrantError;
use anabranch_protocol::code::Code;
use anabranch_protocol::limits;
use anabranch_protocol::topic::NameError;
use proptest::prelude::*;
use serde_json::json;

type Row = (&'static str, String, AuthError);

fn forms() -> Vec<Row> {
    let good = with_header(HEADER);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    vec![
        ("empty", "".into(), NotThreeParts),
        ("one part", "token".into(), NotThreeParts),
        ("two parts", message.into(), NotThreeParts),
        ("four parts", format!("{good}.{signature}"), NotThreeParts),
        ("an extra dot at the end", format!("{good}."), NotThreeParts),
        ("an extra dot in front", format!(".{good}"), NotThreeParts),
        ("only dots", "..".into(), Header("expected an object")),
        ("truncated", good[..good.len() - 8].into(), Signature),
        ("truncated within the payload", good[..header.len() + 20].into(), NotThreeParts),
        ("a blank in front", format!(" {good}"), NotThreeParts),
        ("a line break behind", format!("{good}\n"), Signature),
        ("Bearer in front", format!("Bearer {good}"), NotThreeParts),
        ("padded base64", format!("{header}=.{payload}.{signature}"), NotThreeParts),
        (
            "base64 with the wrong alphabet",
            format!("{header}.{}+/.{signature}", &payload[2..]),
            NotThreeParts,
        ),
        ("not ASCII", format!("{header}.{payload}é.{signature}"), NotThreeParts),
        (
            "encrypted, five parts",
            format!("{header}.{payload}.{payload}.{payload}.{signature}"),
            NotThreeParts,
        ),
        ("huge", with_claims(claims_with(json!({ "x": "x".repeat(limits::TOKEN_BYTES) }))), TooLong),
    ]
}

fn headers() -> Vec<Row> {
    let rsa_as_secret = |header| hs(RSA_PUBLIC, header, claims().to_string());
    let unsigned = |header: &str| format!("{}.{}.", part(header), part(claims().to_string()));
    let good_payload = part(claims().to_string());
    vec![
        ("alg none", unsigned(r#"{"alg":"none"}"#), WrongAlgorithm),
        ("alg NoNe", unsigned(r#"{"alg":"NoNe"}"#), WrongAlgorithm),
        ("alg none, with a signature", with_header(r#"{"alg":"none"}"#), WrongAlgorithm),
        ("alg HS256, no signature", unsigned(HEADER), Signature),
        ("alg in lower case", with_header(r#"{"alg":"hs256"}"#), WrongAlgorithm),
        ("alg HS512", with_header(r#"{"alg":"HS512"}"#), WrongAlgorithm),
        ("alg is missing", with_header(r#"{"typ":"JWT"}"#), Header("alg is missing")),
        ("alg is an array", with_header(r#"{"alg":["HS256"]}"#), Header("alg must be a string")),
        ("alg twice", with_header(r#"{"alg":"HS256","alg":"HS256"}"#), Header("it has a field twice")),
        (
            "alg twice, one escaped",
            with_header(r#"{"alg":"HS256","\u0061lg":"none"}"#),
            Header("it has a field twice"),
        ),
        (
            "HS256 with the RSA public key as secret",
            rsa_as_secret(r#"{"alg":"HS256","kid":"rsa"}"#),
            WrongAlgorithm,
        ),
        ("the same without a kid", rsa_as_secret(HEADER), Signature),
        (
            "HS256 with the EC public key",
            hs(EC_PUBLIC, r#"{"alg":"HS256","kid":"ec"}"#, claims().to_string()),
            WrongAlgorithm,
        ),
        ("RSA key, PSS padding", rsa_pss(r#"{"alg":"PS256","kid":"rsa"}"#), WrongAlgorithm),
        ("RSA key, PSS padding called RS256", rsa_pss(r#"{"alg":"RS256","kid":"rsa"}"#), Signature),
        ("EC signature called EdDSA", ec(r#"{"alg":"EdDSA","kid":"ed"}"#), Signature),
        ("EC signature under the RSA key's name", ec(r#"{"alg":"ES256","kid":"rsa"}"#), WrongAlgorithm),
        (
            "ES256 with r = s = 0",
            format!("{}.{good_payload}.{}", part(r#"{"alg":"ES256","kid":"ec"}"#), part([0; 64])),
            Signature,
        ),
        ("a key that nobody knows", with_header(r#"{"alg":"HS256","kid":"unknown"}"#), UnknownKey),
        ("no kid where the key has one", rsa(r#"{"alg":"RS256"}"#), WrongAlgorithm),
        ("another key's kid", with_header(r#"{"alg":"HS256","kid":"hs"}"#), Signature),
        ("kid is a path", with_header(r#"{"alg":"HS256","kid":"../../dev/null"}"#), Header(KID)),
        ("kid is SQL", with_header(r#"{"alg":"HS256","kid":"x' UNION SELECT 'k"}"#), Header(KID)),
        ("kid is a command", with_header(r#"{"alg":"HS256","kid":"|whoami"}"#), Header(KID)),
        ("kid is empty", with_header(r#"{"alg":"HS256","kid":""}"#), Header(KID)),
        (
            "kid is too long",
            with_header(&format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(129))),
            Header(KID),
        ),
        ("kid has a null byte", with_header(r#"{"alg":"HS256","kid":"hs\u0000"}"#), Header(KID)),
        ("kid is a number", with_header(r#"{"alg":"HS256","kid":1}"#), Header("kid must be a string")),
        ("crit", with_header(r#"{"alg":"HS256","crit":["exp"]}"#), RefusedHeader("crit")),
        ("crit is empty", with_header(r#"{"alg":"HS256","crit":[]}"#), RefusedHeader("crit")),
        ("jku", with_header(r#"{"alg":"HS256","jku":"https://evil.example/keys"}"#), RefusedHeader("jku")),
        ("jwk", with_header(r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}"#), RefusedHeader("jwk")),
        ("x5u", with_header(r#"{"alg":"HS256","x5u":"https://evil.example/c"}"#), RefusedHeader("x5u")),
        ("x5c", with_header(r#"{"alg":"HS256","x5c":["MII"]}"#), RefusedHeader("x5c")),
        ("b64 false", with_header(r#"{"alg":"HS256","b64":false}"#), RefusedHeader("b64")),
        ("zip", with_header(r#"{"alg":"HS256","zip":"DEF"}"#), RefusedHeader("zip")),
        ("a token in a token", with_header(r#"{"alg":"HS256","cty":"JWT"}"#), RefusedHeader("cty")),
        (
            "typ of a logout token",
            with_header(r#"{"alg":"HS256","typ":"logout+jwt"}"#),
            Header("typ must be JWT or at+jwt"),
        ),
        ("header is an array", with_header("[]"), Header("expected an object")),
        (
            "header is cut off",
            with_header(r#"{"alg":"HS256""#),
            Header("expected a comma or the container's end"),
        ),
        (
            "header is not UTF-8",
            hs(SECRET, HEADER, [0xff]).replace(&part(HEADER), &part([0xff])),
            NotThreeParts,
        ),
    ]
}

const KID: &str = "kid must be 1 to 128 letters, digits or . _ ~ + = : @ -";

fn tampered() -> Vec<Row> {
    let good = with_header(HEADER);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let mut flipped = signature.to_owned().into_bytes();
    flipped[0] = if flipped[0] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let admin = part(claims_with(json!({ "sub": "admin" })));
    let partner = |iss: &str, kid: &str| {
        let header = format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#);
        hs(PARTNER_SECRET, &header, claims_with(json!({ "iss": iss })))
    };
    vec![
        ("another payload", format!("{header}.{admin}.{signature}"), Signature),
        (
            "another header",
            format!("{}.{}", part(r#"{"typ":"JWT","alg":"HS256"}"#), &good[header.len() + 1..]),
            Signature,
        ),
        ("another signature", format!("{message}.{flipped}"), Signature),
        ("a signature that is not base64", format!("{message}.!!!!"), Signature),
        ("a longer signature", format!("{good}AA"), Signature),
        ("another secret", hs(OTHER_SECRET, HEADER, claims().to_string()), Signature),
        ("an empty secret", hs(b"", HEADER, claims().to_string()), Signature),
        ("the partner's key in our name", partner("issuer", "partner"), Issuer),
        ("the partner's key of the same kid in our name", partner("issuer", "hs"), Issuer),
    ]
}

fn times() -> Vec<Row> {
    let number = "it must be a number";
    let exp = |value: &str| with_claims(claims().to_string().replace(&(NOW + 60).to_string(), value));
    let nbf = |value: &str| with_claims(claims().to_string().replace(&(NOW - 60).to_string(), value));
    let milliseconds = "it must be in seconds, not milliseconds, and before the year 10000";
    vec![
        ("expired", exp(&(NOW - 30).to_string()), Expired),
        ("expired, just beyond the leeway", exp(&(NOW - 5).to_string()), Expired),
        ("expired 50 years ago", with_claims(claims_with(json!({ "nbf": 0, "exp": 1 }))), Expired),
        ("not valid yet", nbf(&(NOW + 30).to_string()), NotYetValid),
        ("not valid yet, just beyond the leeway", nbf(&(NOW + 6).to_string()), NotYetValid),
        (
            "nbf after exp",
            with_claims(claims_with(json!({ "nbf": NOW + 3, "exp": NOW + 2 }))),
            BadClaim("exp", "it must be after nbf"),
        ),
        ("exp is a string", exp(&format!("\"{}\"", NOW + 60)), BadClaim("exp", number)),
        ("exp is never", exp("\"never\""), BadClaim("exp", number)),
        ("exp is null", exp("null"), BadClaim("exp", number)),
        ("exp is true", exp("true"), BadClaim("exp", number)),
        ("exp is an array", exp(&format!("[{}]", NOW + 60)), BadClaim("exp", number)),
        ("exp is negative", exp("-1"), BadClaim("exp", "it must not be negative")),
        ("exp is minus zero", exp("-0"), BadClaim("exp", "it must not be negative")),
        ("exp overflows a float", exp("1e999"), BadClaim("exp", milliseconds)),
        ("exp overflows 64 bits", exp("18446744073709551617"), BadClaim("exp", milliseconds)),
        ("exp in milliseconds", exp(&((NOW + 60) * 1000).to_string()), BadClaim("exp", milliseconds)),
        ("nbf is a string", nbf("\"0\""), BadClaim("nbf", number)),
        ("nbf is negative", nbf("-5"), BadClaim("nbf", "it must not be negative")),
    ]
}

fn names() -> Vec<Row> {
    let with = |changes| with_claims(claims_with(changes));
    let string = "it must be a string";
    let audience = "it must be a string or an array of strings";
    let subject = "it must have 1 to 255 bytes and no control characters";
    let twice = Claims("it has a field twice");
    vec![
        ("no exp", with(json!({ "exp": null })), MissingClaim("exp")),
        ("no nbf", with(json!({ "nbf": null })), MissingClaim("nbf")),
        ("no aud", with(json!({ "aud": null })), MissingClaim("aud")),
        ("no iss", with(json!({ "iss": null })), MissingClaim("iss")),
        ("no sub", with(json!({ "sub": null })), MissingClaim("sub")),
        ("another audience", with(json!({ "aud": "billing" })), Audience),
        ("the audience in upper case", with(json!({ "aud": "GATEWAY" })), Audience),
        ("an audience that begins alike", with(json!({ "aud": "gateway2" })), Audience),
        ("audiences without ours", with(json!({ "aud": ["billing", "mail"] })), Audience),
        ("no audiences", with(json!({ "aud": [] })), Audience),
        ("an audience that is no string", with(json!({ "aud": ["gateway", 1] })), BadClaim("aud", audience)),
        (
            "an audience within an array within an array",
            with(json!({ "aud": [["gateway"]] })),
            BadClaim("aud", audience),
        ),
        (
            "an audience that is an object",
            with(json!({ "aud": { "gateway": true } })),
            BadClaim("aud", audience),
        ),
        ("another issuer", with(json!({ "iss": "evil" })), Issuer),
        ("the partner's name on our key", with(json!({ "iss": "partner" })), Issuer),
        ("the issuer with a slash", with(json!({ "iss": "issuer/" })), Issuer),
        ("issuers in an array", with(json!({ "iss": ["issuer"] })), BadClaim("iss", string)),
        ("an empty subject", with(json!({ "sub": "" })), BadClaim("sub", subject)),
        ("a subject with a line break", with(json!({ "sub": "a\nb" })), BadClaim("sub", subject)),
        ("a subject that is too long", with(json!({ "sub": "s".repeat(256) })), BadClaim("sub", subject)),
        ("a subject that is a number", with(json!({ "sub": 7 })), BadClaim("sub", string)),
        ("sub twice", with_claims(claims_after(r#""sub":"admin""#)), twice),
        ("exp twice", with_claims(claims_after(r#""exp":9999999999"#)), twice),
        ("exp twice, one escaped", with_claims(claims_after(r#""\u0065xp":9999999999"#)), twice),
        ("an unknown claim twice", with_claims(claims_after(r#""x":1,"x":2"#)), twice),
        ("claims are an array", with_claims("[]"), Claims("expected an object")),
        ("claims are null", with_claims("null"), Claims("expected an object")),
        ("claims are nothing", with_claims(""), Claims("expected an object")),
        ("claims and something else", with_claims(claims().to_string() + "{}"), Claims("expected the end")),
        ("claims are cut off", with_claims(&claims().to_string()[..20]), Claims("expected a colon")),
        ("claims are not UTF-8", with_claims(b"{\"sub\":\"\xff\"}"), NotThreeParts),
        (
            "claims are nested too deeply",
            with_claims(claims_after(&format!("\"x\":{}{}", "[".repeat(200), "]".repeat(200)))),
            Claims("nested too deeply"),
        ),
        (
            "too many claims",
            with_claims(claims_after(&(0..128).map(|i| format!("\"x{i}\":0")).collect::<Vec<_>>().join(","))),
            Claims("it has more than 128 fields"),
        ),
    ]
}

fn grants() -> Vec<Row> {
    let grants = |value| with_claims(claims_with(json!({ "anabranch": value })));
    let as_self =
        |sub: &str| with_claims(claims_with(json!({ "sub": sub, "anabranch": { "roles": ["self"] } })));
    let unknown =
        BadClaim("anabranch", "it has a field other than read, write, deny, denyRead, denyWrite, roles");
    let arrays = BadClaim("anabranch", "each of its fields must be an array of strings");
    let many: Vec<String> = (0..257).map(|i| format!("a/{i}")).collect();
    vec![
        ("a misspelled denial", grants(json!({ "read": ["#"], "denyread": ["secret/#"] })), unknown),
        ("a denial in snake case", grants(json!({ "read": ["#"], "deny_read": ["secret/#"] })), unknown),
        ("grants are a string", grants(json!("#")), BadClaim("anabranch", "expected an object")),
        ("grants are true", grants(json!(true)), BadClaim("anabranch", "expected an object")),
        ("read is a string", grants(json!({ "read": "#" })), arrays),
        ("deny is a string", grants(json!({ "read": ["#"], "deny": "secret/#" })), arrays),
        ("read has a number", grants(json!({ "read": ["a", 1] })), arrays),
        (
            "deny twice",
            with_claims(claims_with(json!({ "anabranch": null })).replacen(
                '{',
                r##"{"anabranch":{"deny":["a"],"deny":[]},"##,
                1,
            )),
            BadClaim("anabranch", "it has a field twice"),
        ),
        (
            "a filter with a misplaced #",
            grants(json!({ "read": ["a/#/b"] })),
            Grants(GrantError::Filter(NameError::MisplacedWildcard)),
        ),
        ("an empty filter", grants(json!({ "read": [""] })), Grants(GrantError::Filter(NameError::Empty))),
        (
            "a shared filter",
            grants(json!({ "read": ["$share/g/#"] })),
            Grants(GrantError::Filter(NameError::Shared)),
        ),
        (
            "a filter that is too long",
            grants(json!({ "deny": ["a".repeat(256)] })),
            Grants(GrantError::Filter(NameError::TooLong)),
        ),
        ("257 filters", grants(json!({ "read": many })), Grants(GrantError::TooMany)),
        ("a role that is not known", grants(json!({ "roles": ["viewer", "admin"] })), UnknownRole),
        ("a role in upper case", grants(json!({ "roles": ["Viewer"] })), UnknownRole),
        ("a subject + in a role", as_self("+"), SubjectInFilter),
        ("a subject # in a role", as_self("#"), SubjectInFilter),
        ("a subject that climbs", as_self("bob/secret"), SubjectInFilter),
        ("a subject with a wildcard within", as_self("bo+b"), SubjectInFilter),
        ("a subject that begins with $", as_self("$SYS"), SubjectInFilter),
        (
            "a subject too long for the filter",
            as_self(&"s".repeat(250)),
            Grants(GrantError::Filter(NameError::TooLong)),
        ),
    ]
}

#[test]
fn every_bad_token_is_refused_for_its_own_reason() {
    let rows = [forms(), headers(), tampered(), times(), names(), grants()].concat();
    let mut failures = 0;
    for (name, token, expected) in &rows {
        let verdict = verdict(token);
        if verdict != Err(*expected) {
            failures += 1;
            eprintln!("{name}: {verdict:?}, expected {expected:?}");
        }
    }
    println!("refused {} of {} bad tokens", rows.len() - failures, rows.len());
    assert_eq!(failures, 0);
    assert!(rows.len() >= 40);
}

#[test]
fn each_refusal_has_a_code_and_words_without_the_token() {
    for (name, token, _) in [forms(), headers(), tampered(), times(), names(), grants()].concat() {
        let Err(error) = verdict(&token) else { continue };
        let expected = match error {
            Expired => Code::TOKEN_EXPIRED,
            NotYetValid => Code::TOKEN_NOT_YET_VALID,
            _ => Code::TOKEN_INVALID,
        };
        assert_eq!(error.code(), expected, "{name}");
        for shown in [error.to_string(), format!("{error:?}")] {
            for piece in token.split('.').filter(|piece| piece.len() > 8) {
                assert!(!shown.contains(piece), "{name}: {shown}");
            }
        }
    }
}

#[test]
fn a_change_of_any_one_character_is_noticed() {
    let gateway = gateway();
    let tokens =
        [with_header(HEADER), rsa(r#"{"alg":"RS256","kid":"rsa"}"#), ed(r#"{"alg":"EdDSA","kid":"ed"}"#)];
    let mut changes = 0;
    for good in &tokens {
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            let bad = String::from_utf8(bad).unwrap();
            assert!(gateway.verify(&bad, NOW * 1000).is_err(), "character {at} of {good}");
            changes += 1;
        }
    }
    println!("noticed {changes} changes");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

    /// Whoever holds a key may still write nonsense; nobody's nonsense may stop the gateway.
    #[test]
    fn nonsense_is_refused_without_a_panic(
        header in "\\PC{0,64}",
        claims in proptest::collection::vec(any::<u8>(), 0..64),
        cut in any::<proptest::sample::Index>(),
    ) {
        let gateway = gateway();
        prop_assert!(gateway.verify(&header, NOW * 1000).is_err());
        prop_assert!(gateway.verify(&hs(SECRET, &header, claims.as_slice()), NOW * 1000).is_err());
        prop_assert!(gateway.verify(&with_claims(&claims), NOW * 1000).is_err());
        // A good token's claims, broken off and gone on with at random; by rare chance they are good again.
        let good = super::forge::claims().to_string();
        let broken = [&good.as_bytes()[..cut.index(good.len())], &claims].concat();
        let _ = gateway.verify(&with_claims(&broken), NOW * 1000);
    }
}
