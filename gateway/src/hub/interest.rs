//! Which connections care about a topic: a trie of filters, and a cache of its answers.
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
    here: Vec<ConnectionId>,
    /// Those whose filter ends with `#` below this node.
    rest: Vec<ConnectionId>,
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
        let Some(at) = list.iter().position(|&c| c == connection) else { return };
        list.swap_remove(at);
        if list.is_empty() {
            *list = Vec::new();
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
            found.extend_from_slice(&node.rest);
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
                    found.extend_from_slice(&leaf.here);
                    // `a/#` also matches its parent `a`.
                    found.extend_from_slice(&leaf.rest);
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
