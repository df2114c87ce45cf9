//! Reads a token's two JSON parts, strictly: what is repeated, misspelled or of another type is refused, not guessed.
//!
//! A general JSON library takes the last of two equal fields, and some take `"exp": "never"` for no `exp` at all
//! (CVE-2026-25537). Both have let people in.

use super::error::AuthError;
use super::grants::Kind;
use anabranch_protocol::json::Scanner;
use std::borrow::Cow;

/// Most fields in the header or the claims.
const FIELDS: usize = 128;

/// The latest time that a claim may name: the end of the year 9999, in seconds. Beyond, somebody wrote milliseconds.
const LATEST_SECONDS: f64 = 253_402_300_799.0;

/// Header fields that ask the verifier to take a key or a rule from the token itself.
const REFUSED_HEADERS: [&str; 9] = ["crit", "jku", "jwk", "x5u", "x5c", "enc", "zip", "b64", "cty"];

/// What counts of a token's header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header<'a> {
    pub(super) alg: Cow<'a, str>,
    pub(super) kid: Option<Cow<'a, str>>,
}

impl<'a> Header<'a> {
    pub(super) fn read(text: &'a str) -> Result<Header<'a>, AuthError> {
        let fields = Fields::read(text).map_err(AuthError::Header)?;
        if let Some(name) = REFUSED_HEADERS.into_iter().find(|name| fields.raw(name).is_some()) {
            return Err(AuthError::RefusedHeader(name));
        }
        let string = |name, problem| match fields.raw(name) {
            None => Ok(None),
            Some(raw) => string(raw).map(Some).ok_or(AuthError::Header(problem)),
        };
        if let Some(kind) = string("typ", "typ must be a string")? {
            let kind = kind.to_ascii_lowercase();
            // Anything else was signed by the same issuer for another purpose (RFC 8725, section 3.11).
            if !["jwt", "at+jwt", "application/at+jwt"].contains(&kind.as_str()) {
                return Err(AuthError::Header("typ must be JWT or at+jwt"));
            }
        }
        Ok(Header {
            alg: string("alg", "alg must be a string")?.ok_or(AuthError::Header("alg is missing"))?,
            kid: string("kid", "kid must be a string")?,
        })
    }
}

/// What counts of a token's claims. Times are in milliseconds since 1970.
#[derive(Debug)]
pub(super) struct Claims<'a> {
    pub(super) subject: Cow<'a, str>,
    pub(super) issuer: Cow<'a, str>,
    pub(super) audiences: Vec<Cow<'a, str>>,
    pub(super) expires: u64,
    pub(super) not_before: u64,
    pub(super) grants: Option<GrantClaim<'a>>,
}

impl<'a> Claims<'a> {
    pub(super) fn read(text: &'a str) -> Result<Claims<'a>, AuthError> {
        let fields = Fields::read(text).map_err(AuthError::Claims)?;
        let required = |name| fields.raw(name).ok_or(AuthError::MissingClaim(name));
        let text = |name| string(required(name)?).ok_or(AuthError::BadClaim(name, "it must be a string"));
        let time = |name| time_ms(required(name)?).map_err(|problem| AuthError::BadClaim(name, problem));
        let audiences = required("aud")?;
        let claims = Claims {
            subject: text("sub")?,
            issuer: text("iss")?,
            audiences: match string(audiences) {
                Some(one) => vec![one],
                None => strings(audiences)
                    .ok_or(AuthError::BadClaim("aud", "it must be a string or an array of strings"))?,
            },
            expires: time("exp")?,
            not_before: time("nbf")?,
            grants: fields.raw("anabranch").map(GrantClaim::read).transpose()?,
        };
        if claims.expires <= claims.not_before {
            return Err(AuthError::BadClaim("exp", "it must be after nbf"));
        }
        Ok(claims)
    }
}

/// The claim `anabranch`: `{ "read": […], "write": […], "deny": […], "denyRead": […], "denyWrite": […], "roles": […] }`.
#[derive(Debug, Default)]
pub(super) struct GrantClaim<'a> {
    pub(super) filters: Vec<(Kind, Cow<'a, str>)>,
    pub(super) roles: Vec<Cow<'a, str>>,
}

impl<'a> GrantClaim<'a> {
    fn read(text: &'a str) -> Result<GrantClaim<'a>, AuthError> {
        let bad = |problem| AuthError::BadClaim("anabranch", problem);
        let mut claim = GrantClaim::default();
        for (name, raw) in Fields::read(text).map_err(bad)?.0 {
            let items = strings(raw).ok_or(bad("each of its fields must be an array of strings"))?;
            match Kind::of_claim(&name) {
                Some(kind) => claim.filters.extend(items.into_iter().map(|item| (kind, item))),
                None if name == "roles" => claim.roles = items,
                // A misspelled `denyRead` must not turn into no denial.
                None => {
                    return Err(bad(
                        "it has a field other than read, write, deny, denyRead, denyWrite, roles",
                    ));
                }
            }
        }
        Ok(claim)
    }
}

/// An object's fields with their values as text, no name twice.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Fields<'a>, &'static str> {
        let mut scanner = Scanner::new(text);
        let mut fields = Vec::new();
        scanner.enter_object().map_err(|e| e.what)?;
        while let Some(name) = scanner.next_key().map_err(|e| e.what)? {
            let value = scanner.raw().map_err(|e| e.what)?;
            if fields.len() == FIELDS {
                return Err("it has more than 128 fields");
            }
            if fields.iter().any(|(seen, _)| *seen == name) {
                return Err("it has a field twice");
            }
            fields.push((name, value));
        }
        scanner.end().map_err(|e| e.what)?;
        Ok(Fields(fields))
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, raw)| *raw)
    }
}

fn string(raw: &str) -> Option<Cow<'_, str>> {
    Scanner::new(raw).string().ok()
}

fn strings(raw: &str) -> Option<Vec<Cow<'_, str>>> {
    let mut scanner = Scanner::new(raw);
    let mut items = Vec::new();
    scanner.enter_array().ok()?;
    while scanner.next_item().ok()? {
        items.push(scanner.string().ok()?);
    }
    Some(items)
}

/// A NumericDate (RFC 7519, section 2): seconds since 1970, perhaps with a fraction.
fn time_ms(raw: &str) -> Result<u64, &'static str> {
    let seconds: f64 = match raw.as_bytes().first() {
        Some(b'0'..=b'9') => raw.parse().map_err(|_| "it must be a number")?,
        Some(b'-') => return Err("it must not be negative"),
        _ => return Err("it must be a number"),
    };
    if seconds > LATEST_SECONDS {
        return Err("it must be in seconds, not milliseconds, and before the year 10000");
    }
    Ok((seconds * 1000.0) as u64)
}
