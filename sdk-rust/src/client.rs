//! The handle that apps hold.

use crate::builder::ClientBuilder;
use crate::error::WaitError;
use crate::keeper::Storage;
use crate::message::Message;
use crate::publish::Publish;
use crate::shadow::OpenShadow;
use crate::shared::Shared;
use crate::subscription::Subscribe;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::topic::NameError;
use anabranch_sdk_core::store::StoreError;
use anabranch_sdk_core::{Phase, State};
use futures_util::{Stream, stream};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A client of one gateway. Cheap to clone; all clones are the same client.
///
/// It ends with [`close`](Client::close), or when the last clone and the last subscription are dropped.
///
/// ```
/// # anabranch_gateway::testing::example(async |url, token| {
/// use anabranch::{Client, Phase};
/// use std::time::Duration;
///
/// let client = Client::builder(url).token(token).client_id("hall-3").build()?;
/// assert_eq!(client.state().phase, Phase::Idle);
/// client.connect();
/// client.wait_live(Duration::from_secs(5)).await?;
/// client.pause("battery");
/// assert_eq!(client.state().phase, Phase::Paused);
/// client.close().await;
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    handle: Arc<Handle>,
}

/// What clones and subscriptions hold together. Its end is the client's.
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shared.client_id())
    }
}

impl Client {
    /// Begins to describe a client. `url` is `ws://host:port` or `wss://host`; without a path, `/v1/ws` is meant.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Client {
        Client { handle: Arc::new(Handle { shared }) }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Asks for a connection and keeps it up from here on. Returns at once; does nothing if it was asked for already.
    /// After [`Phase::NeedsAuth`], or a [`Phase::Closed`] that the gateway caused, it tries again.
    pub fn connect(&self) {
        self.shared().command(|machine, now| machine.connect(now));
    }

    /// Gives the connection up until the next [`connect`](Client::connect). Subscriptions and unconfirmed publishes
    /// stay.
    pub fn disconnect(&self) {
        self.shared().command(|machine, now| machine.disconnect(now));
    }

    /// Adds a reason to be silent, such as `"background"`. While there is any, there is no connection. Nothing but
    /// [`resume`](Client::resume) with the same reason takes it away.
    pub fn pause(&self, reason: &str) {
        self.shared().command(|machine, now| machine.pause(now, reason));
    }

    /// Takes a reason away; with the last one gone, the connection comes back, if it is wanted.
    pub fn resume(&self, reason: &str) {
        self.shared().command(|machine, now| machine.resume(now, reason));
    }

    /// Whether nobody looks at the app, as when it is in the background: while hidden, everything may come up to a second later and
    /// together, state by its newest values. Nothing is lost.
    pub fn set_hidden(&self, hidden: bool) {
        self.shared().command(|machine, now| machine.hide(now, hidden));
    }

    /// Call when the device woke up or the network changed: the connection is probed and, unless an answer comes
    /// within 2 s, replaced. Sleep is also noticed without it, though later.
    pub fn wake(&self) {
        self.shared().command(|machine, now| machine.wake(now));
    }

    /// Ends everything, for good: subscriptions get [`Event::Closed`](crate::Event::Closed), unconfirmed publishes fail,
    /// token and memory are forgotten. Returns when the gateway was told, or after a second, and the store is closed: what it holds is there for the next client. Cancel safe.
    pub async fn close(&self) {
        self.end().await;
        // An error means that the store failed, which was said.
        let _ = self.shared().keeper.end().await;
    }

    async fn end(&self) {
        self.shared().close();
        let mut ended = self.shared().ended.subscribe();
        // An error means that the driver's side is gone, which is what we wait for.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Ends everything as [`close`](Client::close) does, and wipes the store: cursors, cache and outbox. What was never sent is lost.
    ///
    /// # Errors
    /// The store could not be wiped.
    pub async fn log_out(&self) -> Result<(), StoreError> {
        self.end().await;
        let wiped = self.shared().keeper.wipe().await;
        let _ = self.shared().keeper.end().await;
        wiped
    }

    /// Waits until the store has all that this client has told it. An app that is about to be stopped by its system pauses, and then flushes. Cancel safe.
    ///
    /// # Errors
    /// The store has failed, see [`storage`](Client::storage).
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.shared().keeper.flush().await
    }

    /// Where this client keeps what is to outlive it.
    pub fn storage(&self) -> Storage {
        self.shared().keeper.storage()
    }

    /// Forgets where the subscription that was [kept](Subscribe::keep_as) under this name stood: the next one begins on its own.
    pub fn forget(&self, name: &str) {
        self.shared().forget_place(name);
    }

    /// Where the connection stands now.
    pub fn state(&self) -> State {
        self.shared().lock().machine.state()
    }

    /// The state now, and each later one. States that follow each other faster than they are taken may be left out.
    ///
    /// ```
    /// # anabranch_gateway::testing::example(async |url, token| {
    /// # use anabranch::{Client, Phase};
    /// let client = Client::builder(url).token(token).build()?;
    /// client.connect();
    /// let mut states = client.states();
    /// while let Some(state) = states.next().await {
    ///     println!("{} since {}", state.phase.name(), state.since);
    ///     if state.phase == Phase::Live {
    ///         break;
    ///     }
    /// }
    /// # Ok(()) });
    /// ```
    pub fn states(&self) -> States {
        let receiver = self.shared().state.subscribe();
        let states = stream::unfold((receiver, true), |(mut receiver, first)| async move {
            if !first {
                receiver.changed().await.ok()?;
            }
            let state = receiver.borrow_and_update().clone();
            Some((state, (receiver, false)))
        });
        States { states: Box::pin(states) }
    }

    /// What went wrong last while connecting or asking for a token, for people. `None` while connected.
    pub fn last_failure(&self) -> Option<String> {
        self.shared().lock().last_failure.clone()
    }

    /// Waits until everything is here. Cancel safe.
    ///
    /// # Errors
    /// Time is up, or the client will not become live without the app.
    pub async fn wait_live(&self, timeout: Duration) -> Result<(), WaitError> {
        let mut receiver = self.shared().state.subscribe();
        let settled = |state: &State| matches!(state.phase, Phase::Live | Phase::NeedsAuth | Phase::Closed);
        let state = match self.shared().at_most(timeout, receiver.wait_for(settled)).await {
            Some(Ok(state)) => state.clone(),
            Some(Err(_)) | None => self.state(),
        };
        let last_failure = self.last_failure();
        match state.phase {
            Phase::Live => Ok(()),
            Phase::NeedsAuth => Err(WaitError::NeedsAuth { last_failure }),
            Phase::Closed => Err(WaitError::Closed { code: state.code, last_failure }),
            phase => Err(WaitError::TimedOut { phase, last_failure }),
        }
    }

    /// Begins to describe a subscription.
    pub fn subscribe(&self, filter: &str) -> Subscribe {
        Subscribe::new(self.handle.clone(), filter)
    }

    /// Begins to describe a message.
    pub fn publish(&self, topic: &str) -> Publish {
        Publish::new(self.handle.clone(), topic)
    }

    /// Begins to describe the shadow of a device: what it reports, what is desired of it, and what is pending. The gateway's shadow service
    /// must be on.
    pub fn shadow(&self, device: &str) -> OpenShadow {
        OpenShadow::new(self.clone(), device)
    }

    /// Begins to describe a read of the newest messages in memory: what subscriptions have brought, and what a store has kept of those that are
    /// [kept](Subscribe::keep_as). Never touches the network.
    ///
    /// ```
    /// # anabranch_gateway::testing::example(async |url, token| {
    /// # use anabranch::{Client, Start};
    /// # let client = Client::builder(url).token(token).build()?;
    /// # client.connect();
    /// client.publish("site/door").payload_text("\"open\"").send().await?;
    /// let mut doors = client.subscribe("site/+").from(Start::Earliest).open()?;
    /// doors.next_message().await;
    /// for message in client.cached("site/#").limit(10).read()? {
    ///     println!("last known: {} {}", message.topic(), message.payload_text());
    /// }
    /// # assert_eq!(client.cached("site/#").read()?.len(), 1);
    /// # Ok(()) });
    /// ```
    pub fn cached(&self, filter: &str) -> CachedRead {
        CachedRead { client: self.clone(), filter: filter.into(), limit: 100 }
    }
}

/// A read of the newest messages in memory.
#[derive(Clone, Debug)]
#[must_use = "the cache is read by read()"]
pub struct CachedRead {
    client: Client,
    filter: String,
    limit: usize,
}

impl CachedRead {
    /// At most so many, the newest ones. Without it, 100.
    pub fn limit(mut self, limit: usize) -> CachedRead {
        self.limit = limit;
        self
    }

    /// The messages that match, oldest first.
    ///
    /// # Errors
    /// The filter is not valid.
    pub fn read(self) -> Result<Vec<Message>, NameError> {
        let filter = Filter::new(&self.filter)?;
        let cached = self.client.shared().cached(&filter, self.limit);
        Ok(cached.into_iter().filter_map(|c| Message::new(c.envelope, c.position, c.about)).collect())
    }
}

/// A stream of states, see [`Client::states`].
pub struct States {
    states: Pin<Box<dyn Stream<Item = State> + Send>>,
}

impl States {
    /// The next state; `None` when the client has ended.
    pub async fn next(&mut self) -> Option<State> {
        std::future::poll_fn(|context| self.states.as_mut().poll_next(context)).await
    }
}

impl Stream for States {
    type Item = State;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<State>> {
        self.states.as_mut().poll_next(context)
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("States")
    }
}
