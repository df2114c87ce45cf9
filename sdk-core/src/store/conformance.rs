//! What every [`Store`] must do: the same as [`Kept::apply`], over any number of restarts.

use super::{Kept, Place, Store, Write};
use crate::backoff::Random;
use alloc::format;
use alloc::vec::Vec;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, LogId, Offset, Position};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::About;

const ROUNDS: usize = 200;

/// Random changes in random batches, with `reopen` between some of them: the end of a process and the beginning of the next. `store` is empty.
///
/// # Panics
/// The store does otherwise.
pub fn check<S: Store>(store: &mut S, mut reopen: impl FnMut(&mut S)) {
    let mut model = Kept::default();
    for (round, (batch, ends)) in rounds(ROUNDS).into_iter().enumerate() {
        store.commit(&batch).expect("committed");
        batch.iter().for_each(|write| model.apply(write));
        if ends {
            reopen(store);
            assert_eq!(sorted(store.load().expect("loaded")), sorted(model.clone()), "round {round}");
        }
    }
    assert_eq!(sorted(store.load().expect("loaded")), sorted(model.clone()));
    assert_ne!(model, Kept::default(), "there was something to keep");
    store.wipe().expect("wiped");
    assert_eq!(store.load().expect("loaded"), Kept::default());
    reopen(store);
    assert_eq!(store.load().expect("loaded"), Kept::default());
    let last = Write::Enqueue { message_id: "last".into(), envelope: "{}".into(), expires: None };
    store.commit(&[last]).expect("a wiped store goes on");
    assert_eq!(store.load().expect("loaded").publishes.len(), 1);
}

/// So many random batches, the same each time, and whether the process ends behind each.
pub fn rounds(many: usize) -> Vec<(Vec<Write>, bool)> {
    let mut random = Random::new(7);
    let mut round = || {
        let batch = (0..random.up_to(6)).map(|_| write(&mut random)).collect();
        (batch, random.up_to(8) == 0)
    };
    (0..many).map(|_| round()).collect()
}

/// Places come in no order.
fn sorted(mut kept: Kept) -> Kept {
    kept.places.sort_by(|a, b| a.0.cmp(&b.0));
    kept
}

fn write(random: &mut Random) -> Write {
    let number = random.up_to(5);
    let name = || format!("n \u{e4}'{number}").into();
    let position =
        Position { partition: number as u16, offset: Offset(random.up_to(1 << 50)), fingerprint: None };
    let flags = random.up_to(7);
    match random.up_to(9) {
        0 | 1 => {
            let expires = (flags > 3).then_some(1_700_000_000_000 + number);
            // One that comes again is another, as when it has taken a later one up.
            Write::Enqueue { message_id: name(), envelope: format!("{{\"a\":\"{flags}\"}}").into(), expires }
        }
        2 => Write::Wedge { message_id: name(), why: (flags > 2).then(|| (Code::NOT_ALLOWED, "no".into())) },
        3 => Write::Settle { message_id: name() },
        4..=6 => Write::Message {
            topic: name(),
            position,
            about: About { snapshot: flags & 1 > 0, stale: flags & 2 > 0, patch: flags & 4 > 0 },
            envelope: format!("{{\"b\":{}}}", random.up_to(1 << 40)).into(),
        },
        7 => Write::Trim { topic: name(), keep: flags as usize },
        _ => {
            let mut cursor = Cursor::beginning(LogId(number));
            cursor.set(position);
            let filter = Filter::new("a/+/#").expect("a filter");
            Write::Cursor { name: name(), place: (flags > 1).then_some(Place { filter, cursor }) }
        }
    }
}
