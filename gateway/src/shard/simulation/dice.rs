//! All that is left to chance, out of one seed.

use anabranch_sdk_core::backoff::Random;

pub struct Dice(Random);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(Random::new(seed))
    }

    /// Below `count`, which is not 0.
    pub fn below(&mut self, count: u64) -> u64 {
        self.0.up_to(count - 1)
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Copy>(&mut self, things: &[T]) -> T {
        things[self.index(things.len())]
    }

    /// One of several things, each as often as it weighs.
    pub fn weigh<'t, T>(&mut self, things: &'t [(u64, T)]) -> &'t T {
        let mut at = self.below(things.iter().map(|(weight, _)| weight).sum());
        for (weight, thing) in things {
            match at.checked_sub(*weight) {
                None => return thing,
                Some(left) => at = left,
            }
        }
        unreachable!("below the sum")
    }

    /// A seed for somebody else.
    pub fn seed(&mut self) -> u64 {
        self.0.up_to(u64::MAX)
    }
}
