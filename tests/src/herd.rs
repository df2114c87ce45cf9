//! A herd: many clients in one process, each the bare core with the least of a body around it, which writes down what the core decides and when.
//!
//! The times in the diaries are those at which the core decided, on the clock that the core was given. A machine with other work to do can make them late,
//! because a timer fires late; never early.

mod body;
mod diary;

pub use diary::{Diary, Moment, Note};

use crate::ledger::{Ledger, Verdict, Witness};
use crate::wait::met_within;
use anabranch::Phase;
use anabranch_sdk_core::{Machine, Now};
use body::Body;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Every so many clients one is restless: its radio goes off and on as soon as it has a slot.
pub const RESTLESS: usize = 10;

/// What a herd consists of.
pub struct Plan {
    pub clients: usize,
    /// For the cores' jitter.
    pub seed: u64,
    /// Where all of them connect to.
    pub door: SocketAddr,
    /// What each of them subscribes to.
    pub filter: &'static str,
}

/// Clients that run. Dropping it ends them.
pub struct Herd {
    clock: Clock,
    diaries: Vec<Arc<Mutex<Diary>>>,
    _bodies: JoinSet<()>,
}

/// The clock that all cores are given.
#[derive(Clone, Copy, Debug)]
struct Clock {
    epoch: Instant,
}

impl Clock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: self.epoch.elapsed().as_millis() as u64, wall: wall.as_millis() as u64 }
    }

    fn instant(&self, mono: Moment) -> Instant {
        self.epoch + Duration::from_millis(mono)
    }
}

impl Herd {
    /// Starts the clients, which connect at once. Each has a token of its own.
    pub fn start(plan: &Plan, token: impl Fn(&str) -> String) -> Herd {
        let clock = Clock { epoch: Instant::now() };
        let mut random = StdRng::seed_from_u64(plan.seed);
        let mut bodies = JoinSet::new();
        let diaries = (0..plan.clients).map(|number| {
            let name = format!("client-{number}");
            let witness = Witness::new(plan.filter);
            let diary = Arc::new(Mutex::new(Diary { notes: Vec::new(), phase: Phase::Idle, witness }));
            let machine = Machine::new(&name, "anabranch-herd", random.random());
            let restless = number % RESTLESS == 0;
            let body = Body::new(machine, clock, plan.door, token(&name), diary.clone(), restless);
            bodies.spawn(body.run(plan.filter));
            diary
        });
        let diaries = diaries.collect();
        Herd { clock, diaries, _bodies: bodies }
    }

    /// The moment that it is on the herd's clock.
    pub fn now(&self) -> Moment {
        self.clock.now().mono
    }

    /// The diaries, each locked while it is looked at.
    pub fn diaries(&self) -> impl Iterator<Item = MutexGuard<'_, Diary>> {
        self.diaries.iter().map(|diary| diary.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many are live.
    pub fn live(&self) -> usize {
        self.diaries().filter(|diary| diary.phase == Phase::Live).count()
    }

    /// Waits until nothing that was confirmed is still to come, at most so long, and judges.
    pub async fn judge(&self, ledger: &Ledger, patience: Duration) -> Verdict {
        let look = || self.diaries().map(|diary| ledger.judge(&diary.witness)).collect::<Vec<_>>();
        let mut verdicts = Vec::new();
        let complete = async || {
            verdicts = look();
            verdicts.iter().all(|one: &Verdict| one.lost_unannounced == 0)
        };
        met_within(patience, complete).await;
        verdicts.into_iter().fold(Verdict::default(), |mut sum, one| {
            sum += one;
            sum
        })
    }
}

/// Raises the limit of open files of this process, and of those that it starts, to so many; panics where that is not allowed.
pub fn raise_file_limit(files: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < files) {
        let raised = Rlimit { current: Some(files), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).unwrap_or_else(|error| panic!("{files} open files: {error}"));
    }
}
