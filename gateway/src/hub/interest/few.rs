//! Lists of connections, mostly empty or of one: 8 bytes each, and a place among the long ones for those that are longer.

use super::ConnectionId;

/// One list.
#[derive(Clone, Copy, Default)]
pub(super) enum Few {
    #[default]
    None,
    One(ConnectionId),
    /// Which of [`Lists`] it is.
    Many(u32),
}

/// The lists that are longer than one.
#[derive(Default)]
pub(super) struct Lists {
    lists: Vec<Vec<ConnectionId>>,
    free: Vec<u32>,
}

impl Few {
    pub fn is_empty(&self) -> bool {
        matches!(self, Few::None)
    }

    pub fn as_slice<'l>(&'l self, lists: &'l Lists) -> &'l [ConnectionId] {
        match self {
            Few::None => &[],
            Few::One(one) => std::slice::from_ref(one),
            Few::Many(at) => &lists.lists[*at as usize],
        }
    }

    pub fn push(&mut self, connection: ConnectionId, lists: &mut Lists) {
        match *self {
            Few::None => *self = Few::One(connection),
            Few::One(one) => {
                let at = lists.free.pop().unwrap_or_else(|| {
                    lists.lists.push(Vec::new());
                    (lists.lists.len() - 1) as u32
                });
                lists.lists[at as usize] = vec![one, connection];
                *self = Few::Many(at);
            }
            Few::Many(at) => lists.lists[at as usize].push(connection),
        }
    }

    /// Takes one out; says whether it was there.
    pub fn remove(&mut self, connection: ConnectionId, lists: &mut Lists) -> bool {
        let Some(place) = self.as_slice(lists).iter().position(|&c| c == connection) else { return false };
        match *self {
            Few::Many(at) => {
                let list = &mut lists.lists[at as usize];
                list.swap_remove(place);
                if let [last] = list[..] {
                    *list = Vec::new();
                    lists.free.push(at);
                    *self = Few::One(last);
                }
            }
            _ => *self = Few::None,
        }
        true
    }
}
