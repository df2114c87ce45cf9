//! Roles: named sets of grants, with a place for the subject.

use super::error::AuthError;
use super::grants::{GrantError, GrantList, Kind};
use crate::config::RoleConfig;
use anabranch_protocol::filter::Filter;

/// Stands for the token's subject in a role's filters.
const SUBJECT: &str = "{sub}";

/// A role that is ready to be granted.
pub(super) struct Role(Vec<(Kind, Box<str>)>);

impl Role {
    /// Checks every filter; an error comes with the filter that it is about.
    pub(super) fn new(config: &RoleConfig) -> Result<Role, (&str, GrantError)> {
        let kinds = [
            (Kind::Read, &config.read),
            (Kind::Write, &config.write),
            (Kind::Deny, &config.deny),
            (Kind::DenyRead, &config.deny_read),
            (Kind::DenyWrite, &config.deny_write),
        ];
        let mut filters = Vec::new();
        let mut trial = GrantList::default();
        for (kind, texts) in kinds {
            for text in texts {
                trial.push(kind, &text.replace(SUBJECT, "s")).map_err(|error| (text.as_str(), error))?;
                filters.push((kind, text.as_str().into()));
            }
        }
        Ok(Role(filters))
    }

    /// Adds what this role means for a subject.
    pub(super) fn grant(&self, subject: &str, list: &mut GrantList) -> Result<(), AuthError> {
        for (kind, text) in &self.0 {
            if text.contains(SUBJECT) {
                if !fits_a_filter(subject) {
                    return Err(AuthError::SubjectInFilter);
                }
                list.push(*kind, &text.replace(SUBJECT, subject))?;
            } else {
                list.push(*kind, text)?;
            }
        }
        Ok(())
    }
}

/// Checks a role's filter without keeping it, for the one who reads the configuration.
pub fn check_role_filter(text: &str) -> Result<(), GrantError> {
    Filter::new(&text.replace(SUBJECT, "s")).map(drop).map_err(GrantError::Filter)
}

/// A subject is whatever its issuer allowed somebody to call themselves. One named `+` must not read its neighbours'
/// topics (RabbitMQ CVE-2026-44838 is of this kind), nor one named `$SYS` the system's.
fn fits_a_filter(subject: &str) -> bool {
    !subject.is_empty()
        && !subject.starts_with('$')
        && !subject.chars().any(|c| matches!(c, '/' | '+' | '#') || c.is_control())
}
