//! Why a token is refused.

use super::grants::GrantError;
use anabranch_protocol::code::Code;

/// Why a token is refused. The text is for people and never contains any part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("the token is longer than 16 KiB")]
    TooLong,
    #[error("the token is not three base64url parts joined by dots")]
    NotThreeParts,
    #[error("the token's header is not valid: {0}")]
    Header(&'static str),
    #[error("the token's header has the field {0}, which is not accepted here")]
    RefusedHeader(&'static str),
    #[error("no key of this gateway has the token's kid; if keys were rotated, get a fresh token")]
    UnknownKey,
    #[error("the token's key is not for the token's algorithm")]
    WrongAlgorithm,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token's claims are not valid: {0}")]
    Claims(&'static str),
    #[error("the token has no claim {0}")]
    MissingClaim(&'static str),
    #[error("the token's claim {0} is not valid: {1}")]
    BadClaim(&'static str, &'static str),
    #[error("the token was not issued by the issuer that its key belongs to")]
    Issuer,
    #[error("the token is meant for another audience")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token names a role that this gateway does not know")]
    UnknownRole,
    #[error(
        "a role of the token puts the subject into a filter, where it must not be empty, begin with $ or contain / + #"
    )]
    SubjectInFilter,
    #[error("{0}")]
    Grants(#[from] GrantError),
}

impl AuthError {
    /// The code that tells the client what to do.
    pub fn code(self) -> Code {
        match self {
            AuthError::Expired => Code::TOKEN_EXPIRED,
            AuthError::NotYetValid => Code::TOKEN_NOT_YET_VALID,
            _ => Code::TOKEN_INVALID,
        }
    }
}
