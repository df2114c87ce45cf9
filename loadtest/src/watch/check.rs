//! What a watcher has, compared with what was published.

use super::model::{About, Model};
use super::watcher::{Held, Watcher};

/// What is wrong with what a watcher got. All zero is the promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Topics that it does not hold the newest value of.
    pub old: u64,
    /// Events, or messages after a snapshot, that neither came nor lie in a gap.
    pub lost: u64,
    /// Deliveries for a second time, or out of order.
    pub doubled: u64,
    /// Deliveries that were never published like this.
    pub invented: u64,
}

impl Faults {
    pub fn add(&mut self, more: Faults) {
        self.old += more.old;
        self.lost += more.lost;
        self.doubled += more.doubled;
        self.invented += more.invented;
    }

    pub fn sum(&self) -> u64 {
        self.old + self.lost + self.doubled + self.invented
    }

    /// Of a watcher that has settled: every state topic's newest value, every event or a gap, nothing twice.
    pub fn at_the_end(watcher: &Watcher, model: &Model) -> Faults {
        let told = |offset| watcher.gaps.iter().any(|&(after, before)| after < offset && offset < before);
        Faults {
            old: old(&watcher.held, model, u64::MAX),
            lost: missing(&model.events(), &watcher.events).filter(|&offset| !told(offset)).count() as u64,
            doubled: watcher.counts.disordered,
            invented: invented(&watcher.held, model),
        }
    }

    /// Of a witness's snapshot: each value the newest as of the told offset; behind that, every single message.
    pub fn of_snapshot(watcher: &Watcher, model: &Model) -> Faults {
        let as_of = watcher.caught_up.unwrap_or_default();
        let live: Vec<u64> = watcher.taken.iter().map(|&(at, _)| at).filter(|&at| at > as_of).collect();
        let invented = watcher.taken.iter().filter(|(at, number)| model.find(*number, *at).is_none());
        Faults {
            old: old(&watcher.as_of, model, as_of) + u64::from(watcher.lacks),
            lost: missing(&model.after(as_of), &live).count() as u64,
            doubled: watcher.counts.disordered,
            invented: invented.count() as u64,
        }
    }
}

fn old(held: &[Held], model: &Model, as_of: u64) -> u64 {
    model.newest(as_of).iter().zip(held).filter(|(newest, held)| **newest != held.offset).count() as u64
}

fn invented(held: &[Held], model: &Model) -> u64 {
    let wrong = |(topic, held): &(u32, &Held)| {
        held.offset > 0 && model.find(held.number, held.offset) != Some(About::State(*topic))
    };
    (0..).zip(held).filter(wrong).count() as u64
}

/// Those of `all` that are not among `had`; both rise.
fn missing<'a>(all: &'a [u64], had: &'a [u64]) -> impl Iterator<Item = u64> + 'a {
    let mut had = had.iter().copied().peekable();
    all.iter().copied().filter(move |&wanted| {
        while had.next_if(|&at| at < wanted).is_some() {}
        had.peek() != Some(&wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found() {
        assert_eq!(missing(&[1, 3, 5, 9], &[0, 1, 5, 6]).collect::<Vec<_>>(), [3, 9]);
    }

    #[test]
    fn a_value_that_is_not_the_newest_or_another_topics_is_found() {
        let mut model = Model::new(2);
        for (about, offset) in [(About::State(0), 1), (About::State(1), 2), (About::State(0), 3)] {
            let number = model.add(about);
            model.confirm(number, offset);
        }
        let held = |offset, number| Held { offset, number };
        assert_eq!(old(&[held(3, 2), held(2, 1)], &model, u64::MAX), 0);
        assert_eq!(old(&[held(1, 0), held(2, 1)], &model, u64::MAX), 1);
        assert_eq!(old(&[held(1, 0), held(2, 1)], &model, 2), 0);
        assert_eq!(invented(&[held(3, 2), held(3, 2)], &model), 1);
    }
}
