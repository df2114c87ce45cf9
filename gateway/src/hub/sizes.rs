//! How large a message may be: one limit for all topics, and smaller ones for some.

use anabranch_protocol::filter::Filter;

/// The limits of envelopes, in bytes. They are for those who publish through the gateway: what other programs put into the
/// log is delivered as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    most: usize,
    rows: Vec<(Filter, usize)>,
}

impl Sizes {
    /// `most` for every topic, and less for those that rows mean.
    pub fn new(most: usize, rows: Vec<(Filter, usize)>) -> Sizes {
        Sizes { most, rows }
    }

    /// The limit of a topic: the smallest of all rows that mean it. Costs a match with each row.
    pub fn of(&self, topic: &str) -> usize {
        let rows = self.rows.iter().filter(|(row, _)| row.matches(topic));
        rows.fold(self.most, |least, (_, bytes)| least.min(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_that_means_a_topic_counts() {
        let row = |text: &str, bytes| (Filter::new(text).expect(text), bytes);
        let sizes = Sizes::new(100, vec![row("a/#", 50), row("a/b", 70), row("+/c", 20), row("d", 200)]);
        let limits = ["a", "a/b", "a/c", "b/c", "d", "e"].map(|topic| sizes.of(topic));
        assert_eq!(limits, [50, 50, 20, 20, 100, 100]);
    }
}
