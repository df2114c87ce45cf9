//! Which connections care about a topic: a table of exact filters, a trie of those with wildcards, and a cache of answers.
//!
//! Exact filters stand in a table because most clients have some of their own: a path of nodes for each would be most of
//! what an idle connection costs (740 bytes against 100, at five levels of which three are its own).
//!
//! A message costs one hash look-up while its topic's answer is cached. A new wildcard makes every cached answer void (by
//! a generation number, nothing is touched); a new exact filter voids only its own topic's.

use anabranch_protocol::filter::Filter;
use std::collections::HashMap;

/// A connection's number in its shard.
pub type ConnectionId = u32;

/// Cached answers, at most: beyond, the cache starts over. 100,000 topics with one subscriber each are about 20 MB.
const CACHED_TOPICS: usize = 100_000;

/// The filters of a shard's connections.
#[derive(Default)]
pub struct Interest {
    /// Filters without wildcards, hence topics.
    exact: HashMap<Box<str>, Few>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    filters: usize,
    cache: HashMap<Box<str>, Answer>,
    generation: u64,
}

#[derive(Default)]
struct Node {
    children: HashMap<Box<str>, u32>,
    /// The child for `+`.
    one: Option<u32>,
    /// Those whose filter ends here.
    here: Few,
    /// Those whose filter ends with `#` below this node.
    rest: Few,
}

/// Connections, mostly none or one: then there is nothing on the heap.
#[derive(Default)]
enum Few {
    #[default]
    None,
    One(ConnectionId),
    Many(Vec<ConnectionId>),
}

impl Few {
    fn as_slice(&self) -> &[ConnectionId] {
        match self {
            Few::None => &[],
            Few::One(one) => std::slice::from_ref(one),
            Few::Many(many) => many,
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Few::None)
    }

    fn push(&mut self, connection: ConnectionId) {
        match self {
            Few::None => *self = Few::One(connection),
            Few::One(one) => *self = Few::Many(vec![*one, connection]),
            Few::Many(many) => many.push(connection),
        }
    }

    /// Takes one out; says whether it was there.
    fn remove(&mut self, connection: ConnectionId) -> bool {
        let Some(at) = self.as_slice().iter().position(|&c| c == connection) else { return false };
        if let Few::Many(many) = self {
            many.swap_remove(at);
            if let [last] = many[..] {
                *self = Few::One(last);
            }
        } else {
            *self = Few::None;
        }
        true
    }
}

struct Answer {
    generation: u64,
    connections: Box<[ConnectionId]>,
}

const ROOT: u32 = 0;

impl Interest {
    pub fn new() -> Interest {
        Interest { nodes: vec![Node::default()], ..Interest::default() }
    }

    /// How many (connection, filter) pairs there are.
    pub fn len(&self) -> usize {
        self.filters
    }

    pub fn is_empty(&self) -> bool {
        self.filters == 0
    }

    /// Adds a filter. A connection adds each of its distinct filters once.
    pub fn insert(&mut self, filter: &Filter, connection: ConnectionId) {
        self.filters += 1;
        self.forget_answers(filter);
        if filter.is_exact() {
            // Looked up first: the key is copied only for a new entry.
            match self.exact.get_mut(filter.as_str()) {
                Some(connections) => connections.push(connection),
                None => _ = self.exact.insert(filter.as_str().into(), Few::One(connection)),
            }
            return;
        }
        let mut node = ROOT;
        for level in filter.levels() {
            match level {
                "#" => {
                    self.nodes[node as usize].rest.push(connection);
                    return;
                }
                "+" => {
                    node = match self.nodes[node as usize].one {
                        Some(child) => child,
                        None => {
                            let child = self.new_node();
                            self.nodes[node as usize].one = Some(child);
                            child
                        }
                    }
                }
                name => {
                    node = match self.nodes[node as usize].children.get(name) {
                        Some(child) => *child,
                        None => {
                            let child = self.new_node();
                            self.nodes[node as usize].children.insert(name.into(), child);
                            child
                        }
                    }
                }
            }
        }
        self.nodes[node as usize].here.push(connection);
    }

    /// Takes a filter out, and every node that it alone needed.
    pub fn remove(&mut self, filter: &Filter, connection: ConnectionId) {
        if filter.is_exact() {
            let Some(connections) = self.exact.get_mut(filter.as_str()) else { return };
            if connections.remove(connection) {
                if connections.is_empty() {
                    self.exact.remove(filter.as_str());
                }
                self.filters -= 1;
                self.forget_answers(filter);
            }
            return;
        }
        let mut path = Vec::new();
        let mut node = ROOT;
        let mut rest = false;
        for level in filter.levels() {
            let next = match level {
                "#" => {
                    rest = true;
                    break;
                }
                "+" => self.nodes[node as usize].one,
                name => self.nodes[node as usize].children.get(name).copied(),
            };
            let Some(child) = next else { return };
            path.push((node, level));
            node = child;
        }
        let list = match rest {
            true => &mut self.nodes[node as usize].rest,
            false => &mut self.nodes[node as usize].here,
        };
        if !list.remove(connection) {
            return;
        }
        self.filters -= 1;
        self.forget_answers(filter);
        while let Some((parent, level)) = path.pop() {
            let empty = &self.nodes[node as usize];
            if !(empty.children.is_empty()
                && empty.one.is_none()
                && empty.here.is_empty()
                && empty.rest.is_empty())
            {
                break;
            }
            self.nodes[node as usize] = Node::default();
            self.free.push(node);
            match level {
                "+" => self.nodes[parent as usize].one = None,
                name => drop(self.nodes[parent as usize].children.remove(name)),
            }
            node = parent;
        }
    }

    /// The connections with a filter that matches, each once.
    pub fn matching(&mut self, topic: &str) -> &[ConnectionId] {
        let generation = self.generation;
        let known = self.cache.get(topic).is_some_and(|answer| answer.generation == generation);
        if !known {
            let mut found = Vec::new();
            if let Some(connections) = self.exact.get(topic) {
                found.extend_from_slice(connections.as_slice());
            }
            self.collect(ROOT, topic, topic.starts_with('$'), &mut found);
            found.sort_unstable();
            found.dedup();
            if self.cache.len() >= CACHED_TOPICS {
                self.cache.clear();
            }
            self.cache.insert(topic.into(), Answer { generation, connections: found.into() });
        }
        self.cache.get(topic).map_or(&[], |answer| &answer.connections)
    }

    fn new_node(&mut self) -> u32 {
        match self.free.pop() {
            Some(node) => node,
            None => {
                self.nodes.push(Node::default());
                (self.nodes.len() - 1) as u32
            }
        }
    }

    fn forget_answers(&mut self, filter: &Filter) {
        if filter.is_exact() {
            self.cache.remove(filter.as_str());
        } else {
            self.generation += 1;
        }
    }

    /// Walks the levels of `topic` that are left below `node`. At most 32 deep, and two ways at each level.
    fn collect(&self, node: u32, topic: &str, hidden: bool, found: &mut Vec<ConnectionId>) {
        let node = &self.nodes[node as usize];
        // A first level that begins with $ is hidden from wildcards.
        if !hidden {
            found.extend_from_slice(node.rest.as_slice());
        }
        let (level, below) = match topic.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (topic, None),
        };
        let named = node.children.get(level).copied();
        let one = node.one.filter(|_| !hidden);
        for child in [named, one].into_iter().flatten() {
            match below {
                Some(below) => self.collect(child, below, false, found),
                None => {
                    let leaf = &self.nodes[child as usize];
                    found.extend_from_slice(leaf.here.as_slice());
                    // `a/#` also matches its parent `a`.
                    found.extend_from_slice(leaf.rest.as_slice());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(text: &str) -> Filter {
        Filter::new(text).expect(text)
    }

    #[test]
    fn finds_each_connection_once_whatever_the_overlap() {
        let mut interest = Interest::new();
        for text in ["a/#", "a/+", "a/b", "#", "+/b"] {
            interest.insert(&filter(text), 7);
        }
        assert_eq!(interest.matching("a/b"), [7]);
        assert_eq!(interest.matching("$a/b"), [0u32; 0]);
        for text in ["a/#", "a/+", "a/b", "#", "+/b"] {
            interest.remove(&filter(text), 7);
        }
        assert!(interest.is_empty());
        assert_eq!(interest.matching("a/b"), [0u32; 0]);
        assert_eq!(interest.nodes.len() - interest.free.len(), 1, "only the root is left");
        assert!(interest.exact.is_empty());
    }

    proptest! {
        /// Against the plain definition: each filter asked in turn.
        #[test]
        fn agrees_with_the_filters_one_by_one(
            steps in proptest::collection::vec(("[ab+]{0,1}(/[ab+]{0,1}){0,3}(/#)?", 0u32..4, any::<bool>()), 1..60),
            topics in proptest::collection::vec("[ab$]{0,1}(/[ab]{0,1}){0,4}", 1..10),
        ) {
            let mut interest = Interest::new();
            let mut present: Vec<(Filter, ConnectionId)> = Vec::new();
            for (text, connection, insert) in steps {
                let Ok(filter) = Filter::new(&text) else { continue };
                let pair = (filter, connection);
                match (insert, present.iter().position(|p| *p == pair)) {
                    (true, None) => {
                        interest.insert(&pair.0, connection);
                        present.push(pair);
                    }
                    (false, Some(at)) => {
                        interest.remove(&pair.0, connection);
                        present.swap_remove(at);
                    }
                    _ => {}
                }
                for topic in topics.iter().filter(|t| !t.is_empty()) {
                    let mut expected: Vec<ConnectionId> =
                        present.iter().filter(|(f, _)| f.matches(topic)).map(|(_, c)| *c).collect();
                    expected.sort_unstable();
                    expected.dedup();
                    prop_assert_eq!(interest.matching(topic), &expected[..], "topic {}", topic);
                }
            }
        }
    }
}
