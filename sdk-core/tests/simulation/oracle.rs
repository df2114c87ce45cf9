//! What each subscription of the app has seen, and whether that is right.

use crate::log::{Log, offset};
use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Gap, GapReason};
use anabranch_sdk_core::Machine;

pub struct Watched {
    pub id: SubscriptionId,
    filter: Filter,
    /// Everything after it, up to the present cursor, must be accounted for.
    base: Option<Cursor>,
    delivered: Vec<Position>,
    gaps: Vec<Gap>,
}

#[derive(Default)]
pub struct Oracle {
    pub watched: Vec<Watched>,
    /// Lost by the gateway on this connection, and the mark that shows it has not arrived.
    pub pending: Vec<Position>,
    /// Lost by the gateway on a connection that ended before its next mark. Nobody can know.
    pub excused: Vec<Position>,
    pub gaps_told: usize,
}

impl Oracle {
    pub fn watch(&mut self, id: SubscriptionId, filter: &str, base: Option<Cursor>) {
        let filter = Filter::new(filter).expect("a filter");
        self.watched.push(Watched { id, filter, base, delivered: Vec::new(), gaps: Vec::new() });
    }

    pub fn forget(&mut self, id: SubscriptionId) {
        self.watched.retain(|w| w.id != id);
    }

    fn find(&mut self, id: SubscriptionId) -> &mut Watched {
        self.watched.iter_mut().find(|w| w.id == id).expect("told only of subscriptions that exist")
    }

    pub fn delivered(&mut self, id: SubscriptionId, topic: &str, position: Position) {
        let watched = self.find(id);
        assert!(watched.filter.matches(topic), "{topic} is none of {id}'s business");
        let last = watched.delivered.iter().rev().find(|p| p.partition == position.partition);
        assert!(last.is_none_or(|l| l.offset < position.offset), "{position} after {last:?} for {id}");
        watched.delivered.push(position);
    }

    pub fn gap(&mut self, id: SubscriptionId, gap: Gap) {
        self.gaps_told += 1;
        let watched = self.find(id);
        if gap.reason == GapReason::Reset {
            // Another history: nothing of the old one counts.
            watched.base = None;
            watched.delivered.clear();
            watched.gaps.clear();
        } else {
            watched.gaps.push(gap);
        }
    }

    /// Checks one subscription against the log. `cursor` is where the machine says that it stands.
    pub fn check(&mut self, id: SubscriptionId, cursor: &Cursor, log: &Log) {
        let (pending, excused) = (&self.pending, &self.excused);
        let Some(watched) = self.watched.iter_mut().find(|w| w.id == id) else { return };
        let base = watched.base.get_or_insert_with(|| cursor.clone());
        if cursor.log() != log.id || base.log() != log.id {
            return;
        }
        for record in log.history.iter().filter(|r| watched.filter.matches(r.topic)) {
            let Position { partition, offset: at, .. } = record.position;
            if at.0 <= offset(base, partition) || at.0 > offset(cursor, partition) {
                continue;
            }
            let seen = watched.delivered.iter().any(|p| p.partition == partition && p.offset == at);
            let told = watched.gaps.iter().any(|g| g.partition == partition && g.after < at && at < g.before);
            let lost = pending.contains(&record.position) || excused.contains(&record.position);
            assert!(
                seen || told || lost,
                "{} is missing for {id}, which stands at {cursor}",
                record.position
            );
        }
    }

    /// A mark has been taken in: whoever stands beyond a loss must know of it.
    pub fn check_all(&mut self, machine: &Machine, log: &Log) {
        let standing: Vec<_> =
            self.watched.iter().filter_map(|w| Some((w.id, machine.cursor(w.id)?.clone()))).collect();
        for (id, cursor) in standing {
            self.check(id, &cursor, log);
        }
    }
}
