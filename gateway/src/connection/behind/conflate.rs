//! State by its newest value: read from the values alone, or in the place of frames that newer ones have replaced.

use super::{Behind, Known, LOOKED_AT, Source};
use crate::connection::page::{Of, Page};
use crate::connection::subscriptions::Subscriptions;
use crate::hub::block::{Block, Kind};
use crate::hub::newest::{Newest, Values};
use crate::hub::ring::Sequence;
use anabranch_protocol::cursor::{Offset, Partition, Position};
use anabranch_protocol::server_frame::{Gap, GapReason};
use std::sync::Arc;

/// Topics below the prefixes of a connection's filters, at most, for which they are looked up by name. Of more, it is cheaper
/// to look at all values by offset: the names come in an order of their own, so each page looks at all of them.
const NAMED: usize = if cfg!(test) { 3 } else { 1024 };

/// What came of a look at the values.
pub(super) enum Taken {
    /// A page to be written.
    Some,
    /// Nothing was wanted of what was looked at, and there is more.
    None,
    /// There is nothing more.
    All,
}

/// Offsets of a partition in which nothing but state is wanted: above `from`, up to and including `to`.
struct Span {
    from: Offset,
    to: Position,
}

impl Span {
    fn has(&self, position: Position) -> bool {
        self.to.partition == position.partition
            && self.from < position.offset
            && position.offset <= self.to.offset
    }
}

impl Behind {
    /// Makes a page of newest values, as far as nothing else is wanted.
    pub(super) fn take_values(&mut self, known: Known<'_>, wanted: &Subscriptions) -> Taken {
        let spans = self.spans(known, wanted);
        if spans.is_empty() {
            return Taken::All;
        }
        let mut end = self.cursor.clone();
        let mut page = Page::new(Of::Values { end: end.clone() });
        let mut whole = true;
        if let Some(named) = named(&spans, known.values, wanted) {
            for value in &named {
                whole = whole && page.add_value(0, value);
                if whole {
                    end.advance(value.position());
                }
            }
            if whole {
                spans.iter().for_each(|span| _ = end.advance(span.to));
            }
        } else {
            let mut looked_at = 0;
            'all: for span in &spans {
                for value in known.values.between(span.to.partition, span.from, span.to.offset) {
                    let wants = wanted.want_value(value.topic(), value.position(), value.is_deleted());
                    if looked_at == LOOKED_AT || (wants && !page.add_value(0, value)) {
                        whole = false;
                        break 'all;
                    }
                    looked_at += 1;
                    end.advance(value.position());
                }
                end.advance(span.to);
            }
        }
        let any = !page.is_empty();
        page.of = Of::Values { end };
        self.page = Some(page);
        // With nothing to write, the loop turns the page and finds that there is nothing more.
        if any || whole { Taken::Some } else { Taken::None }
    }

    /// Where nothing but state is wanted from the place on.
    fn spans(&self, known: Known<'_>, wanted: &Subscriptions) -> Vec<Span> {
        let span = |head: &Position| {
            let from = self.offset(head.partition);
            let begin = wanted.events_begin(head.partition, from).unwrap_or(*head);
            let to = if begin.offset > head.offset { *head } else { begin };
            (from < to.offset).then_some(Span { from, to })
        };
        known.ring.head().positions().iter().filter_map(span).collect()
    }

    fn offset(&self, partition: Partition) -> Offset {
        self.cursor.position(partition).map_or(Offset(0), |position| position.offset)
    }

    /// What is read from the values alone, and may be unknown there, while somebody who wants it has not been told. Beyond
    /// that, the ring or the log has what the values lack.
    pub(super) fn unsure(&self, known: Known<'_>, wanted: &Subscriptions) -> Option<Gap> {
        let unknown = |partition| self.offset(partition) < known.values.unknown_to(partition);
        if self.source != Source::Values || !known.values.partitions().any(unknown) {
            return None;
        }
        self.spans(known, wanted).into_iter().find_map(|Span { from, to }| {
            let partition = to.partition;
            let (after, last) = wanted.miss_values(known.values, partition, from)?;
            let last = last.min(to.offset);
            let before = Offset(last.0.saturating_add(1));
            (after < last).then_some(Gap { partition, after, before, reason: GapReason::Retention })
        })
    }

    /// Adds to a page what is wanted in the place of a frame: the frame, or, if it is a state topic's newest, the value, or
    /// nothing, if a newer value stands further on. `false` if there is no room.
    pub(super) fn take_frame(
        &self,
        block: &Block,
        frame: usize,
        at: Sequence,
        values: &Values,
        wanted: &Subscriptions,
        page: &mut Page,
    ) -> bool {
        let position = block.position(frame);
        if self.cursor.includes(position) {
            return true;
        }
        if block.kind() != Kind::Messages {
            return page.add_frame(at);
        }
        let topic = block.topic(frame);
        let as_it_was = wanted.want(topic, position);
        if !as_it_was && !wanted.want_value(topic, position, false) {
            return true;
        }
        let newest = values.get(topic).filter(|newest| newest.position().partition == position.partition);
        match newest {
            Some(newest) if newest.position().offset > position.offset => true,
            Some(newest) if newest.position().offset == position.offset => {
                let wants = wanted.want_value(topic, position, newest.is_deleted());
                !wants || page.add_value(at, newest)
            }
            // An event; or state that there was no room for; or newer than what this shard has taken.
            _ => !as_it_was || page.add_frame(at),
        }
    }
}

/// The values that are wanted in these spans, by rising position, if they can be found by name.
fn named(spans: &[Span], values: &Values, wanted: &Subscriptions) -> Option<Vec<Arc<Newest>>> {
    let mut found = Vec::new();
    let mut looked_at = 0;
    for filter in wanted.state_filters() {
        let text = filter.as_str();
        let prefix = &text[..text.find(['+', '#']).unwrap_or(text.len())];
        let is_exact = prefix.len() == text.len();
        // `a/#` means `a` too.
        let prefix = if text.ends_with("/#") && prefix.len() + 1 == text.len() {
            prefix.trim_end_matches('/')
        } else {
            prefix
        };
        let one = values.get(text).filter(|_| is_exact);
        let below = (!is_exact).then(|| values.below(prefix)).into_iter().flatten();
        for value in one.into_iter().chain(below) {
            looked_at += 1;
            if looked_at > NAMED {
                return None;
            }
            let position = value.position();
            if spans.iter().any(|span| span.has(position))
                && wanted.want_value(value.topic(), position, value.is_deleted())
            {
                found.push(Arc::clone(value));
            }
        }
    }
    let place = |value: &Arc<Newest>| (value.position().partition, value.position().offset);
    found.sort_unstable_by_key(place);
    found.dedup_by_key(|value| place(value));
    Some(found)
}
