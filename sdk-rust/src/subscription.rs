//! A subscription: a stream of events, and a cursor from which it can be taken up again.

mod handle;
mod keeping;
pub(crate) mod queue;

pub use handle::SubscriptionHandle;

use crate::client::Handle;
use crate::error::SubscribeError;
use crate::message::{Message, Transient};
use anabranch_protocol::client_frame::{SnapshotMode, SubscriptionId};
use anabranch_protocol::code::{Code, Remedy};
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Gap, Outcome};
use anabranch_sdk_core as core;
use futures_util::Stream;
use keeping::Keeping;
use queue::Queue;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Where the delivery of a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Start {
    /// With the next message.
    #[default]
    Now,
    /// With the oldest message that the log still has.
    Earliest,
    /// With the messages of the last so long.
    Since(Duration),
    /// After a cursor from [`Subscription::cursor`], perhaps of an earlier run.
    After(Cursor),
}

impl From<Start> for core::Start {
    fn from(start: Start) -> core::Start {
        match start {
            Start::Now => core::Start::Now,
            Start::Earliest => core::Start::Earliest,
            // The wire's numbers end at 2^53.
            Start::Since(ago) => {
                core::Start::Since(u64::try_from(ago.as_millis()).map_or(1 << 53, |ms| ms.min(1 << 53)))
            }
            Start::After(cursor) => core::Start::After(cursor),
        }
    }
}

/// Which newest values of its state topics a subscription begins with. Topics of events and commands have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Snapshot {
    /// None: what was published before [`Start::Now`] does not come.
    None,
    /// Every value, if it begins with [`Start::Now`]; with [`Start::After`], the values that have changed since.
    IfNew,
    /// Every value, whatever the start.
    Always,
}

impl From<Snapshot> for SnapshotMode {
    fn from(snapshot: Snapshot) -> SnapshotMode {
        match snapshot {
            Snapshot::None => SnapshotMode::None,
            Snapshot::IfNew => SnapshotMode::IfNew,
            Snapshot::Always => SnapshotMode::Always,
        }
    }
}

/// What happens on a subscription, in order.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The gateway begins the delivery, or takes it up after a reconnect.
    Subscribed(Outcome),
    /// One message. Each comes once, in the order of the log.
    Message(Message),
    /// One message that no log keeps. Who was not there has missed it, and so has an app that is too slow.
    Transient(Transient),
    /// Messages may be missing here. Always comes before the next message.
    Gap(Gap),
    /// Every value that the filter's state topics have comes from here on, among other messages, until
    /// [`Event::SnapshotEnds`]. Topics that do not come until then have no value: forget them at the end. After a reconnect
    /// it goes on where it stood; if that cannot be, it begins again with this event.
    SnapshotBegins,
    /// The snapshot is whole as of here. `complete` unless the gateway does not know every value: what did not come may
    /// have one all the same.
    SnapshotEnds {
        /// Whether the gateway knew every value.
        complete: bool,
    },
    /// Everything up to the newest message has been delivered; what follows comes as it happens.
    Live,
    /// The end: nothing follows.
    Closed(Closed),
}

/// Why a subscription ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The gateway will not deliver it: not granted, or not possible.
    Refused {
        /// Why; its [remedy](Code::remedy) is what to do.
        code: Code,
        /// What happened, for people.
        message: String,
    },
    /// A narrower token ended it.
    Revoked {
        /// Why.
        code: Code,
    },
    /// The client was closed.
    Client,
}

impl Closed {
    /// Whether the same subscription may work later, as it is.
    pub fn is_retryable(&self) -> bool {
        match self {
            Closed::Refused { code, .. } | Closed::Revoked { code } => code.remedy() == Remedy::Retry,
            Closed::Client => false,
        }
    }
}

/// A subscription about to be opened. Does nothing until [`open`](Subscribe::open).
///
/// ```
/// # anabranch_gateway::testing::example(async |url, token| {
/// # use anabranch::{Client, Event, Snapshot, Start};
/// # let client = Client::builder(url).token(token).build()?;
/// # client.connect();
/// # client.publish("iotsphere/devices/d1/telemetry/status").payload_text("1").send().await?;
/// let mut halls = client
///     .subscribe("iotsphere/devices/+/telemetry/status")
///     .from(Start::Now)
///     .snapshot(Snapshot::Always)                      // the newest value of each comes first
///     .max_hz(2.0)
///     .open()?;
/// while let Some(event) = halls.next_event().await {
///     match event {
///         Event::Message(message) => println!("{} {}", message.topic(), message.payload_text()),
///         Event::SnapshotEnds { complete } => {        // what did not come has no value
///             println!("that is {}", if complete { "all" } else { "what the gateway knows" });
///             break;
///         }
///         _ => {}
///     }
/// }
/// # Ok(()) });
/// ```
#[derive(Debug)]
#[must_use = "a subscription is opened by open()"]
pub struct Subscribe {
    handle: Arc<Handle>,
    filter: String,
    start: Start,
    snapshot: Option<Snapshot>,
    name: Option<String>,
    conflate_ms: u64,
}

impl Subscribe {
    pub(crate) fn new(handle: Arc<Handle>, filter: &str) -> Subscribe {
        Subscribe {
            handle,
            filter: filter.into(),
            start: Start::Now,
            snapshot: None,
            conflate_ms: 0,
            name: None,
        }
    }

    /// Where to begin; without it, [`Start::Now`].
    pub fn from(mut self, start: Start) -> Subscribe {
        self.start = start;
        self
    }

    /// Which newest values of state topics to begin with. Without it, [`Snapshot::IfNew`], and with [`Start::Earliest`] or
    /// [`Start::Since`], which ask for the past as it was, [`Snapshot::None`].
    pub fn snapshot(mut self, snapshot: Snapshot) -> Subscribe {
        self.snapshot = Some(snapshot);
        self
    }

    /// Keeps the place and the newest messages of this subscription under a name, in the client's store. A subscription of the same name and filter
    /// begins where the app stood, whatever [`from`](Subscribe::from) says; what it has seen is in [`Client::cached`](crate::Client::cached).
    ///
    /// The place is written when the app asks for the next event, before it gets it. So a crash repeats at most the one event that the app had and
    /// was not done with. State comes whole again, unless [`snapshot`](Subscribe::snapshot) says otherwise.
    pub fn keep_as(mut self, name: impl Into<String>) -> Subscribe {
        self.name = Some(name.into());
        self
    }

    /// State topics are told at most so many times a second, by their newest values; [`Subscription::set_max_hz`] changes it.
    pub fn max_hz(mut self, hz: f64) -> Subscribe {
        self.conflate_ms = period_ms(hz);
        self
    }

    /// Opens it. The gateway is told as soon as there is a connection.
    ///
    /// # Errors
    /// The filter is not valid, or the client is closed. A refusal by the gateway arrives as [`Event::Closed`].
    pub fn open(self) -> Result<Subscription, SubscribeError> {
        let snapshot = self.snapshot.unwrap_or(match self.start {
            _ if self.name.is_some() => Snapshot::Always,
            Start::Now | Start::After(_) => Snapshot::IfNew,
            Start::Earliest | Start::Since(_) => Snapshot::None,
        });
        let filter = Filter::new(&self.filter)?;
        let name = self.name.as_deref();
        let (id, queue) =
            self.handle.shared().subscribe(&self.filter, self.start, snapshot, self.conflate_ms, name)?;
        let keeping = self.name.map(|name| Keeping::new(name, filter, queue.cursor()));
        Ok(Subscription { handle: self.handle, id, queue, keeping })
    }
}

/// A stream of [`Event`]s. Dropping it unsubscribes.
///
/// One at a time takes events; whoever else has to do with it (to ask for the cursor, to end it) uses its [handle](Subscription::handle).
///
/// # A slow app
/// At most 1,024 messages or 4 MiB wait for the app. With more, the client stops reading from the network, and TCP stops the
/// gateway; nothing is lost. Since that stops the client's other subscriptions too, after a second the full
/// subscription is parked: the gateway is told to stop delivering it, and to go on from its cursor when the app has
/// taken half of what waits. State topics then arrive conflated, and if the log has forgotten something meanwhile, as
/// a [`Event::Gap`].
pub struct Subscription {
    handle: Arc<Handle>,
    id: SubscriptionId,
    queue: Arc<Queue>,
    keeping: Option<Keeping>,
}

impl Subscription {
    /// The next event; `None` after [`Event::Closed`]. Cancel safe: an event is taken only when it is returned.
    pub async fn next_event(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll_event(context)).await
    }

    /// The same as [`next_event`](Subscription::next_event), in the words of streams.
    pub async fn next(&mut self) -> Option<Event> {
        self.next_event().await
    }

    /// The next message, with all other events left out; `None` at the end. For those who do not care about gaps.
    pub async fn next_message(&mut self) -> Option<Message> {
        loop {
            if let Event::Message(message) = self.next_event().await? {
                return Some(message);
            }
        }
    }

    /// From now on, state topics are told at most so many times a second, by their newest values: the last one always comes,
    /// within a period. Every event comes, and takes along what waits. The fastest of a client's subscriptions counts for
    /// those that are slower, too. 0, an infinite or no number: each value as it comes. Slower than once a minute counts
    /// as that.
    pub fn set_max_hz(&self, hz: f64) {
        self.handle().set_max_hz(hz);
    }

    /// What others than the one who takes events may do with it, also while that one waits.
    pub fn handle(&self) -> SubscriptionHandle {
        SubscriptionHandle::new(&self.handle, self.id, &self.queue)
    }

    /// Where the app stands: covers every event after which the next one was asked for. Store it together with what
    /// the messages changed, and begin with [`Start::After`] in the next run. `None` until the gateway has answered. While the values
    /// of a snapshot come that are older than it, it stays where it was, since the rest of them would not come again.
    pub fn cursor(&self) -> Option<Cursor> {
        self.queue.cursor()
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if let Some(keeping) = &mut self.keeping {
            ready!(keeping.poll(self.handle.shared(), &self.queue, context));
        }
        let (event, relieved) = self.queue.poll(context);
        if relieved {
            self.handle.shared().wake_driver();
        }
        Poll::Ready(ready!(event))
    }
}

/// How long one period of so many a second takes, in milliseconds; 0 where that means no bound.
fn period_ms(hz: f64) -> u64 {
    // A float's cast stops at the largest number.
    if hz.is_finite() && hz > 0.0 { (1000.0 / hz).ceil() as u64 } else { 0 }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll_event(context)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.handle.shared().unsubscribe(self.id);
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::period_ms;

    #[test]
    fn so_many_times_a_second_is_a_time() {
        for (hz, ms) in [(10.0, 100), (3.0, 334), (0.1, 10_000), (1e9, 1), (f64::MIN_POSITIVE, u64::MAX)] {
            assert_eq!(period_ms(hz), ms, "{hz}");
        }
        for unbounded in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(period_ms(unbounded), 0, "{unbounded}");
        }
    }
}
