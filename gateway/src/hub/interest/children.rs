//! The named children of a node of the trie.
//!
//! Most nodes have one: `shadow` below a device. It stands in the node itself, and a short name in the entry that knows it.
//! With a million filters, a table for each node and a piece of memory for each name cost a match a trip beyond the
//! processor's caches each. Where there are many, those behind which one way goes on have no node at all.

use super::few::Few;
use super::tails::TailId;
use hashbrown::HashMap;
use std::hash::{Hash, Hasher};

/// What stands below a name.
#[derive(Clone, Copy)]
pub(super) enum Child {
    /// The number of its node.
    Node(u32),
    /// The only way on, and those whose filter it is.
    Tail(TailId, Few),
}

/// Names and what stands below them.
#[derive(Default)]
pub(super) enum Children {
    #[default]
    None,
    /// Its node.
    One(Name, u32),
    Many(Box<HashMap<Name, Slot>>),
}

/// A [`Child`] in 8 bytes, so that an entry with its name has 32 and lies in one line of the processor's caches: [`NODE`] added to the number of a
/// node, or a tail.
#[derive(Clone, Copy)]
pub(super) struct Slot(u32, Few);

const NODE: u32 = 1 << 31;

impl Slot {
    fn node(node: u32) -> Slot {
        debug_assert!(node < NODE, "so many nodes do not fit into memory");
        Slot(NODE + node, Few::default())
    }

    fn child(self) -> Child {
        match self.0.checked_sub(NODE) {
            Some(node) => Child::Node(node),
            None => Child::Tail(self.0, self.1),
        }
    }
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

    pub fn get(&self, name: &str) -> Option<Child> {
        match self {
            Children::None => None,
            Children::One(only, node) => only.is(name).then_some(Child::Node(*node)),
            Children::Many(many) => many.get(&Wanted(name)).map(|slot| slot.child()),
        }
    }

    /// Whether a tail may be set.
    pub fn are_many(&self) -> bool {
        matches!(self, Children::Many(_))
    }

    /// Sets what stands below a name.
    pub fn set_node(&mut self, name: &str, node: u32) {
        *self = match std::mem::take(self) {
            Children::None => Children::One(Name::new(name), node),
            Children::One(other, its) => {
                let both = [(other, Slot::node(its)), (Name::new(name), Slot::node(node))];
                Children::Many(Box::new(HashMap::from_iter(both)))
            }
            Children::Many(mut many) => {
                many.insert(Name::new(name), Slot::node(node));
                Children::Many(many)
            }
        }
    }

    /// Sets a tail, where children are many.
    pub fn set_tail(&mut self, name: &str, tail: TailId, here: Few) {
        if let Children::Many(many) = self {
            many.insert(Name::new(name), Slot(tail, here));
        }
    }

    pub fn remove(&mut self, name: &str) {
        match self {
            Children::One(only, _) if only.is(name) => *self = Children::None,
            Children::Many(many) => {
                many.remove(&Wanted(name));
                if many.is_empty() {
                    *self = Children::None;
                }
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
            children.set_node(name, node);
        }
        for (node, name) in (1..).zip(names) {
            assert!(matches!(children.get(name), Some(Child::Node(its)) if its == node), "{name}");
            children.remove(name);
            children.remove(name);
            assert!(children.get(name).is_none(), "{name}");
        }
        assert!(children.is_empty());
        assert_eq!((size_of::<Children>(), size_of::<(Name, Slot)>()), (32, 32));
    }
}
