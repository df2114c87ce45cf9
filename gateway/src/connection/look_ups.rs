//! Questions to the log about where subscriptions begin: a few at a time, and none that nobody waits for any more.
//!
//! Each costs the log a read. A client that subscribes and unsubscribes again and again must not stand before all others.

use super::Asked;
use super::resume::Verdict;
use crate::log::ReadError;
use futures_util::future::BoxFuture;
use std::collections::VecDeque;

/// Questions of one connection at a time.
const AT_A_TIME: u8 = 4;
/// So many wait before those are dropped for which nobody waits any more.
const WAITING: usize = 64;

/// One question, and for whom it is asked.
pub struct LookUp {
    pub subscriptions: Vec<Asked>,
    pub looking: BoxFuture<'static, Result<Verdict, ReadError>>,
}

/// The questions of one connection. Boxed, because hardly any connection ever has any.
#[derive(Default)]
pub struct LookUps(Option<Box<Questions>>);

#[derive(Default)]
struct Questions {
    under_way: u8,
    waiting: VecDeque<LookUp>,
}

impl LookUps {
    /// Adds a question. There are never more than [`WAITING`] and those that `awaits` says are waited for.
    pub fn add(&mut self, look_up: LookUp, awaits: impl Fn(Asked) -> bool) {
        let waiting = &mut self.0.get_or_insert_default().waiting;
        if waiting.len() >= WAITING {
            waiting.retain(|one| one.subscriptions.iter().any(|asked| awaits(*asked)));
        }
        waiting.push_back(look_up);
    }

    /// The next question to ask now, if there may be one more.
    pub fn next(&mut self, awaits: impl Fn(Asked) -> bool) -> Option<LookUp> {
        let Questions { under_way, waiting } = &mut **self.0.as_mut()?;
        if *under_way >= AT_A_TIME {
            return None;
        }
        let awaited = |one: &LookUp| one.subscriptions.iter().any(|asked| awaits(*asked));
        let next = std::iter::from_fn(|| waiting.pop_front()).find(awaited);
        *under_way += u8::from(next.is_some());
        next
    }

    /// One that was asked has its answer.
    pub fn ended(&mut self) {
        let Some(questions) = &mut self.0 else { return };
        questions.under_way = questions.under_way.saturating_sub(1);
        self.0.take_if(|questions| questions.under_way == 0 && questions.waiting.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::subscriptions::{Subscriptions, Wish};
    use crate::hub::classes::Holds;
    use anabranch_protocol::filter::Filter;
    use futures_util::FutureExt;

    #[test]
    fn a_few_are_asked_at_a_time_and_none_that_nobody_waits_for() {
        let mut subscriptions = Subscriptions::default();
        let mut look_ups = LookUps::default();
        let mut asked = Vec::new();
        for round in 0..1_000 {
            let filter = Filter::new("a").expect("a filter");
            let holds = Holds { events: true, state: false };
            let one = subscriptions.add(1, filter, holds, Wish::default());
            let looking = std::future::pending().boxed();
            look_ups.add(LookUp { subscriptions: vec![one], looking }, |asked| subscriptions.awaits(asked));
            while let Some(next) = look_ups.next(|asked| subscriptions.awaits(asked)) {
                asked.extend(next.subscriptions);
            }
            if round < 999 {
                subscriptions.remove(1);
            }
            let waiting = look_ups.0.as_ref().map_or(0, |questions| questions.waiting.len());
            assert!(waiting <= WAITING, "{waiting} wait");
        }
        assert_eq!(asked.len(), usize::from(AT_A_TIME));
        look_ups.ended();
        let next = look_ups.next(|asked| subscriptions.awaits(asked)).expect("the last is waited for");
        assert!(subscriptions.awaits(next.subscriptions[0]));
        (0..AT_A_TIME).for_each(|_| look_ups.ended());
        assert!(look_ups.next(|asked| subscriptions.awaits(asked)).is_none() && look_ups.0.is_none());
    }
}
