//! Which connections care about a topic: a table of exact filters, a trie of those with wildcards, and a cache of answers.
//!
//! Exact filters stand in a table because most clients have some of their own: a path of nodes for each would be most of
//! what an idle connection costs (740 bytes against 100, at five levels of which three are its own).
//!
//! A message costs one hash look-up while its topic's answer is cached. A new wildcard makes every cached answer void (by
//! a generation number, nothing is touched); a new exact filter voids only its own topic's.

mod children;
mod few;
mod tails;

use anabranch_protocol::filter::Filter;
use children::{Child, Children};
use few::{Few, Lists};
use hashbrown::HashMap;
use std::num::NonZeroU32;
use tails::{TailId, Tails, split};

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
    tails: Tails,
    free: Vec<u32>,
    filters: usize,
    /// Lists of more than one connection.
    lists: Lists,
    /// Which of the answers is a topic's.
    cache: HashMap<Box<str>, u32>,
    answers: Vec<Answer>,
    generation: u64,
}

/// One line of the processor's caches: with a million filters, all that a match looks at comes from beyond them.
#[derive(Default)]
#[repr(align(64))]
struct Node {
    children: Children,
    /// The child for `+`.
    one: Option<NonZeroU32>,
    /// Those whose filter ends here.
    here: Few,
    /// Those whose filter ends with `#` below this node.
    rest: Few,
}

struct Answer {
    /// It is void in any other.
    generation: u64,
    connections: Box<[ConnectionId]>,
}

/// Where a filter ends.
enum End<'f> {
    /// With this node.
    Here(u32),
    /// With `#` below this node.
    Rest(u32),
    /// With the tail behind this name below this node.
    Tail(u32, &'f str),
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.one.is_none() && self.here.is_empty() && self.rest.is_empty()
    }
}

const ROOT: u32 = 0;
/// The generation of an answer that is void: none ever gets there.
const VOID: u64 = u64::MAX;

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
                Some(connections) => connections.push(connection, &mut self.lists),
                None => _ = self.exact.insert(filter.as_str().into(), Few::one(connection)),
            }
            return;
        }
        match self.make(ROOT, Some(filter.as_str())) {
            End::Here(node) => self.nodes[node as usize].here.push(connection, &mut self.lists),
            End::Rest(node) => self.nodes[node as usize].rest.push(connection, &mut self.lists),
            End::Tail(node, name) => {
                let children = &mut self.nodes[node as usize].children;
                if let Some(Child::Tail(tail, mut here)) = children.get(name) {
                    here.push(connection, &mut self.lists);
                    children.set_tail(name, tail, here);
                }
            }
        }
    }

    /// Makes the way on from a node, as far as it is not there.
    fn make<'f>(&mut self, mut node: u32, mut left: Option<&'f str>) -> End<'f> {
        while let Some(levels) = left {
            let (level, below) = split(levels);
            match level {
                "#" => return End::Rest(node),
                "+" => {
                    node = match self.nodes[node as usize].one {
                        Some(child) => child.get(),
                        None => {
                            let child = self.new_node();
                            // The root is nobody's child.
                            self.nodes[node as usize].one = NonZeroU32::new(child);
                            child
                        }
                    }
                }
                name => match self.nodes[node as usize].children.get(name) {
                    Some(Child::Node(child)) => node = child,
                    Some(Child::Tail(tail, _)) if self.tails.text(tail) == below => {
                        return End::Tail(node, name);
                    }
                    Some(Child::Tail(tail, here)) => node = self.unfold(node, name, tail, here),
                    None if self.nodes[node as usize].children.are_many() => {
                        let tail = self.tails.enter(below);
                        self.nodes[node as usize].children.set_tail(name, tail, Few::default());
                        return End::Tail(node, name);
                    }
                    None => {
                        let child = self.new_node();
                        self.nodes[node as usize].children.set_node(name, child);
                        node = child;
                    }
                },
            }
            left = below;
        }
        End::Here(node)
    }

    /// Gives a child a node, since a second way goes on behind it.
    fn unfold(&mut self, node: u32, name: &str, tail: TailId, here: Few) -> u32 {
        let child = self.new_node();
        self.nodes[node as usize].children.set_node(name, child);
        let text = self.tails.text(tail).map(str::to_owned);
        self.tails.leave(tail);
        // What a new node has below it are nodes.
        match self.make(child, text.as_deref()) {
            End::Here(at) => self.nodes[at as usize].here = here,
            End::Rest(at) => self.nodes[at as usize].rest = here,
            End::Tail(at, name) => self.nodes[at as usize].children.set_tail(name, tail, here),
        }
        child
    }

    /// Takes a filter out, and every node that it alone needed.
    pub fn remove(&mut self, filter: &Filter, connection: ConnectionId) {
        if filter.is_exact() {
            let Some(connections) = self.exact.get_mut(filter.as_str()) else { return };
            if connections.remove(connection, &mut self.lists) {
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
        let mut left = Some(filter.as_str());
        let removed = loop {
            let Some(levels) = left else {
                break self.nodes[node as usize].here.remove(connection, &mut self.lists);
            };
            let (level, below) = split(levels);
            let next = match level {
                "#" => break self.nodes[node as usize].rest.remove(connection, &mut self.lists),
                "+" => self.nodes[node as usize].one.map(NonZeroU32::get),
                name => match self.nodes[node as usize].children.get(name) {
                    Some(Child::Node(child)) => Some(child),
                    Some(Child::Tail(tail, here)) if self.tails.text(tail) == below => {
                        break self.remove_tail(node, name, tail, here, connection);
                    }
                    Some(Child::Tail(..)) | None => None,
                },
            };
            let Some(child) = next else { return };
            path.push((node, level));
            (node, left) = (child, below);
        };
        if !removed {
            return;
        }
        self.filters -= 1;
        self.forget_answers(filter);
        while let Some((parent, level)) = path.pop() {
            if !self.nodes[node as usize].is_empty() {
                break;
            }
            self.nodes[node as usize] = Node::default();
            self.free.push(node);
            match level {
                "+" => self.nodes[parent as usize].one = None,
                name => self.nodes[parent as usize].children.remove(name),
            }
            node = parent;
        }
    }

    /// Takes a connection out of a tail, and the tail if it was the last.
    fn remove_tail(
        &mut self,
        node: u32,
        name: &str,
        tail: TailId,
        mut here: Few,
        connection: ConnectionId,
    ) -> bool {
        let removed = here.remove(connection, &mut self.lists);
        let children = &mut self.nodes[node as usize].children;
        if here.is_empty() {
            children.remove(name);
            self.tails.leave(tail);
        } else {
            children.set_tail(name, tail, here);
        }
        removed
    }

    /// The connections with a filter that matches, each once.
    pub fn matching(&mut self, topic: &str) -> &[ConnectionId] {
        let at = match self.cache.get(topic) {
            Some(&at) if self.answers[at as usize].generation == self.generation => at,
            Some(&at) => self.answer(topic, Some(at)),
            None => self.answer(topic, None),
        };
        &self.answers[at as usize].connections
    }

    /// Finds out who cares, and remembers it, in the place of the topic's void answer if there is one. Where it stands.
    fn answer(&mut self, topic: &str, void: Option<u32>) -> u32 {
        let mut found = Vec::new();
        if let Some(connections) = self.exact.get(topic) {
            found.extend_from_slice(connections.as_slice(&self.lists));
        }
        self.collect(ROOT, topic, topic.starts_with('$'), &mut found);
        found.sort_unstable();
        found.dedup();
        let answer = Answer { generation: self.generation, connections: found.into() };
        if let Some(at) = void {
            self.answers[at as usize] = answer;
            return at;
        }
        if self.answers.len() >= CACHED_TOPICS {
            self.cache.clear();
            self.answers.clear();
        }
        let at = self.answers.len() as u32;
        self.answers.push(answer);
        self.cache.insert(topic.into(), at);
        at
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
        if !filter.is_exact() {
            self.generation += 1;
        } else if let Some(&at) = self.cache.get(filter.as_str()) {
            self.answers[at as usize] = Answer { generation: VOID, connections: [].into() };
        }
    }

    /// Walks the levels of `topic` that are left below `node`. At most 32 deep, and two ways at each level.
    fn collect(&self, node: u32, topic: &str, hidden: bool, found: &mut Vec<ConnectionId>) {
        let node = &self.nodes[node as usize];
        // A first level that begins with $ is hidden from wildcards.
        if !hidden {
            found.extend_from_slice(node.rest.as_slice(&self.lists));
        }
        let (level, below) = split(topic);
        let named = match node.children.get(level) {
            Some(Child::Node(child)) => Some(child),
            Some(Child::Tail(tail, here)) => {
                if self.tails.matches(tail, below) {
                    found.extend_from_slice(here.as_slice(&self.lists));
                }
                None
            }
            None => None,
        };
        let one = node.one.filter(|_| !hidden).map(NonZeroU32::get);
        for child in [named, one].into_iter().flatten() {
            match below {
                Some(below) => self.collect(child, below, false, found),
                None => {
                    let leaf = &self.nodes[child as usize];
                    found.extend_from_slice(leaf.here.as_slice(&self.lists));
                    // `a/#` also matches its parent `a`.
                    found.extend_from_slice(leaf.rest.as_slice(&self.lists));
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
        assert_eq!(size_of::<Node>(), 64);
    }

    proptest! {
        /// Against the plain definition: each filter asked in turn.
        #[test]
        fn agrees_with_the_filters_one_by_one(
            steps in proptest::collection::vec(("[a-d+]{0,1}(/[a-d+]{0,1}){0,3}(/#)?", 0u32..4, any::<bool>()), 1..60),
            topics in proptest::collection::vec("[a-d$]{0,1}(/[a-d]{0,1}){0,4}", 1..10),
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
