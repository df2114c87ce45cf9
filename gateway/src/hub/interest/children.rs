//! The named children of a node of the trie.
//!
//! Most nodes have one: `shadow` below a device. It stands in the node itself, and a short name in the entry that knows it.
//! With a million filters, a table for each node and a piece of memory for each name cost a match a trip beyond the
//! processor's caches each.

use hashbrown::HashMap;
use std::hash::{Hash, Hasher};

/// Names and the numbers of their nodes.
#[derive(Default)]
pub(super) enum Children {
    #[default]
    None,
    One(Name, u32),
    Many(Box<HashMap<Name, u32>>),
}

/// Longer names stand in memory of their own.
const SHORT: usize = 22;

/// A level's name. 24 bytes.
#[derive(PartialEq, Eq)]
pub(super) enum Name {
    /// So many bytes of these.
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl Name {
    fn new(name: &str) -> Name {
        match u8::try_from(name.len()) {
            Ok(len) if name.len() <= SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..name.len()].copy_from_slice(name.as_bytes());
                Name::Short(len, bytes)
            }
            _ => Name::Long(name.as_bytes().into()),
        }
    }

    fn is(&self, name: &str) -> bool {
        match self {
            Name::Short(len, bytes) => bytes[..usize::from(*len)] == *name.as_bytes(),
            Name::Long(bytes) => **bytes == *name.as_bytes(),
        }
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Name::Short(len, bytes) => hash(&bytes[..usize::from(*len)], state),
            Name::Long(bytes) => hash(bytes, state),
        }
    }
}

fn hash(name: &[u8], state: &mut impl Hasher) {
    state.write(name);
}

/// A name that is looked for.
struct Wanted<'n>(&'n str);

impl Hash for Wanted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(self.0.as_bytes(), state);
    }
}

impl hashbrown::Equivalent<Name> for Wanted<'_> {
    fn equivalent(&self, name: &Name) -> bool {
        name.is(self.0)
    }
}

impl Children {
    pub fn is_empty(&self) -> bool {
        matches!(self, Children::None)
    }

    pub fn get(&self, name: &str) -> Option<u32> {
        match self {
            Children::None => None,
            Children::One(only, node) => only.is(name).then_some(*node),
            Children::Many(many) => many.get(&Wanted(name)).copied(),
        }
    }

    /// Adds one that is not there.
    pub fn insert(&mut self, name: &str, node: u32) {
        *self = match std::mem::take(self) {
            Children::None => Children::One(Name::new(name), node),
            Children::One(other, its) => {
                Children::Many(Box::new(HashMap::from_iter([(other, its), (Name::new(name), node)])))
            }
            Children::Many(mut many) => {
                many.insert(Name::new(name), node);
                Children::Many(many)
            }
        }
    }

    pub fn remove(&mut self, name: &str) {
        match self {
            Children::One(only, _) if only.is(name) => *self = Children::None,
            Children::Many(many) => {
                many.remove(&Wanted(name));
                if many.len() > 1 {
                    return;
                }
                let last = many.drain().next();
                *self = last.map_or(Children::None, |(last, node)| Children::One(last, node));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_come_and_go_whatever_the_length_of_their_names() {
        let long = "a device's name that is longer than any entry holds";
        let names = ["", "a", "exactly 22 bytes, so i", "no less than 23 bytes, ", long];
        let mut children = Children::default();
        for (node, name) in (1..).zip(names) {
            children.insert(name, node);
        }
        for (node, name) in (1..).zip(names) {
            assert_eq!(children.get(name), Some(node), "{name}");
            children.remove(name);
            children.remove(name);
            assert_eq!(children.get(name), None, "{name}");
        }
        assert!(children.is_empty());
        assert_eq!(size_of::<Children>(), 32);
    }
}
