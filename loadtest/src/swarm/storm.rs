//! Everyone loses the connection at once, and comes back at once.

use super::connection::{Connection, Place};
use super::open::connect;
use super::plan::Plan;
use super::{Swarm, Tally};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// What a storm was like.
pub struct Storm {
    /// From the first attempt until half of all, 99 % and the last had caught up.
    pub half: Duration,
    pub most: Duration,
    pub last: Duration,
    pub deliveries: u64,
    pub lost: u64,
    pub doubled: u64,
    pub gaps: u64,
}

impl Swarm {
    /// Opens one more connection, which notes where in the log it stands.
    pub fn open_and_keep_place(&mut self, plan: &Plan) -> Result<()> {
        let id = self.connections.len();
        self.start(plan)?;
        self.connections[id].cursor = Some(Box::default());
        self.await_one(&mut |_| {})?;
        self.opened = 0;
        Ok(())
    }

    /// Where a connection stands, as a cursor.
    pub fn cursor(&self, id: usize) -> Result<String> {
        let place = self.connections[id].cursor.as_deref().filter(|place| !place.position.is_empty());
        let Place { log, position } = place.context("that connection keeps no place, or has seen nothing")?;
        Ok(format!("{log}/{position}"))
    }

    /// Cuts these connections without a word.
    pub fn cut(&mut self, plans: &[(usize, Plan)]) {
        for (id, _) in plans {
            self.connections[*id].stream = None;
        }
    }

    /// Connects all of them as fast as this machine can, each with a plan that says what to say; each goes on with the number
    /// that it had come to. Returns when all have caught up.
    pub fn come_back(&mut self, plans: &[(usize, Plan)], mut progress: impl FnMut(usize)) -> Result<Storm> {
        self.tally = Tally::new(1);
        let mut times: Vec<Duration> = Vec::with_capacity(plans.len());
        let began = Instant::now();
        for (started, (id, plan)) in plans.iter().enumerate() {
            let stream = connect(self.server, *id, plan.receive_buffer)?;
            let old = &mut self.connections[*id];
            let (next, stride) = (old.next, old.stride);
            let place = old.cursor.take();
            *old = Connection::new(stream, plan)?;
            (old.next, old.stride, old.cursor) = (next, stride, place);
            self.begin(*id)?;
            // Those who are through already speak while others still connect.
            if started % 64 == 0 {
                self.turn(Duration::ZERO)?;
                times.resize(self.opened, began.elapsed());
            }
        }
        while self.opened < plans.len() {
            self.await_one(&mut progress)?;
            times.resize(self.opened, began.elapsed());
        }
        self.opened = 0;
        let lacking = plans.iter().filter(|(id, _)| self.connections[*id].next < self.next).count();
        ensure!(!times.is_empty(), "nobody came back");
        let at = |share: usize| times[(times.len() * share).div_ceil(100).saturating_sub(1)];
        Ok(Storm {
            half: at(50),
            most: at(99),
            last: at(100),
            deliveries: self.tally.deliveries,
            lost: self.tally.lost + lacking as u64,
            doubled: self.tally.doubled,
            gaps: self.tally.gaps,
        })
    }
}
