//! What was delivered for one subscription and its app has not taken yet.

use super::Event;
use anabranch_protocol::cursor::{Cursor, Position};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Messages that wait for the app before the client stops reading.
pub(crate) const MESSAGES: usize = 1_024;
/// Bytes of messages that wait for the app before the client stops reading.
pub(crate) const BYTES: usize = 4 * 1024 * 1024;

/// Bounded not by refusing, but by its flag: the driver reads no further frame while a queue is full.
#[derive(Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    items: VecDeque<Item>,
    /// So many of them the app may take: an event is not shown before the cursor that covers it is here.
    shown: usize,
    messages: usize,
    bytes: usize,
    /// Set at the bound, cleared at half of it: between them, reading does not stutter.
    full: bool,
    /// What the app sees as its cursor: it covers every event that was followed by a request for the next one.
    cursor: Option<Cursor>,
    /// The message that the app has and is not known to be done with.
    taken: Option<Position>,
    /// Whether a message moves the cursor by itself: not where another history may have begun, nor among the values of a snapshot, until
    /// the next cursor.
    exact: bool,
    ended: bool,
    waker: Option<Waker>,
}

enum Item {
    Event(Event),
    /// Covers the events before it.
    Cursor(Cursor),
}

/// The bytes of a message; other events count nothing.
fn size(event: &Event) -> Option<usize> {
    match event {
        Event::Message(message) => Some(message.bytes()),
        Event::Transient(message) => Some(message.bytes()),
        _ => None,
    }
}

impl Queue {
    pub(crate) fn starting_at(cursor: Option<Cursor>) -> Queue {
        Queue { inner: Mutex::new(Inner { cursor, ..Inner::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event, to be shown with the cursor that covers it; says whether the queue is full now.
    pub(crate) fn push(&self, event: Event) -> bool {
        let mut inner = self.lock();
        if let Some(bytes) = size(&event) {
            inner.messages += 1;
            inner.bytes += bytes;
        }
        inner.ended |= matches!(event, Event::Closed(_));
        inner.items.push_back(Item::Event(event));
        inner.full |= inner.messages >= MESSAGES || inner.bytes >= BYTES;
        inner.full
    }

    /// Moves the cursor over everything pushed so far.
    pub(crate) fn push_cursor(&self, cursor: Cursor) {
        let mut inner = self.lock();
        if let Some(Item::Cursor(last)) = inner.items.back_mut() {
            *last = cursor;
        } else {
            inner.items.push_back(Item::Cursor(cursor));
        }
    }

    /// Shows everything pushed so far. An app that waits for the next event has handled all before: its cursor may move at once.
    pub(crate) fn show(&self) {
        let mut inner = self.lock();
        inner.shown = inner.items.len();
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The app has ended the subscription: nothing waits for it, and it holds up nobody. The cursor stays where the app was.
    pub(crate) fn abandon(&self) {
        let mut inner = self.lock();
        let (cursor, waker) = (inner.cursor.take(), inner.waker.take());
        *inner = Inner { ended: true, cursor, ..Inner::default() };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.lock().full
    }

    pub(crate) fn cursor(&self) -> Option<Cursor> {
        self.lock().cursor.clone()
    }

    /// Moves the app's cursor over what it has been given, since it asks for more; where that is.
    pub(crate) fn settle(&self) -> Option<Cursor> {
        let mut inner = self.lock();
        inner.settle();
        inner.cursor.clone()
    }

    /// The next event, and whether the queue has just stopped being full.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> (Poll<Option<Event>>, bool) {
        let mut inner = self.lock();
        inner.settle();
        let Some(event) = inner.next_event() else {
            if inner.ended && inner.items.is_empty() {
                return (Poll::Ready(None), false);
            }
            inner.waker = Some(context.waker().clone());
            return (Poll::Pending, false);
        };
        let mut relieved = false;
        if let Some(bytes) = size(&event) {
            inner.messages -= 1;
            inner.bytes -= bytes;
            relieved = inner.full && inner.messages <= MESSAGES / 2 && inner.bytes <= BYTES / 2;
            inner.full &= !relieved;
        }
        match &event {
            Event::Message(message) if !message.is_snapshot() => inner.taken = Some(message.position()),
            Event::Message(_) | Event::Transient(_) | Event::Live => {}
            _ => inner.exact = false,
        }
        (Poll::Ready(Some(event)), relieved)
    }
}

impl Inner {
    fn settle(&mut self) {
        if let (Some(position), true, Some(cursor)) = (self.taken.take(), self.exact, &mut self.cursor) {
            cursor.advance(position);
        }
        while self.shown > 0 && matches!(self.items.front(), Some(Item::Cursor(_))) {
            if let Some(Item::Cursor(cursor)) = self.items.pop_front() {
                self.cursor = Some(cursor);
                self.exact = true;
            }
            self.shown -= 1;
        }
    }

    /// The first item, which is no cursor after [`settle`](Inner::settle), if the app may see it.
    fn next_event(&mut self) -> Option<Event> {
        if self.shown == 0 {
            return None;
        }
        self.shown -= 1;
        match self.items.pop_front()? {
            Item::Event(event) => Some(event),
            Item::Cursor(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch_protocol::cursor::{LogId, Offset};

    /// An app that takes an event and asks for the next has a cursor that covers the first, however the two threads meet.
    #[test]
    fn an_event_is_not_shown_before_its_cursor() {
        let queue = Queue::starting_at(None);
        let mut context = Context::from_waker(Waker::noop());
        queue.push(Event::Live);
        assert!(queue.poll(&mut context).0.is_pending());
        queue.push_cursor(Cursor::beginning(LogId(7)));
        assert!(queue.poll(&mut context).0.is_pending() && queue.cursor().is_none());
        queue.show();
        assert!(matches!(queue.poll(&mut context).0, Poll::Ready(Some(Event::Live))));
        queue.push(Event::Live);
        assert!(queue.poll(&mut context).0.is_pending(), "the next one is not shown");
        assert_eq!(queue.cursor(), Some(Cursor::beginning(LogId(7))));
    }

    /// What arrives together is covered message by message; not where another history may begin.
    #[test]
    fn the_cursor_covers_each_message_by_itself() {
        let at = |offset| Position { partition: 0, offset: Offset(offset), fingerprint: None };
        let push = |queue: &Queue, offset| {
            let envelope = r#"{"metadata":{"messageId":"m","topic":"a"},"payload":1}"#.into();
            let message = crate::message::Message::new(envelope, at(offset), Default::default());
            queue.push(Event::Message(message.expect("a message")));
        };
        let stands =
            |queue: &Queue| queue.settle().and_then(|cursor| cursor.position(0)).map(|at| at.offset.0);
        let queue = Queue::starting_at(Some(Cursor::beginning(LogId(7))));
        let mut context = Context::from_waker(Waker::noop());
        queue.push_cursor(Cursor::beginning(LogId(7)));
        (1..=3).for_each(|offset| push(&queue, offset));
        queue.push(Event::Subscribed(anabranch_protocol::server_frame::Outcome::Resumed));
        push(&queue, 1);
        queue.show();
        let mut places = Vec::new();
        while queue.poll(&mut context).0.is_ready() {
            places.push(stands(&queue));
        }
        assert_eq!(places, [Some(1), Some(2), Some(3), Some(3), Some(3)]);
    }
}
