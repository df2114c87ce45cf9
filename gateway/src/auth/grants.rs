//! Which filters a principal may read and which topics it may write.

use anabranch_protocol::filter::Filter;
use anabranch_protocol::topic::NameError;
use std::fmt;

/// Most filters of one principal, all kinds and roles together: bounds the cost of every question below.
pub const GRANTS: usize = 256;

/// What a principal may do. Empty by default: nothing.
///
/// Deny beats allow, whatever the order and wherever either comes from. `docs/adr/0003-grants-cover-or-refuse.md` says
/// why a subscription is granted whole or not at all.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Grants {
    read: Box<[Filter]>,
    write: Box<[Filter]>,
    deny_read: Box<[Filter]>,
    deny_write: Box<[Filter]>,
}

impl Grants {
    /// Reads and writes every topic, except those that begin with `$`, which no wildcard in the first level reaches.
    pub fn everything() -> Grants {
        let mut list = GrantList::default();
        list.push(Kind::Read, "#").and_then(|()| list.push(Kind::Write, "#")).expect("# is a filter");
        list.into()
    }

    /// Whether a subscription to this filter is allowed: one allowed filter covers it, and no denied one overlaps it.
    ///
    /// If so, every topic that the filter can match may be read. The converse does not hold: a filter that only several
    /// grants together would cover is refused.
    pub fn may_subscribe(&self, filter: &Filter) -> bool {
        self.read.iter().any(|allowed| allowed.covers(filter))
            && !self.deny_read.iter().any(|denied| denied.overlaps(filter))
    }

    /// Whether a message of this topic may be delivered. `topic` is taken to be a valid topic name.
    ///
    /// Costs up to [`GRANTS`] matches; the hub asks once for each pair of connection and topic and keeps the answer.
    pub fn may_read(&self, topic: &str) -> bool {
        allows(&self.read, &self.deny_read, topic)
    }

    /// Whether a message may be published to this topic. `topic` is taken to be a valid topic name.
    pub fn may_write(&self, topic: &str) -> bool {
        allows(&self.write, &self.deny_write, topic)
    }

    /// Whether nothing at all is allowed.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }
}

fn allows(allowed: &[Filter], denied: &[Filter], topic: &str) -> bool {
    allowed.iter().any(|f| f.matches(topic)) && !denied.iter().any(|f| f.matches(topic))
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts = |filters: &[Filter]| filters.iter().map(|f| f.as_str().to_owned()).collect::<Vec<_>>();
        f.debug_struct("Grants")
            .field("read", &texts(&self.read))
            .field("write", &texts(&self.write))
            .field("deny_read", &texts(&self.deny_read))
            .field("deny_write", &texts(&self.deny_write))
            .finish()
    }
}

/// What a filter in a token or a role is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
    /// Denies both.
    Deny,
    DenyRead,
    DenyWrite,
}

impl Kind {
    /// The kind that a token's claim names, in its camel case.
    pub fn of_claim(name: &str) -> Option<Kind> {
        Some(match name {
            "read" => Kind::Read,
            "write" => Kind::Write,
            "deny" => Kind::Deny,
            "denyRead" => Kind::DenyRead,
            "denyWrite" => Kind::DenyWrite,
            _ => return None,
        })
    }
}

/// Grants as they are gathered: from a token's claims and from the roles that it names.
#[derive(Clone, Debug, Default)]
pub struct GrantList {
    read: Vec<Filter>,
    write: Vec<Filter>,
    deny_read: Vec<Filter>,
    deny_write: Vec<Filter>,
}

/// Why a filter cannot be added to a [`GrantList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    #[error("a granted filter is not valid: {0}")]
    Filter(#[from] NameError),
    #[error("more than {GRANTS} filters are granted or denied; use wildcards or roles")]
    TooMany,
}

impl GrantList {
    /// Adds one filter.
    pub fn push(&mut self, kind: Kind, filter: &str) -> Result<(), GrantError> {
        let filter = Filter::new(filter)?;
        if self.len() + if kind == Kind::Deny { 2 } else { 1 } > GRANTS {
            return Err(GrantError::TooMany);
        }
        match kind {
            Kind::Read => self.read.push(filter),
            Kind::Write => self.write.push(filter),
            Kind::DenyRead => self.deny_read.push(filter),
            Kind::DenyWrite => self.deny_write.push(filter),
            Kind::Deny => {
                self.deny_read.push(filter.clone());
                self.deny_write.push(filter);
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.read.len() + self.write.len() + self.deny_read.len() + self.deny_write.len()
    }
}

impl From<GrantList> for Grants {
    /// Sorts and drops repetitions, so that equal grants are equal however they were written.
    fn from(list: GrantList) -> Grants {
        let tidy = |mut filters: Vec<Filter>| {
            filters.sort();
            filters.dedup();
            filters.into_boxed_slice()
        };
        Grants {
            read: tidy(list.read),
            write: tidy(list.write),
            deny_read: tidy(list.deny_read),
            deny_write: tidy(list.deny_write),
        }
    }
}
