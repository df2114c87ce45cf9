//! Whether many moments are spread as they should be: the test of Kolmogorov and Smirnov, set so that it does not cry wolf.
//!
//! Of n independent samples, the share that lies at or below some x differs from the true share F(x) by more than d, at whichever x, with a probability of
//! at most 2·exp(−2nd²). That holds for every n and every F, steps included (Massart, "The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality",
//! 1990). [`Distance::allowed`] is the d for [`FALSE_ALARM`]: 6.9 % for 2,000 samples. Everything that is further off is found: all at once, a herd that
//! is back in the first tenth, a ramp, a hole.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fmt;

/// How often one comparison of samples that are spread as they should be may fail.
pub const FALSE_ALARM: f64 = 1e-8;

/// Samples in their order.
#[derive(Clone, Debug)]
pub struct Spread(Vec<f64>);

/// How far samples are from what they should be, as shares of all samples.
#[derive(Clone, Copy, Debug)]
pub struct Distance {
    samples: usize,
    /// By some x, so many more have come than should have: they are early.
    ahead: f64,
    /// By some x, so many fewer have come than should have: they are late.
    behind: f64,
}

impl Spread {
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Spread(sorted)
    }

    /// Whole numbers, each drawn from 0 to the number beside it, both included, as shares from 0 to 1. What lies between two whole numbers is drawn
    /// here, so that shares of a few numbers are as even as those of many.
    pub fn of_draws(draws: impl IntoIterator<Item = (u64, u64)>, seed: u64) -> Spread {
        let mut random = StdRng::seed_from_u64(seed);
        Spread::of(draws.into_iter().map(|(drawn, most)| {
            assert!(drawn <= most, "{drawn} is over {most}");
            (drawn as f64 + random.random::<f64>()) / (most as f64 + 1.0)
        }))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with the share of all samples that should lie at or below each x.
    pub fn against(&self, expected: impl Fn(f64) -> f64) -> Distance {
        let count = self.len() as f64;
        let mut distance = Distance { samples: self.len(), ahead: 0.0, behind: 0.0 };
        for (before, sample) in self.0.iter().enumerate() {
            let expected = expected(*sample);
            distance.ahead = distance.ahead.max((before + 1) as f64 / count - expected);
            distance.behind = distance.behind.max(expected - before as f64 / count);
        }
        distance
    }

    /// A line for each of so many equal parts from 0 to `most`: what came, and what should have.
    pub fn histogram(&self, most: f64, parts: usize, expected: impl Fn(f64) -> f64) -> String {
        let mut text = String::new();
        for part in 0..parts {
            let (from, to) = (most * part as f64 / parts as f64, most * (part + 1) as f64 / parts as f64);
            let came = self.below(to) - self.below(from);
            let should = (expected(to) - expected(from)) * self.len() as f64;
            let bar = "▪".repeat(came * parts * 3 / self.len().max(1));
            text += &format!("{from:>9.2} … {to:<9.2}{came:>6} of {should:>6.0}  {bar}\n");
        }
        match self.len() - self.below(most) {
            0 => text,
            later => text + &format!("{most:>9.2} … {:<9}{later:>6}\n", ""),
        }
    }

    fn below(&self, x: f64) -> usize {
        self.0.partition_point(|sample| *sample < x)
    }
}

impl Distance {
    /// What chance may do.
    pub fn allowed(&self) -> f64 {
        ((2.0 / FALSE_ALARM).ln() / (2.0 * self.samples as f64)).sqrt()
    }

    /// Whether the samples are spread as they should be.
    pub fn is_chance(&self) -> bool {
        self.samples > 0 && self.ahead.max(self.behind) <= self.allowed()
    }

    /// Whether at least they are not early. A machine with other work to do makes everything late, and nothing early.
    pub fn is_late_at_most(&self) -> bool {
        self.samples > 0 && self.ahead <= self.allowed()
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ahead, behind, allowed] = [self.ahead, self.behind, self.allowed()].map(|share| share * 100.0);
        write!(
            f,
            "{} samples, {ahead:.1} % ahead, {behind:.1} % behind, of {allowed:.1} % allowed",
            self.samples
        )
    }
}

/// Evenly from 0 to 1.
pub fn even(x: f64) -> f64 {
    x.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERD: usize = 2_000;

    fn herd(seed: u64, one: impl Fn(f64) -> f64) -> Spread {
        let mut random = StdRng::seed_from_u64(seed);
        Spread::of((0..HERD).map(|_| one(random.random())))
    }

    #[test]
    fn an_even_spread_passes_and_is_as_far_off_as_the_books_say() {
        let distances: Vec<Distance> = (0..500).map(|seed| herd(seed, |x| x).against(even)).collect();
        assert!(distances.iter().all(Distance::is_chance));
        // Kolmogorov's table: one in twenty is off by more than 1.358/√n.
        let far = 1.358 / (HERD as f64).sqrt();
        let seldom = distances.iter().filter(|one| one.ahead.max(one.behind) > far).count();
        assert!((10..45).contains(&seldom), "{seldom} of 500, expected 25");
        assert!((0.069..0.0692).contains(&distances[0].allowed()), "{}", distances[0]);
    }

    #[test]
    fn slots_of_their_own_pass_too() {
        let slots = Spread::of((0..HERD).map(|number| (number + 1) as f64 / HERD as f64));
        assert!(slots.against(even).is_chance());
    }

    #[test]
    fn whatever_is_not_even_is_found() {
        /// Moments from 0 to 1, made of even ones.
        type Shape = fn(f64) -> f64;
        let shapes: [(&str, Shape); 9] = [
            ("all at once, at the beginning", |_| 0.0),
            ("all at once, at the end", |_| 1.0),
            ("back in the first tenth", |x| x / 10.0),
            ("only the last nine tenths", |x| 0.1 + 0.9 * x),
            ("a ramp that grows", f64::sqrt),
            ("a ramp that falls", |x| 1.0 - (1.0 - x).sqrt()),
            ("twice as dense in the first half", |x| if x < 2.0 / 3.0 { x * 0.75 } else { 1.5 * x - 0.5 }),
            ("a fifth missing in the middle", |x| if x < 0.5 { x * 0.8 } else { 0.2 + x * 0.8 }),
            ("four bursts", |x| (x * 4.0).floor() / 4.0),
        ];
        for (name, shape) in shapes {
            for seed in 0..20 {
                let distance = herd(seed, shape).against(even);
                assert!(!distance.is_chance(), "{name}: {distance}");
            }
        }
    }

    #[test]
    fn late_is_told_from_early() {
        let late = herd(1, |x| x + 0.3).against(even);
        assert!(late.is_late_at_most() && !late.is_chance(), "{late}");
        let early = herd(1, |x| x * 0.8).against(even);
        assert!(!early.is_late_at_most(), "{early}");
        let none = Spread::of([]).against(even);
        assert!(!none.is_late_at_most() && !none.is_chance(), "nothing proves nothing");
    }

    #[test]
    fn draws_from_few_numbers_are_as_even_as_those_from_many() {
        let mut random = StdRng::seed_from_u64(3);
        let draws: Vec<(u64, u64)> =
            (0..HERD as u64).map(|n| (random.random_range(0..=n % 7), n % 7)).collect();
        assert!(Spread::of_draws(draws.clone(), 4).against(even).is_chance());
        let least = draws.into_iter().map(|(_, most)| (0, most));
        assert!(!Spread::of_draws(least, 4).against(even).is_chance());
    }

    #[test]
    fn a_histogram_counts_all() {
        let spread = Spread::of([0.1, 0.6, 0.7, 3.0]);
        let text = spread.histogram(1.0, 2, even);
        let counts: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
        assert_eq!(counts[..2], ["1", "2"], "{text}");
        assert!(text.ends_with("1\n"), "{text}");
    }
}
