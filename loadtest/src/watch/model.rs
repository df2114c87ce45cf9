//! Everything that was published, and where the log has put it.

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The state topic with this number.
    State(u32),
    Event,
}

/// All messages, by their numbers.
pub struct Model {
    topics: u32,
    about: Vec<About>,
    /// Their offsets; 0 until confirmed.
    offsets: Vec<u64>,
    unconfirmed: usize,
    last: u64,
}

impl Model {
    pub fn new(topics: u32) -> Model {
        Model { topics, about: Vec::new(), offsets: Vec::new(), unconfirmed: 0, last: 0 }
    }

    /// How many state topics there are.
    pub fn topics(&self) -> u32 {
        self.topics
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.about.len()
    }

    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }

    /// The newest confirmed offset.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Adds a message, and returns its number.
    pub fn add(&mut self, about: About) -> u64 {
        self.about.push(about);
        self.offsets.push(0);
        self.unconfirmed += 1;
        self.about.len() as u64 - 1
    }

    /// A message is stored there. Says whether that was news.
    pub fn confirm(&mut self, number: u64, offset: u64) -> bool {
        let fresh = self.offsets.get_mut(number as usize).filter(|known| **known == 0 && offset > 0);
        let Some(known) = fresh else { return false };
        *known = offset;
        self.unconfirmed -= 1;
        self.last = self.last.max(offset);
        true
    }

    /// What a message is about, if it stands at this offset.
    pub fn find(&self, number: u64, offset: u64) -> Option<About> {
        let number = number as usize;
        (self.offsets.get(number) == Some(&offset)).then(|| self.about[number])
    }

    /// Each state topic's newest offset, as of one.
    pub fn newest(&self, as_of: u64) -> Vec<u64> {
        let mut newest = vec![0; self.topics as usize];
        for (about, &offset) in self.about.iter().zip(&self.offsets) {
            if let (About::State(topic), true) = (about, offset <= as_of) {
                let known = &mut newest[*topic as usize];
                *known = (*known).max(offset);
            }
        }
        newest
    }

    /// The offsets of all messages beyond one, rising.
    pub fn after(&self, offset: u64) -> Vec<u64> {
        let mut offsets: Vec<u64> = self.offsets.iter().copied().filter(|&at| at > offset).collect();
        offsets.sort_unstable();
        offsets
    }

    /// The offsets of all events, rising.
    pub fn events(&self) -> Vec<u64> {
        let all = self.about.iter().zip(&self.offsets);
        let mut offsets: Vec<u64> =
            all.filter(|(about, _)| **about == About::Event).map(|(_, &offset)| offset).collect();
        offsets.sort_unstable();
        offsets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_what_was_newest_at_any_offset() {
        let mut model = Model::new(2);
        for (about, offset) in
            [(About::State(0), 3), (About::Event, 4), (About::State(1), 7), (About::State(0), 9)]
        {
            let number = model.add(about);
            assert!(model.confirm(number, offset) && !model.confirm(number, offset));
        }
        assert_eq!((model.newest(8), model.newest(9)), (vec![3, 7], vec![9, 7]));
        assert_eq!((model.after(4), model.events(), model.last()), (vec![7, 9], vec![4], 9));
        assert_eq!((model.find(2, 7), model.find(2, 9)), (Some(About::State(1)), None));
    }
}
