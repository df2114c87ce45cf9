//! Several filters as one sequence: each message once, in the order of the log, with one cursor.

use anabranch::{
    Client, Closed, Cursor, Event, Gap, Message, Snapshot, Start, SubscribeError, Subscription, Transient,
};
use anabranch_protocol::cursor::{Offset, Position};
use anabranch_protocol::filter::Filter;
use futures_util::StreamExt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// What is to be shown.
#[derive(Debug)]
pub(super) enum Item {
    Message(Message),
    /// A message that no log keeps: it has no position, and no cursor covers it.
    Transient(Transient),
    Gap(Gap),
    /// Every filter has everything up to the newest message.
    Live,
    /// A filter will not be delivered, or no longer.
    Closed(Filter, Closed),
}

/// The subscriptions. A message that several filters match comes through the first of them.
pub(super) struct Merged {
    sources: Vec<Source>,
    last_gap: Option<Gap>,
    live: bool,
}

struct Source {
    filter: Filter,
    events: Subscription,
    /// The next event, which is not shown yet: the subscription's cursor stands before it.
    head: Option<Event>,
    live: bool,
    /// How often the gateway has agreed to deliver it: once on each connection.
    answers: u32,
    /// Whether the last gap that was shown came through this filter too.
    knows_gap: bool,
}

impl Merged {
    /// Opens a subscription for each filter that no other one covers.
    pub(super) fn open(client: &Client, filters: &[Filter], start: &Start) -> Result<Merged, SubscribeError> {
        let open = |filter: &Filter| -> Result<Source, SubscribeError> {
            let events =
                client.subscribe(filter.as_str()).from(start.clone()).snapshot(Snapshot::None).open()?;
            Ok(Source {
                filter: filter.clone(),
                events,
                head: None,
                live: false,
                answers: 0,
                knows_gap: false,
            })
        };
        let sources = without_covered(filters).into_iter().map(open).collect::<Result<Vec<Source>, _>>()?;
        Ok(Merged { sources, last_gap: None, live: false })
    }

    /// The next item; `None` at the end. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Item> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The next item, if there is one now. To be asked on until it says `None`, then [`next`](Merged::next) waits.
    pub(super) async fn now(&mut self) -> Option<Item> {
        std::future::poll_fn(|context| {
            Poll::Ready(match self.poll(context) {
                Poll::Ready(item) => item,
                Poll::Pending => None,
            })
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            let ended = self.fill(context);
            match self.take_first() {
                Some(Some(item)) => return Poll::Ready(Some(item)),
                Some(None) => {}
                None if ended => return Poll::Ready(None),
                // Not before: after a reconnect, one filter is live again while another has not yet been seen to begin anew.
                None if self.becomes_live() => return Poll::Ready(Some(Item::Live)),
                None => return Poll::Pending,
            }
        }
    }

    /// Whether every filter is live, and was not all the time since this was last said.
    fn becomes_live(&mut self) -> bool {
        let all = self.sources.iter().all(|source| source.live);
        all && !std::mem::replace(&mut self.live, all)
    }

    /// Looks at what comes next, which moves the cursor over what was taken before.
    pub(super) async fn peek(&mut self) {
        std::future::poll_fn(|context| {
            self.fill(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Takes the next event of every filter that has one now; says whether nothing will ever follow.
    fn fill(&mut self, context: &mut Context<'_>) -> bool {
        let mut ended = true;
        for at in 0..self.sources.len() {
            let (earlier, rest) = self.sources.split_at_mut(at);
            ended &= rest[0].fill(earlier, context);
        }
        ended
    }

    /// Takes the event that comes first: `None` if there is none now, `Some(None)` if it is nothing to show.
    fn take_first(&mut self) -> Option<Option<Item>> {
        let heads = self.sources.iter().enumerate().filter_map(|(at, source)| {
            // What is not a message stands before the next message of its filter, hence before all.
            let key = match source.head.as_ref()? {
                Event::Message(message) => Some(message.position().offset),
                _ => None,
            };
            Some((key, at))
        });
        let (_, at) = heads.min()?;
        let source = &mut self.sources[at];
        Some(match source.head.take()? {
            Event::Message(message) => Some(Item::Message(message)),
            Event::Transient(message) => Some(Item::Transient(message)),
            Event::Gap(gap) => {
                // Each filter tells it, and it is the same gap. What one filter tells again is another that looks alike,
                // such as a second reset.
                let is_new = source.knows_gap || self.last_gap.as_ref() != Some(&gap);
                if is_new {
                    self.sources.iter_mut().for_each(|source| source.knows_gap = false);
                    self.last_gap = Some(gap.clone());
                }
                self.sources[at].knows_gap = true;
                is_new.then_some(Item::Gap(gap))
            }
            Event::Subscribed(_) => {
                source.live = false;
                source.answers += 1;
                self.live = false;
                None
            }
            Event::Live => {
                source.live = true;
                None
            }
            Event::Closed(closed) => Some(Item::Closed(source.filter.clone(), closed)),
            _ => None,
        })
    }

    /// Covers every item that was taken, and no message that was not. `None` until the gateway has answered for every filter,
    /// and while they stand in different histories.
    pub(super) fn cursor(&self) -> Option<Cursor> {
        let cursors: Vec<Cursor> =
            self.sources.iter().map(|source| source.events.cursor()).collect::<Option<_>>()?;
        let mut whole = cursors.first()?.clone();
        for cursor in &cursors {
            if cursor.log() != whole.log() {
                return None;
            }
            whole.advance_to(cursor);
        }
        // A connection delivers in the order of the log, to all filters that were answered on it: what is behind the furthest was
        // none of the other filters' business, or stands in their queues. Only on the first connection is it known that all are
        // answered on the same; after it, who still catches up counts from its own place.
        let together = self.sources.iter().all(|source| source.answers == 1);
        for (source, cursor) in self.sources.iter().zip(&cursors) {
            match &source.head {
                Some(Event::Message(next)) if together || source.live => {
                    step_back_before(&mut whole, next.position())
                }
                // That a filter is live is no record.
                None | Some(Event::Live) if together || source.live => {}
                // A gap that was not told must not be covered.
                _ => whole.retreat_to(cursor),
            }
        }
        Some(whole)
    }
}

impl Source {
    /// Takes the next event, if there is one now; says whether nothing will ever follow.
    fn fill(&mut self, earlier: &[Source], context: &mut Context<'_>) -> bool {
        while self.head.is_none() {
            let event = match Pin::new(&mut self.events).poll_next_unpin(context) {
                Poll::Ready(Some(event)) => event,
                Poll::Ready(None) => return true,
                Poll::Pending => return false,
            };
            let topic = match &event {
                Event::Message(message) => Some(message.topic()),
                Event::Transient(message) => Some(message.topic()),
                _ => None,
            };
            let is_theirs =
                topic.is_some_and(|topic| earlier.iter().any(|other| other.filter.matches(topic)));
            if !is_theirs {
                self.head = Some(event);
            }
        }
        false
    }
}

/// A message is not shown yet: the cursor must not cover it.
fn step_back_before(cursor: &mut Cursor, next: Position) {
    let offset = Offset(next.offset.0.saturating_sub(1));
    if cursor.position(next.partition).is_some_and(|covered| covered.offset > offset) {
        cursor.set(Position { offset, fingerprint: None, ..next });
    }
}

/// The filters without those that another one covers.
fn without_covered(filters: &[Filter]) -> Vec<&Filter> {
    let mut kept: Vec<&Filter> = Vec::new();
    for filter in filters {
        if !kept.iter().any(|other| other.covers(filter)) {
            kept.retain(|other| !filter.covers(other));
            kept.push(filter);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_covered_filter_is_left_out() {
        let filters = ["a/+", "b", "a/b", "a/#", "b"].map(|text| Filter::new(text).unwrap());
        let kept: Vec<&str> = without_covered(&filters).into_iter().map(Filter::as_str).collect();
        assert_eq!(kept, ["b", "a/#"]);
    }
}
