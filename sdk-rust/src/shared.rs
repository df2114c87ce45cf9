//! What the app's handles and the driver share: the state machine behind one lock.
//!
//! Handles call the machine directly, so that `connect` or `subscribe` take effect before they return; the driver alone
//! takes effects out. There is no channel between them that could grow.

use crate::error::{PublishError, SubscribeError};
use crate::keeper::{Done, Keeper, Storage};
use crate::publish::Published;
use crate::subscription::queue::Queue;
use crate::subscription::{Closed, Event, Snapshot, Start};
use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::filter::Filter;
use anabranch_sdk_core::cache::Cached;
use anabranch_sdk_core::outbox::Terms;
use anabranch_sdk_core::store::{Kept, Place, StoreError, Write};
use anabranch_sdk_core::{Machine, Now, State, Wish};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// The result of a publish, on its way to whoever waits for it.
pub(crate) type Confirm = oneshot::Sender<Result<Published, PublishError>>;
pub(crate) type Confirmed = oneshot::Receiver<Result<Published, PublishError>>;
/// Resolves when the store has it, or never will.
pub(crate) type Stored = oneshot::Receiver<Result<(), StoreError>>;

/// The message in which a patch travels.
pub(crate) enum Carrier {
    Own(Confirmed),
    /// An earlier one by the same author, whose id this is. Its end is told there.
    Earlier(String),
}

pub(crate) struct Shared {
    locked: Mutex<Locked>,
    /// Tells the driver that the machine has something to do.
    changed: Notify,
    pub(crate) state: watch::Sender<State>,
    /// Turns true when the driver has ended.
    pub(crate) ended: watch::Sender<bool>,
    pub(crate) keeper: Keeper,
    client_id: String,
    epoch: Instant,
    /// Where the client's tasks and timers live, whoever calls from wherever.
    runtime: Handle,
}

pub(crate) struct Locked {
    pub(crate) machine: Machine,
    pub(crate) queues: HashMap<SubscriptionId, Arc<Queue>>,
    pub(crate) confirms: HashMap<String, Confirm>,
    /// Kept publishes of which the store has not said yet that it has them, and whom to tell: of a merged one, several.
    pub(crate) enqueued: HashMap<String, Vec<Done>>,
    /// Whom to tell that a publish has left the client.
    pub(crate) sent: HashMap<String, oneshot::Sender<()>>,
    /// How far the app has come, by the names under which that is kept.
    places: HashMap<Box<str>, Place>,
    /// Names of subscriptions that are open.
    names: HashMap<Box<str>, SubscriptionId>,
    pub(crate) last_failure: Option<String>,
    next_id: SubscriptionId,
    closed: bool,
}

impl Locked {
    fn confirmed(&mut self, message_id: &str) -> Confirmed {
        let (confirm, confirmed) = oneshot::channel();
        self.confirms.insert(message_id.into(), confirm);
        confirmed
    }
}

impl Shared {
    pub(crate) fn new(
        machine: Machine,
        client_id: String,
        keeper: Keeper,
        kept: Kept,
        runtime: Handle,
    ) -> Shared {
        let places = kept.places.iter().cloned().collect();
        let shared = Shared {
            locked: Mutex::new(Locked {
                machine,
                queues: HashMap::new(),
                confirms: HashMap::new(),
                enqueued: HashMap::new(),
                sent: HashMap::new(),
                places,
                names: HashMap::new(),
                last_failure: None,
                next_id: 1,
                closed: false,
            }),
            changed: Notify::new(),
            state: watch::Sender::new(State::idle()),
            ended: watch::Sender::new(false),
            keeper,
            client_id,
            epoch: Instant::now(),
            runtime,
        };
        {
            let mut locked = shared.lock();
            if shared.keeper.storage() != Storage::Memory {
                locked.machine.restore(shared.now(), kept);
            }
        }
        shared
    }

    /// Never held across an await.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Now {
        let mono = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono, wall: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
    }

    /// The moment of the runtime's clock that a machine's moment means.
    pub(crate) fn instant(&self, mono: u64) -> Instant {
        self.epoch + Duration::from_millis(mono)
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Runs a task on the client's runtime.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(task)
    }

    /// Waits at most for so long, by the clock of the client's runtime: whoever waits may have none. `None` too if that runtime has
    /// ended, as its clock then may not be asked any more.
    pub(crate) async fn at_most<T>(&self, patience: Duration, waiting: impl Future<Output = T>) -> Option<T> {
        let timer = {
            let _here = self.runtime.enter();
            sleep(patience)
        };
        let mut ended = self.ended.subscribe();
        tokio::select! {
            biased;
            result = waiting => Some(result),
            _ = ended.wait_for(|ended| *ended) => None,
            () = timer => None,
        }
    }

    pub(crate) fn wake_driver(&self) {
        self.changed.notify_one();
    }

    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// One command to the machine.
    pub(crate) fn command(&self, command: impl FnOnce(&mut Machine, Now)) {
        let mut locked = self.lock();
        command(&mut locked.machine, self.now());
        self.tell_state(&locked);
        drop(locked);
        self.wake_driver();
    }

    /// Passes the machine's state on to those who watch it, if it changed.
    pub(crate) fn tell_state(&self, locked: &Locked) {
        let state = locked.machine.state();
        self.state.send_if_modified(|told| {
            let changed = *told != state;
            *told = state;
            changed
        });
    }

    pub(crate) fn close(&self) {
        let mut locked = self.lock();
        locked.closed = true;
        locked.machine.close(self.now());
        self.tell_state(&locked);
        drop(locked);
        self.wake_driver();
    }

    /// The driver has ended, whatever the reason: tells all who still wait.
    pub(crate) fn end(&self) {
        let mut locked = self.lock();
        locked.closed = true;
        locked.machine.close(self.now());
        while locked.machine.poll_effect().is_some() {}
        let queues: Vec<_> = locked.queues.drain().collect();
        locked.confirms.clear();
        locked.sent.clear();
        locked.enqueued.clear();
        self.tell_state(&locked);
        drop(locked);
        for (_, queue) in queues {
            queue.push(Event::Closed(Closed::Client));
            queue.show();
        }
        self.ended.send_replace(true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn subscribe(
        &self,
        filter: &str,
        start: Start,
        snapshot: Snapshot,
        conflate_ms: u64,
        name: Option<&str>,
    ) -> Result<(SubscriptionId, Arc<Queue>), SubscribeError> {
        let mut locked = self.lock();
        if locked.closed {
            return Err(SubscribeError::Closed);
        }
        if let Some(name) = name.filter(|name| locked.names.contains_key(*name)) {
            return Err(SubscribeError::NameInUse(name.to_owned()));
        }
        let place =
            name.and_then(|name| locked.places.get(name)).filter(|place| place.filter.as_str() == filter);
        let start = place.map_or(start, |place| Start::After(place.cursor.clone()));
        let id = locked.next_id;
        let cursor = match &start {
            Start::After(cursor) => Some(cursor.clone()),
            _ => None,
        };
        let wish = Wish { snapshot: snapshot.into(), conflate_ms };
        locked.machine.subscribe(self.now(), id, filter, start.into(), wish)?;
        locked.next_id = locked.next_id.wrapping_add(1);
        if let Some(name) = name {
            locked.names.insert(name.into(), id);
            locked.machine.keep_messages(id);
        }
        let queue = Arc::new(Queue::starting_at(cursor));
        locked.queues.insert(id, queue.clone());
        drop(locked);
        self.wake_driver();
        Ok((id, queue))
    }

    /// Ends a subscription; nothing if it has ended.
    pub(crate) fn unsubscribe(&self, id: SubscriptionId) {
        let mut locked = self.lock();
        locked.names.retain(|_, whose| *whose != id);
        if let Some(queue) = locked.queues.remove(&id) {
            queue.abandon();
            locked.machine.unsubscribe(self.now(), id);
        }
        drop(locked);
        self.wake_driver();
    }

    pub(crate) fn publish(
        &self,
        message_id: &str,
        envelope: &str,
        terms: Terms,
    ) -> Result<Confirmed, PublishError> {
        let mut locked = self.lock();
        let confirmed = self.push(&mut locked, message_id, envelope, terms)?;
        drop(locked);
        self.wake_driver();
        Ok(confirmed)
    }

    fn push(
        &self,
        locked: &mut Locked,
        message_id: &str,
        envelope: &str,
        terms: Terms,
    ) -> Result<Confirmed, PublishError> {
        locked.machine.publish_on(self.now(), message_id, envelope, terms)?;
        Ok(locked.confirmed(message_id))
    }

    /// As [`publish`](Shared::publish), and when the store has it.
    pub(crate) fn enqueue(
        &self,
        message_id: &str,
        envelope: &str,
        terms: Terms,
    ) -> Result<(Confirmed, Stored), PublishError> {
        let mut locked = self.lock();
        let confirmed = self.push(&mut locked, message_id, envelope, terms)?;
        let stored = self.stored(&mut locked, message_id);
        drop(locked);
        self.wake_driver();
        Ok((confirmed, stored))
    }

    /// The same, of a merge patch by this author, which may become part of their last one.
    pub(crate) fn enqueue_patch(
        &self,
        message_id: &str,
        envelope: &str,
        terms: Terms,
        author: u32,
    ) -> Result<(Carrier, Stored), PublishError> {
        let mut locked = self.lock();
        let merged = locked.machine.publish_patch(self.now(), message_id, envelope, terms, author)?;
        let carrier = match merged {
            Some(earlier) => Carrier::Earlier(earlier.message_id.into()),
            None => Carrier::Own(locked.confirmed(message_id)),
        };
        let stored =
            self.stored(&mut locked, if let Carrier::Earlier(id) = &carrier { id } else { message_id });
        drop(locked);
        self.wake_driver();
        Ok((carrier, stored))
    }

    fn stored(&self, locked: &mut Locked, message_id: &str) -> Stored {
        let (done, stored) = oneshot::channel();
        match self.keeper.storage() {
            Storage::Memory => _ = done.send(Ok(())),
            Storage::Durable | Storage::Failed(_) => {
                locked.enqueued.entry(message_id.to_owned()).or_default().push(done);
            }
        }
        stored
    }

    /// As [`publish`](Shared::publish), and tells when the message has left the client.
    pub(crate) fn publish_and_tell(
        &self,
        message_id: &str,
        envelope: &str,
        terms: Terms,
    ) -> Result<(Confirmed, oneshot::Receiver<()>), PublishError> {
        let mut locked = self.lock();
        // Before the machine may say so.
        let (tell, sent) = oneshot::channel();
        let confirmed = self.push(&mut locked, message_id, envelope, terms)?;
        locked.sent.insert(message_id.into(), tell);
        drop(locked);
        self.wake_driver();
        Ok((confirmed, sent))
    }

    pub(crate) fn withdraw(&self, message_id: &str) -> bool {
        let mut gone = false;
        self.command(|machine, now| gone = machine.withdraw(now, message_id));
        if gone {
            let mut locked = self.lock();
            locked.sent.remove(message_id);
            if let Some(waiting) = locked.confirms.remove(message_id) {
                // Whoever asked may have given up waiting.
                let _ = waiting.send(Err(PublishError::Withdrawn { message_id: message_id.to_owned() }));
            }
        }
        gone
    }

    /// The app has come so far with the subscription of this name. Told when the store has it.
    pub(crate) fn come_to(
        &self,
        name: &str,
        filter: &Filter,
        cursor: Cursor,
    ) -> oneshot::Receiver<Result<(), StoreError>> {
        let place = Place { filter: filter.clone(), cursor };
        self.lock().places.insert(name.into(), place.clone());
        let (done, kept) = oneshot::channel();
        self.keeper.write(vec![Write::Cursor { name: name.into(), place: Some(place) }], vec![done]);
        kept
    }

    pub(crate) fn forget_place(&self, name: &str) {
        if self.lock().places.remove(name).is_some() {
            self.keeper.write(vec![Write::Cursor { name: name.into(), place: None }], Vec::new());
        }
    }

    pub(crate) fn cached(&self, filter: &Filter, limit: usize) -> Vec<Cached> {
        self.lock().machine.cached(filter, limit)
    }
}
