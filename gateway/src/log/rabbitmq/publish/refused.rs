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

use super::Parcel;
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// For so long a forbidden routing key is refused without asking the broker: every attempt costs a channel.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Most forbidden keys that are remembered.
const KEYS: usize = 1_024;

/// The broker's words, if it closed a channel because something is forbidden.
pub(super) fn words(error: &lapin::Error) -> Option<String> {
    let ErrorKind::ProtocolError(amqp) = error.kind() else { return None };
    let refused = matches!(amqp.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED));
    refused.then(|| amqp.get_message().to_string())
}

/// What was on its way when a channel was closed over one record.
pub(super) struct Sorted {
    pub(super) before: Vec<Parcel>,
    pub(super) refused: Parcel,
    pub(super) after: Vec<Parcel>,
}

/// Finds the record over which the broker closed the channel: the first of those whose key it names. If it names none,
/// all are given back.
pub(super) fn sort(unconfirmed: BTreeMap<u64, Parcel>, words: &str) -> Result<Sorted, Vec<Parcel>> {
    let mut parcels: Vec<Parcel> = unconfirmed.into_values().collect();
    let named = |parcel: &Parcel| words.contains(&format!("topic '{}'", parcel.key));
    let Some(at) = parcels.iter().position(named) else { return Err(parcels) };
    let after = parcels.split_off(at + 1);
    match parcels.pop() {
        Some(refused) => Ok(Sorted { before: parcels, refused, after }),
        None => Err(after),
    }
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

    #[test]
    fn the_first_record_with_the_named_key_is_the_one() {
        let words = "ACCESS_REFUSED - write access to topic 'a.c' in exchange 'x' in vhost '/' refused";
        let sorted = sort(parcels(&["a.b", "a", "a.c", "b", "a.c"]), words).ok().unwrap();
        assert_eq!(sequences(&sorted.before), [0, 1]);
        assert_eq!((sorted.refused.mark.sequence, sequences(&sorted.after)), (2, vec![3, 4]));
        let all = sort(parcels(&["a", "b"]), words).err().unwrap();
        assert_eq!(sequences(&all), [0, 1]);
    }

    #[test]
    fn forbidden_keys_are_bounded() {
        let mut forbidden = Forbidden::default();
        (0..2 * KEYS).for_each(|n| forbidden.add(n.to_string()));
        assert_eq!(forbidden.keys.len(), KEYS);
        assert!(forbidden.contains("0") && !forbidden.contains("x"));
    }
}
