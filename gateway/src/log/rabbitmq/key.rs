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
}
