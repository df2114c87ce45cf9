//! What the broker forbids to write: it closes the channel over it, with everything that is on its way there.
//!
//! ```text
//!   published:   a   b   FORBIDDEN   c   d
//!                └─┬─┘       │       └─┬─┘
//!      the broker took them  │   the broker dropped them: published again, in this order
//!   before; the confirm may  │
//!       be lost, their echo  │
//!                  proves it └ answered for good
//! ```
//!
//! The broker's words name the key, in at most 255 bytes; the end of a long one is cut off. Then several keys may fit, and
//! nobody knows whether it took what lies between the first record that fits and the last.

use super::Parcel;
use crate::log::rabbitmq::options::Options;
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// For so long a forbidden routing key is refused without asking the broker: every attempt costs a channel.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Most forbidden keys that are remembered.
const KEYS: usize = 1_024;

const TOPIC: &str = "access to topic '";
/// The bytes that the broker's words are cut to, with three dots at their end.
const LONGEST: usize = 255;

/// The broker's words, if it closed a channel because something is forbidden.
pub(super) fn words(error: &lapin::Error) -> Option<String> {
    let ErrorKind::ProtocolError(amqp) = error.kind() else { return None };
    let refused = matches!(amqp.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED));
    refused.then(|| amqp.get_message().to_string())
}

/// What was on its way when a channel was closed over one record.
pub(super) struct Sorted {
    pub(super) before: Vec<Parcel>,
    /// Exactly the refused record, or all that it may be and what lies between.
    pub(super) refused: Vec<Parcel>,
    pub(super) after: Vec<Parcel>,
}

/// Finds the record over which the broker closed the channel: the first of those whose key it names. If it names none,
/// all are given back.
pub(super) fn sort(
    unconfirmed: BTreeMap<u64, Parcel>,
    words: &str,
    options: &Options,
) -> Result<Sorted, Vec<Parcel>> {
    let mut before: Vec<Parcel> = unconfirmed.into_values().collect();
    let mut firsts: Vec<usize> = Vec::new();
    for (at, parcel) in before.iter().enumerate() {
        if names(words, &parcel.key, options) && firsts.iter().all(|first| before[*first].key != parcel.key) {
            firsts.push(at);
        }
    }
    let (Some(first), Some(last)) = (firsts.first(), firsts.last()) else { return Err(before) };
    let after = before.split_off(last + 1);
    let refused = before.split_off(*first);
    Ok(Sorted { before, refused, after })
}

/// Whether the words are what the broker says of this key: as a whole, since keys may hold anything, even such words.
fn names(words: &str, key: &str, options: &Options) -> bool {
    // A verb may stand before it.
    let Some((_, said)) = words.split_once(TOPIC) else { return false };
    let (exchange, server) = (&options.exchange, &options.server);
    let (vhost, user) = (&server.vhost, &server.user);
    // RabbitMQ 3.10 says "exchange" twice.
    ["exchange exchange", "exchange"].iter().any(|kind| {
        let all = format!("{key}' in {kind} '{exchange}' in vhost '{vhost}' refused for user '{user}'");
        match said.strip_suffix("...") {
            Some(said) if words.len() == LONGEST => all.starts_with(said),
            _ => all == said,
        }
    })
}

/// Whether the broker, if it forbids this key, cuts its words within one of the key's characters. Strings are UTF-8 to the client
/// library, which gives the whole connection up over such words: they never arrive.
pub(super) fn would_be_cut_within(key: &str, options: &Options) -> bool {
    let (exchange, server) = (&options.exchange, &options.server);
    // The verb and, in 3.10, the doubled word move the key and what is behind it: whether words are cut at all depends on all of
    // it, where they are cut on what stands before the key alone.
    ["write access to topic '", "access to topic '"].iter().any(|before| {
        let before = format!("ACCESS_REFUSED - {before}");
        let behind = "' in exchange exchange '' in vhost '' refused for user ''".len();
        let all = before.len() + key.len() + behind + exchange.len() + server.vhost.len() + server.user.len();
        let cut = LONGEST - "...".len();
        all > LONGEST
            && cut > before.len()
            && cut < before.len() + key.len()
            && !key.is_char_boundary(cut - before.len())
    })
}

/// Whether the connection was given up over words that nobody can read.
pub(super) fn is_unreadable(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ParsingError(_))
}

/// Whether the words are about one topic, and not about the exchange.
pub(super) fn is_about_a_topic(words: &str) -> bool {
    words.contains(TOPIC)
}

/// Routing keys that were forbidden a short while ago.
#[derive(Default)]
pub(super) struct Forbidden {
    keys: HashMap<String, Instant>,
}

impl Forbidden {
    pub(super) fn add(&mut self, key: String) {
        if self.keys.len() >= KEYS {
            self.keys.retain(|_, since| since.elapsed() < REMEMBERED);
        }
        if self.keys.len() < KEYS {
            self.keys.insert(key, Instant::now());
        }
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|since| since.elapsed() < REMEMBERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::rabbitmq::mark::Mark;
    use crate::log::rabbitmq::options::Server;
    use bytes::Bytes;

    fn parcels(keys: &[&str]) -> BTreeMap<u64, Parcel> {
        let parcel = |(n, key): (u64, &&str)| {
            let mark = Mark { writer: 1, sequence: n };
            (n, Parcel { mark, key: (*key).to_owned(), body: Bytes::new() })
        };
        (0..).zip(keys).map(parcel).collect()
    }

    fn sequences(parcels: &[Parcel]) -> Vec<u64> {
        parcels.iter().map(|parcel| parcel.mark.sequence).collect()
    }

    fn options() -> Options {
        Options { exchange: "x".into(), ..Options::at(Server::nowhere()) }
    }

    fn said(key: &str) -> String {
        let mut words = format!(
            "ACCESS_REFUSED - access to topic '{key}' in exchange exchange 'x' in vhost '/' refused for user 'u'"
        );
        if words.len() > LONGEST {
            words.truncate(LONGEST - 3);
            words.push_str("...");
        }
        words
    }

    #[test]
    fn the_first_record_with_the_named_key_is_the_one() {
        let later =
            "ACCESS_REFUSED - write access to topic 'a.c' in exchange 'x' in vhost '/' refused for user 'u'";
        for words in [said("a.c"), later.to_owned()] {
            let sorted = sort(parcels(&["a.b", "a", "a.c", "b", "a.c"]), &words, &options()).ok().unwrap();
            assert_eq!(sequences(&sorted.before), [0, 1]);
            assert_eq!((sequences(&sorted.refused), sequences(&sorted.after)), (vec![2], vec![3, 4]));
        }
        let all = sort(parcels(&["a", "b"]), &said("a.c"), &options()).err().unwrap();
        assert_eq!(sequences(&all), [0, 1]);
    }

    #[test]
    fn a_key_that_reads_like_the_brokers_words_points_at_no_other() {
        let traps = [
            "f. topic 'b'",
            "b' in exchange exchange 'x' in vhost '/' refused for user 'u'",
            "b' in exchange",
            "access to topic 'b",
        ];
        for trap in traps {
            let sorted = sort(parcels(&["b", "a", trap, "b"]), &said(trap), &options()).ok().unwrap();
            assert_eq!(
                (sequences(&sorted.before), sequences(&sorted.refused)),
                (vec![0, 1], vec![2]),
                "{trap}"
            );
        }
    }

    #[test]
    fn a_long_key_is_known_by_what_the_broker_says_of_it() {
        for length in [150, 180, 210, 219, 255] {
            let long = "k".repeat(length);
            let sorted = sort(parcels(&["a", &long, "b", "k"]), &said(&long), &options()).ok().unwrap();
            let parts = [&sorted.before, &sorted.refused, &sorted.after].map(|part| sequences(part));
            assert_eq!(parts, [vec![0], vec![1], vec![2, 3]], "{length}");
        }
        let (one, two) = ("k".repeat(230), "k".repeat(240));
        let sorted = sort(parcels(&["a", &one, "b", &two, &one, "c"]), &said(&two), &options()).ok().unwrap();
        let parts = [&sorted.before, &sorted.refused, &sorted.after].map(|part| sequences(part));
        assert_eq!(parts, [vec![0], vec![1, 2, 3], vec![4, 5]], "either may be the one");
    }

    #[tokio::test(start_paused = true)]
    async fn forbidden_keys_are_bounded_and_forgotten() {
        let mut forbidden = Forbidden::default();
        (0..2 * KEYS).for_each(|n| forbidden.add(n.to_string()));
        assert_eq!(forbidden.keys.len(), KEYS);
        assert!(forbidden.contains("0") && !forbidden.contains("x"));
        tokio::time::advance(REMEMBERED).await;
        assert!(!forbidden.contains("0"), "the broker may allow it by now");
        forbidden.add("x".to_owned());
        assert!(forbidden.contains("x"), "those make room");
    }
}
