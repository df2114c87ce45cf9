//! A few threads that read files, so that no async thread ever waits for a disk.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Reads at the same time.
const THREADS: usize = 2;
/// Reads that may wait; one more is refused. Readers bound themselves long before this.
const WAITING: usize = 4096;

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs in the order in which they come, [`THREADS`] at a time. The threads end with it.
#[derive(Debug)]
pub(super) struct Pool {
    jobs: SyncSender<Job>,
}

impl Pool {
    pub(super) fn start() -> io::Result<Pool> {
        let (jobs, queue) = sync_channel::<Job>(WAITING);
        let queue = Arc::new(Mutex::new(queue));
        for n in 0..THREADS {
            let queue = queue.clone();
            thread::Builder::new().name(format!("log-read-{n}")).spawn(move || work(&queue))?;
        }
        Ok(Pool { jobs })
    }

    /// Queues a job; says `false` if too many wait.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> bool {
        match self.jobs.try_send(Box::new(job)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

fn work(queue: &Mutex<Receiver<Job>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(),
            Err(_) => return,
        }
    }
}
