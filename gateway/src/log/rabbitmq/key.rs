//! Routing keys and topics: `.` and `/`, as RabbitMQ's MQTT plugin maps them.
//!
//! The mapping is not reversible for all names: `a.b/c` and `a/b/c` have the same key, and the plugin writes `*` for `+`.
//! So both directions refuse what would not come back.

use anabranch_protocol::topic::Topic;
use std::borrow::Cow;

/// The topic of a routing key, not yet checked as a topic. `None` if the key is not that topic's.
pub(super) fn topic(key: &str) -> Option<Cow<'_, str>> {
    if key.bytes().any(|byte| byte == b'/' || byte == b'*') {
        return None;
    }
    Some(if key.contains('.') { Cow::Owned(key.replace('.', "/")) } else { Cow::Borrowed(key) })
}

/// The routing key of a topic. `None` if subscribers would see another topic.
pub(super) fn key(topic: &Topic) -> Option<String> {
    let topic = topic.as_str();
    if topic.bytes().any(|byte| byte == b'.' || byte == b'*') {
        return None;
    }
    Some(topic.replace('/', "."))
}

/// Whether a topic exchange routes a key by a binding key: `*` is one word, `#` any number of them.
pub(super) fn matches(binding: &str, key: &str) -> bool {
    fn words(binding: &[&str], key: &[&str]) -> bool {
        match binding {
            [] => key.is_empty(),
            ["#"] => true,
            ["#", rest @ ..] => (0..=key.len()).any(|skipped| words(rest, &key[skipped..])),
            [word, rest @ ..] => {
                key.first().is_some_and(|first| *word == "*" || word == first) && words(rest, &key[1..])
            }
        }
    }
    let (binding, key): (Vec<_>, Vec<_>) = (binding.split('.').collect(), key.split('.').collect());
    words(&binding, &key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_comes_back() {
        for name in ["a", "a/b/c", "a//c", "/lead", "trail/", "iotsphere/devices/d-1/telemetry/température"]
        {
            let there = key(&Topic::new(name).unwrap()).unwrap();
            assert_eq!(topic(&there).as_deref(), Some(name));
        }
    }

    #[test]
    fn what_would_not_come_back_is_refused() {
        for name in ["a.b/c", "a*b", "."] {
            assert_eq!(key(&Topic::new(name).unwrap()), None, "{name}");
        }
        for key in ["a/b.c", "a.*.b", "/"] {
            assert_eq!(topic(key), None, "{key}");
        }
    }

    #[test]
    fn odd_keys_are_no_topics() {
        for odd in ["", "a.#", "#", "a.+.b", "x\0y", "line\nbreak"] {
            let name = topic(odd).unwrap();
            assert!(Topic::new(&name).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn binding_keys_match_as_a_topic_exchange_says() {
        for (binding, key) in [
            ("#", "a"),
            ("#", "a.b.c"),
            ("a.#", "a"),
            ("a.#", "a.b.c"),
            ("a.*", "a.b"),
            ("*.b.#", "a.b"),
            ("a.#.c", "a.c"),
            ("a.#.c", "a.b.b.c"),
            ("$anabranch.#", "$anabranch.canary.n"),
        ] {
            assert!(matches(binding, key), "{binding} {key}");
        }
        for (binding, key) in [("a.*", "a"), ("a.*", "a.b.c"), ("a.#", "b"), ("a", "a.b"), ("a.#.c", "a.b")] {
            assert!(!matches(binding, key), "{binding} {key}");
        }
    }
}
