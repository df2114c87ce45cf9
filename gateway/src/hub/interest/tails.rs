//! What stands behind a name in a filter, where nothing else does: `telemetry/+` behind a device. Each text once, for all devices.
//!
//! Most of a million filters differ in one level and end alike. A path of nodes for each would be most of their memory, and two trips beyond the
//! processor's caches more for each match.

use hashbrown::HashMap;
use std::sync::Arc;

/// Which of [`Tails`] it is.
pub(super) type TailId = u32;

/// The tail of a filter that ends with the name: nothing stands behind it.
pub(super) const END: TailId = 0;

#[derive(Default)]
pub(super) struct Tails {
    ids: HashMap<Arc<str>, TailId>,
    /// By number less one.
    tails: Vec<Tail>,
    free: Vec<TailId>,
}

struct Tail {
    text: Arc<str>,
    uses: u32,
}

impl Tails {
    /// The number of a tail; used once more from here on.
    pub fn enter(&mut self, text: Option<&str>) -> TailId {
        let Some(text) = text else { return END };
        if let Some(&id) = self.ids.get(text) {
            self.tails[id as usize - 1].uses += 1;
            return id;
        }
        let tail = Tail { text: text.into(), uses: 1 };
        let text = tail.text.clone();
        let id = match self.free.pop() {
            Some(id) => {
                self.tails[id as usize - 1] = tail;
                id
            }
            None => {
                self.tails.push(tail);
                self.tails.len() as TailId
            }
        };
        self.ids.insert(text, id);
        id
    }

    /// It is used once less.
    pub fn leave(&mut self, id: TailId) {
        let Some(tail) = (id as usize).checked_sub(1).and_then(|at| self.tails.get_mut(at)) else { return };
        tail.uses -= 1;
        if tail.uses == 0 {
            self.ids.remove(&*tail.text);
            tail.text = "".into();
            self.free.push(id);
        }
    }

    pub fn text(&self, id: TailId) -> Option<&str> {
        Some(&self.tails.get((id as usize).checked_sub(1)?)?.text)
    }

    /// Whether the tail matches what stands behind the name in a topic.
    pub fn matches(&self, id: TailId, below: Option<&str>) -> bool {
        matches(self.text(id), below)
    }
}

fn matches(mut tail: Option<&str>, mut below: Option<&str>) -> bool {
    loop {
        let (Some(rest), Some(left)) = (tail, below) else {
            // `a/#` also matches its parent `a`.
            return below.is_none() && matches!(tail, None | Some("#"));
        };
        let (wanted, next) = split(rest);
        if wanted == "#" {
            return true;
        }
        let (level, under) = split(left);
        if wanted != "+" && wanted != level {
            return false;
        }
        (tail, below) = (next, under);
    }
}

/// The first level, and what is below it.
pub(super) fn split(levels: &str) -> (&str, Option<&str>) {
    match levels.split_once('/') {
        Some((level, below)) => (level, Some(below)),
        None => (levels, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_there_once_and_as_long_as_it_is_used() {
        let mut tails = Tails::default();
        let (one, two) = (tails.enter(Some("x/+")), tails.enter(Some("")));
        assert_eq!(tails.enter(Some("x/+")), one);
        assert_eq!(tails.enter(None), END);
        tails.leave(END);
        tails.leave(one);
        assert_eq!((tails.text(one), tails.text(two), tails.text(END)), (Some("x/+"), Some(""), None));
        tails.leave(one);
        assert_eq!(tails.enter(Some("y")), one, "its number is used again");
        assert_eq!(tails.text(one), Some("y"));
    }
}
