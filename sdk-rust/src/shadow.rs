//! The shadow of a device: a live view, changes that show at once and settle later, deltas as a stream.

mod change;
mod view;
mod watch;

pub use anabranch_sdk_core::shadow::{Delta, Document, Stage};
pub use change::{Change, Settled};
pub use view::View;

use crate::client::Client;
use crate::error::{PublishError, SubscribeError};
use crate::publish::Published;
use crate::shared::Carrier;
use anabranch_protocol::topic::Topic;
use anabranch_sdk_core::{PublishRefused, shadow as core};
use futures_util::Stream;
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;
use tokio::sync::{Notify, oneshot, watch as channel};
use tokio::task::JoinHandle;

/// A shadow about to be opened. Does nothing until [`open`](OpenShadow::open).
#[derive(Debug)]
#[must_use = "a shadow is opened by open()"]
pub struct OpenShadow {
    client: Client,
    device: String,
    root: String,
}

/// A device's shadow. Dropping it ends the watching; changes that were made are published all the same.
///
/// ```
/// # anabranch_gateway::testing::example(async |url, token| {
/// # use anabranch::{Client, shadow::Settled};
/// # use serde_json::{Value, json};
/// # use std::time::Duration;
/// # let client = Client::builder(url).token(token).build()?;
/// # client.connect();
/// let shadow = client.shadow("d1").open()?;
/// shadow.ready().await;                                // known: from memory, the store or the gateway
/// let mut change = shadow.set_desired(&json!({ "fan": { "rpm": 1200 } })).await?;
/// let view = shadow.view();                            // shows it already
/// assert_eq!(view.desired::<Value>()?["fan"]["rpm"], 1200);
/// println!("{:?}", view.pending("/fan/rpm"));          // queued, sent, accepted or rejected
///
/// shadow.report(&json!({ "fan": { "rpm": 1200 } })).await?;   // what the device says, elsewhere
/// let settled = change.settled(Duration::from_secs(30)).await;
/// assert!(matches!(settled, Settled::Applied { .. }));
/// # Ok(()) });
/// ```
pub struct Shadow {
    shared: Arc<Inner>,
    client: Client,
    topics: Topics,
    /// Whose changes become one message: those of this handle, and nobody else's.
    author: u32,
    watching: JoinHandle<()>,
}

/// Of this process. 0 is nobody.
static AUTHORS: AtomicU32 = AtomicU32::new(1);

#[derive(Clone, Debug)]
struct Topics {
    /// `{root}/devices/{id}/shadow/`.
    prefix: String,
}

impl Topics {
    fn leaf(&self, leaf: &str) -> String {
        format!("{}{leaf}", self.prefix)
    }
}

/// What the handle, its changes and the watching task share.
struct Inner {
    state: Mutex<State>,
    changed: channel::Sender<u64>,
    /// The answer to a change may be lost: the gateway is to be asked.
    doubt: Notify,
}

#[derive(Default)]
struct State {
    core: core::Shadow,
    /// Whether the document is the newest there is, as far as the connection tells.
    live: bool,
    /// When that was so last.
    as_of: Option<SystemTime>,
    /// Whether a document was seen, or that there is none.
    known: bool,
    /// Whether the snapshot under way has named the document.
    seen: bool,
    closed: Option<crate::Closed>,
    settling: HashMap<String, oneshot::Sender<Settled>>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, tells those whose changes have settled, and everybody that something is new.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        for (id, outcome) in state.core.settle() {
            if let Some(waiting) = state.settling.remove(&id) {
                // Nobody need wait.
                let _ = waiting.send(outcome.into());
            }
        }
        if state.live {
            state.as_of = Some(SystemTime::now());
        }
        drop(state);
        self.changed.send_modify(|count| *count += 1);
        result
    }
}

impl OpenShadow {
    pub(crate) fn new(client: Client, device: &str) -> OpenShadow {
        OpenShadow { client, device: device.to_owned(), root: "iotsphere".to_owned() }
    }

    /// What the platform's topics begin with; without it, `iotsphere`.
    pub fn root(mut self, root: impl Into<String>) -> OpenShadow {
        self.root = root.into();
        self
    }

    /// Opens it. What the client's memory or store has shows at once, and so do changes that wait in the outbox, those of an earlier run included.
    ///
    /// # Errors
    /// The device's name makes no topic, or the client is closed. A refusal by the gateway shows in [`View::closed`].
    pub fn open(self) -> Result<Shadow, SubscribeError> {
        let topics = Topics { prefix: format!("{}/devices/{}/shadow/", self.root, self.device) };
        // One device: a wildcard would mix many in one view.
        Topic::new(&topics.leaf("document"))?;
        let shared = Arc::new(Inner {
            state: Mutex::default(),
            changed: channel::Sender::new(0),
            doubt: Notify::new(),
        });
        let watch = watch::Watch::new(&self.client, &topics, &shared)?;
        watch.recall();
        let watching = self.client.shared().spawn(watch.run());
        let author = AUTHORS.fetch_add(1, Ordering::Relaxed);
        Ok(Shadow { shared, client: self.client, topics, author, watching })
    }
}

impl Shadow {
    /// How it is now. Cheap enough to ask for each frame.
    pub fn view(&self) -> View {
        View::of(&self.shared.lock())
    }

    /// Waits until it is known what the shadow is, or that there is none. Cancel safe.
    pub async fn ready(&self) -> View {
        let mut changed = self.shared.changed.subscribe();
        let known = |_: &u64| {
            let state = self.shared.lock();
            state.known || state.closed.is_some()
        };
        // The sender is in `self`.
        let _ = changed.wait_for(known).await;
        self.view()
    }

    /// The view now, and each later one. Views that follow each other faster than they are taken are left out.
    ///
    /// ```
    /// # anabranch_gateway::testing::example(async |url, token| {
    /// # let client = anabranch::Client::builder(url).token(token).build()?;
    /// # client.connect();
    /// # let shadow = client.shadow("d1").open()?;
    /// # shadow.report(&serde_json::json!({ "on": true })).await?;
    /// let mut views = shadow.views();
    /// while let Some(view) = views.next().await {
    ///     println!("{} (live: {})", view.reported_text(), view.is_live());
    /// #   if view.version() > 0 { break }
    /// }
    /// # Ok(()) });
    /// ```
    pub fn views(&self) -> Views {
        let shared = Arc::downgrade(&self.shared);
        let receiver = self.shared.changed.subscribe();
        let views = futures_util::stream::unfold((receiver, true), move |(mut receiver, first)| {
            let shared = shared.clone();
            async move {
                if !first {
                    receiver.changed().await.ok()?;
                }
                receiver.borrow_and_update();
                let view = View::of(&shared.upgrade()?.lock());
                Some((view, (receiver, false)))
            }
        });
        Views(Box::pin(views))
    }

    /// What changes in the truth from now on, each as merge patches upon the version that this stream gave last: none is ever missing. Several versions
    /// may be one delta.
    ///
    /// ```
    /// # anabranch_gateway::testing::example(async |url, token| {
    /// # let client = anabranch::Client::builder(url).token(token).build()?;
    /// # client.connect();
    /// # let shadow = client.shadow("d1").open()?;
    /// shadow.ready().await;
    /// let mut deltas = shadow.deltas();
    /// shadow.report(&serde_json::json!({ "on": true })).await?;
    /// let delta = deltas.next().await.expect("a delta");
    /// assert_eq!(delta.reported.as_deref(), Some(r#"{"on":true}"#));
    /// # Ok(()) });
    /// ```
    pub fn deltas(&self) -> Deltas {
        let shared = Arc::downgrade(&self.shared);
        let (document, receiver) = {
            let state = self.shared.lock();
            (state.core.document().cloned(), self.shared.changed.subscribe())
        };
        let deltas = futures_util::stream::unfold((receiver, document), move |(mut receiver, mut before)| {
            let shared = shared.clone();
            async move {
                loop {
                    receiver.changed().await.ok()?;
                    let now = shared.upgrade()?.lock().core.document().cloned();
                    let delta = Delta::between(before.as_ref(), now.as_ref());
                    before = now;
                    if let Some(delta) = delta {
                        return Some((delta, (receiver, before)));
                    }
                }
            }
        });
        Deltas(Box::pin(deltas))
    }

    /// Changes what is desired by a merge patch: fields that are `null` are removed. It shows in the view at once. Returns when the client's store has it
    /// (without a store, at once): from then on it is sent whatever happens.
    ///
    /// A change that was not sent yet takes the next one up, where one patch can do what both do: then one message carries both, and its id is that
    /// of the first. Each is told its own end; a refusal is one of both.
    ///
    /// # Errors
    /// See [`PublishError`]. The value must be a JSON object.
    pub async fn set_desired<T: Serialize + ?Sized>(&self, patch: &T) -> Result<Change, PublishError> {
        let patch = serde_json::to_string(patch)?;
        let id = uuid::Uuid::new_v4().to_string();
        let (settle, settled) = oneshot::channel();
        let publish = self.client.publish(&self.topics.leaf("desired")).payload_text(&*patch).message_id(&id);
        // Under one lock: no answer comes before it is known which message carries the change.
        let (carrier, stored) = self.shared.change(|state| {
            state.core.set(&id, &patch).map_err(|_| PublishRefused::NotJson)?;
            state.settling.insert(id.clone(), settle);
            let queued = publish.complete(true).and_then(|(handle, id, envelope, terms)| {
                handle.shared().enqueue_patch(&id, &envelope, terms, self.author)
            });
            match &queued {
                Ok((Carrier::Earlier(earlier), _)) => state.core.merged(&id, earlier),
                Ok((Carrier::Own(_), _)) => {}
                Err(error) => state.core.rejected(&id, error.code(), &error.to_string()),
            }
            queued
        })?;
        let id = match carrier {
            Carrier::Own(confirmed) => {
                let (client, shared) = (self.client.clone(), Arc::downgrade(&self.shared));
                self.client.shared().spawn(change::follow(id.clone(), confirmed, client, shared));
                id
            }
            Carrier::Earlier(earlier) => earlier,
        };
        crate::publish::stored(&id, stored).await?;
        Ok(Change::new(id, self.client.clone(), settled))
    }

    /// For devices: says what is so, by a merge patch of the reported state. Waits for the log's confirm.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn report<T: Serialize + ?Sized>(&self, patch: &T) -> Result<Published, PublishError> {
        self.client.publish(&self.topics.leaf("reported")).json(patch)?.send().await
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shadow").field(&self.topics.prefix).finish()
    }
}

/// A stream of views, see [`Shadow::views`].
pub struct Views(Pin<Box<dyn Stream<Item = View> + Send>>);

/// A stream of deltas, see [`Shadow::deltas`].
pub struct Deltas(Pin<Box<dyn Stream<Item = Delta> + Send>>);

impl Views {
    /// The next view; `None` when the shadow was dropped.
    pub async fn next(&mut self) -> Option<View> {
        std::future::poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Deltas {
    /// The next delta; `None` when the shadow was dropped.
    pub async fn next(&mut self) -> Option<Delta> {
        std::future::poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Stream for Views {
    type Item = View;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<View>> {
        self.0.as_mut().poll_next(context)
    }
}

impl Stream for Deltas {
    type Item = Delta;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delta>> {
        self.0.as_mut().poll_next(context)
    }
}
