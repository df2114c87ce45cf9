//! Lists of connections, mostly empty or of one: 4 bytes each, and a place among the long ones for those that are longer.

use super::ConnectionId;

/// One list: the connection, if it has one; [`NONE`]; or, with [`MANY`] added, which of [`Lists`] it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Few(u32);

/// No list: neither a connection's number nor a list's comes near it, since each takes memory.
const NONE: u32 = u32::MAX;
const MANY: u32 = 1 << 31;

impl Default for Few {
    fn default() -> Few {
        Few(NONE)
    }
}

/// The lists that are longer than one.
#[derive(Default)]
pub(super) struct Lists {
    lists: Vec<Vec<ConnectionId>>,
    free: Vec<u32>,
}

impl Few {
    pub fn one(connection: ConnectionId) -> Few {
        debug_assert!(connection < MANY, "a connection's number is the place of something in memory");
        Few(connection)
    }

    pub fn is_empty(&self) -> bool {
        self.0 == NONE
    }

    /// Which of [`Lists`] it is, if it is one of them.
    fn many(&self) -> Option<usize> {
        self.0.checked_sub(MANY).filter(|_| !self.is_empty()).map(|at| at as usize)
    }

    pub fn as_slice<'l>(&'l self, lists: &'l Lists) -> &'l [ConnectionId] {
        match self.many() {
            Some(at) => &lists.lists[at],
            None if self.is_empty() => &[],
            None => std::slice::from_ref(&self.0),
        }
    }

    pub fn push(&mut self, connection: ConnectionId, lists: &mut Lists) {
        if let Some(at) = self.many() {
            lists.lists[at].push(connection);
        } else if self.is_empty() {
            *self = Few::one(connection);
        } else {
            let at = lists.free.pop().unwrap_or_else(|| {
                lists.lists.push(Vec::new());
                (lists.lists.len() - 1) as u32
            });
            lists.lists[at as usize] = vec![self.0, connection];
            *self = Few(MANY + at);
        }
    }

    /// Takes one out; says whether it was there.
    pub fn remove(&mut self, connection: ConnectionId, lists: &mut Lists) -> bool {
        let Some(place) = self.as_slice(lists).iter().position(|&c| c == connection) else { return false };
        let Some(at) = self.many() else {
            *self = Few::default();
            return true;
        };
        let list = &mut lists.lists[at];
        list.swap_remove(place);
        if let [last] = list[..] {
            *list = Vec::new();
            lists.free.push(at as u32);
            *self = Few::one(last);
        }
        true
    }
}
