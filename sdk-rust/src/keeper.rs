//! The thread that writes to the store: batches in the order in which they were given, each of them whole.

use anabranch_sdk_core::store::{Store, StoreError, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use tokio::sync::{Notify, oneshot, watch};

/// So many changes are committed together, about.
const TOGETHER: usize = 500;

/// With so many changes to be written, the client reads no more from the network.
const BEHIND: usize = 10_000;

/// Told when what it was given with is committed, or will never be.
pub(crate) type Done = oneshot::Sender<Result<(), StoreError>>;

/// Where a client keeps things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// There is no store: all ends with the process.
    Memory,
    /// In the store.
    Durable,
    /// The store failed, and nothing is written there any more: it holds an earlier state, which is whole. All else ends with the process.
    Failed(StoreError),
}

/// What is to be done, in this order. Bounded not by refusing but by [`Keeper::keeps_up`]: what the app writes is bounded by the outbox, and by
/// its waiting.
#[derive(Default)]
struct Orders {
    writes: Vec<Write>,
    done: Vec<Done>,
    wipe: Option<Done>,
    end: Option<Done>,
    /// Nobody is there any more who orders.
    abandoned: bool,
    /// Nobody is there any more who writes.
    ended: bool,
}

#[derive(Default)]
struct Shared {
    orders: Mutex<Orders>,
    given: Condvar,
    progress: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was ordered since the last call; waits for something.
    fn take(&self) -> Orders {
        let idle = |orders: &mut Orders| {
            let Orders { writes, done, wipe, end, abandoned, .. } = orders;
            writes.is_empty() && done.is_empty() && wipe.is_none() && end.is_none() && !*abandoned
        };
        let mut orders = self.given.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let abandoned = orders.abandoned;
        Orders { abandoned, ..std::mem::take(&mut *orders) }
    }
}

/// The way to the store. Without one, everything is done at once.
pub(crate) struct Keeper {
    shared: Option<Arc<Shared>>,
    storage: watch::Receiver<Storage>,
}

impl Keeper {
    pub(crate) fn none() -> Keeper {
        Keeper { shared: None, storage: watch::Sender::new(Storage::Memory).subscribe() }
    }

    /// Starts the thread. It ends when this is dropped and everything is written.
    pub(crate) fn start(store: Box<dyn Store>) -> std::io::Result<Keeper> {
        let shared = Arc::new(Shared::default());
        let (storage, seen) = watch::channel(Storage::Durable);
        let its = shared.clone();
        let run = move || work(store, &its, &storage);
        thread::Builder::new().name("anabranch-store".to_owned()).spawn(run)?;
        Ok(Keeper { shared: Some(shared), storage: seen })
    }

    pub(crate) fn storage(&self) -> Storage {
        self.storage.borrow().clone()
    }

    /// Writes these behind all that was given before.
    pub(crate) fn write(&self, writes: Vec<Write>, done: Vec<Done>) {
        if !(writes.is_empty() && done.is_empty()) {
            self.order(|orders| {
                orders.writes.extend(writes);
                orders.done.extend(done);
            });
        }
    }

    /// Whether the store keeps up. Who reads from the network waits for it otherwise.
    pub(crate) fn keeps_up(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.lock().writes.len() < BEHIND)
    }

    /// Waits until the store has done something. Cancel safe.
    pub(crate) async fn progress(&self) {
        match &self.shared {
            Some(shared) => shared.progress.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until everything given so far is committed. Cancel safe.
    ///
    /// # Errors
    /// The store has failed.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        self.ask(|orders, done| orders.done.push(done)).await
    }

    /// Forgets everything that was written. Cancel safe.
    pub(crate) async fn wipe(&self) -> Result<(), StoreError> {
        self.ask(|orders, done| orders.wipe = Some(done)).await
    }

    /// Gives the store back, when everything is written.
    pub(crate) async fn end(&self) -> Result<(), StoreError> {
        self.ask(|orders, done| orders.end = Some(done)).await
    }

    async fn ask(&self, order: impl FnOnce(&mut Orders, Done)) -> Result<(), StoreError> {
        if self.shared.is_none() {
            return Ok(());
        }
        let (done, waiting) = oneshot::channel();
        self.order(|orders| order(orders, done));
        waiting.await.unwrap_or_else(|_| Err(StoreError("it was closed".into())))
    }

    fn order(&self, order: impl FnOnce(&mut Orders)) {
        if let Some(shared) = &self.shared {
            let mut orders = shared.lock();
            order(&mut orders);
            if orders.ended {
                orders.forget();
            }
            shared.given.notify_one();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.order(|orders| orders.abandoned = true);
    }
}

impl Orders {
    /// Whoever waits for something is told by that the other end of the channel goes.
    fn forget(&mut self) {
        *self = Orders { ended: true, ..Orders::default() };
    }
}

/// However the thread ends, by a panic of the store too.
struct Ending<'s>(&'s Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.lock().forget();
    }
}

fn work(mut store: Box<dyn Store>, shared: &Shared, storage: &watch::Sender<Storage>) {
    let _ending = Ending(shared);
    loop {
        let Orders { writes, done, wipe, end, abandoned, .. } = shared.take();
        // A batch that belongs together is cut nowhere that matters: messages come before the cursor that covers them.
        let outcome = writes.chunks(TOGETHER).try_for_each(|batch| commit(&mut *store, batch, storage));
        let outcome = outcome.and_then(|()| commit(&mut *store, &[], storage));
        done.into_iter().for_each(|one| answer(one, outcome.clone()));
        if let Some(done) = wipe {
            answer(done, store.wipe());
        }
        if let Some(done) = end {
            drop(store);
            return answer(done, Ok(()));
        }
        if abandoned {
            return;
        }
        shared.progress.notify_one();
    }
}

/// Commits, unless the store failed before: what was not written may be what a later cursor covers.
fn commit(
    store: &mut dyn Store,
    writes: &[Write],
    storage: &watch::Sender<Storage>,
) -> Result<(), StoreError> {
    if let Storage::Failed(why) = &*storage.borrow() {
        return Err(why.clone());
    }
    if writes.is_empty() {
        return Ok(());
    }
    let outcome = store.commit(writes).or_else(|first| {
        tracing::warn!("the store failed, and is asked again: {first}");
        store.commit(writes)
    });
    if let Err(why) = &outcome {
        tracing::error!("the store failed; from here on, nothing is kept: {why}");
        storage.send_replace(Storage::Failed(why.clone()));
    }
    outcome
}

fn answer(done: Done, outcome: Result<(), StoreError>) {
    // Whoever asked may have given up waiting.
    let _ = done.send(outcome);
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_sdk_core::store::Kept;

    /// Takes so many batches, and fails then.
    struct Failing(usize);

    impl Store for Failing {
        fn load(&mut self) -> Result<Kept, StoreError> {
            Ok(Kept::default())
        }

        fn commit(&mut self, _: &[Write]) -> Result<(), StoreError> {
            self.0 = self.0.checked_sub(1).ok_or_else(|| StoreError("full".into()))?;
            Ok(())
        }

        fn wipe(&mut self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    struct Panicking;

    impl Store for Panicking {
        fn load(&mut self) -> Result<Kept, StoreError> {
            Ok(Kept::default())
        }

        fn commit(&mut self, _: &[Write]) -> Result<(), StoreError> {
            panic!("a store's fault")
        }

        fn wipe(&mut self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_store_that_panics_keeps_nobody_waiting() {
        let keeper = Keeper::start(Box::new(Panicking)).expect("a thread");
        let (done, waiting) = oneshot::channel();
        keeper.write(vec![Write::Settle { message_id: "1".into() }], vec![done]);
        assert!(waiting.await.is_err() && keeper.flush().await.is_err() && keeper.end().await.is_err());
        assert!(keeper.keeps_up());
    }

    #[tokio::test]
    async fn after_a_failure_nothing_is_written_and_all_are_told() {
        let keeper = Keeper::start(Box::new(Failing(1))).expect("a thread");
        let settle = || vec![Write::Settle { message_id: "1".into() }];
        let write = || {
            let (done, waiting) = oneshot::channel();
            keeper.write(settle(), vec![done]);
            waiting
        };
        assert_eq!(write().await, Ok(Ok(())));
        assert_eq!(keeper.storage(), Storage::Durable);
        let full = StoreError("full".into());
        assert_eq!(write().await, Ok(Err(full.clone())));
        assert_eq!(write().await, Ok(Err(full.clone())));
        assert_eq!(keeper.storage(), Storage::Failed(full));
    }
}
