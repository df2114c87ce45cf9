//! One thread's connections: a loop that reads what came in, then writes what is due, itself.
//!
//! A turn: take what sockets sent, what futures have ended, the hub's blocks, what the clock says; hand each matching
//! range to its connections; then write to every connection that has something due, all of it in one vectored write.
//! No task, no channel, no wake-up and no copy for a delivery: that is where the others spend their time. A turn that
//! has much to read, hand out or write is sliced ([`INTAKE`], [`SLICE`]), and whoever waits for little does not stand
//! behind thousands ([`lines`]), so that reads, pings and other topics wait a few milliseconds at most.
//!
//! A connection never leaves its shard, so nothing here is locked except the mailboxes.

mod actions;
mod ahead;
#[cfg(test)]
mod by_hand;
pub mod lines;
mod pacing;
pub mod pumping;
#[cfg(test)]
mod race;
mod reading;
#[cfg(test)]
mod simulation;
mod timers;
mod waker;

use crate::connection::resume::Verdict;
use crate::connection::session::{Action, Millis, Moment, Session};
use crate::connection::{Asked, Connection, Known, Next, Offered, Wrote};
use crate::hub::block::{Block, Kind};
use crate::hub::interest::{ConnectionId, Interest};
use crate::hub::mailbox::Mailbox;
use crate::hub::newest::{Newest, Values};
use crate::hub::registry::Seat;
use crate::hub::replay::Page;
use crate::hub::ring::Ring;
use crate::hub::transient::Passing;
use crate::log::{AppendError, ReadError};
use crate::node::Node;
use crate::socket::Socket;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::server_frame::{Gap, GapReason, ServerFrame};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use lines::{Line, Lines};
use pumping::Pumping;
use slab::Slab;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use timers::Timers;
use tokio::time::Instant;
use waker::Ready;

/// How long the loop writes before it looks at its inputs again. A sweep over 10,000 sockets takes about 45 ms, one over 1,000 takes 5.
///
/// What comes in meanwhile leaves with the rest of the sweep, so the sooner it is seen, the more frames leave in each write: with 1,000
/// subscribers, saturated, 39 in one read instead of 30 at 2 ms, for 0.75 times the CPU. At 0.5 ms these would be 48 and 0.65, but
/// unicast to 5,000 would cost 8 % more, as few of them then have anything due at a time.
const SLICE: Duration = Duration::from_millis(1);
/// How long the loop attends to each of its inputs in one turn: blocks, sockets, futures. What is left waits for the next.
const INTAKE: Duration = Duration::from_millis(1);
/// Connections of each line written to between two looks at the clock: 0.1 ms of small writes, 2 ms of the largest.
const UNTIMED: usize = 16;
/// How long a close may wait for a full socket, in milliseconds.
const CLOSE_MS: Millis = 2_000;
/// How long a failed read of the log waits before it is tried again, in milliseconds.
const RETRY_MS: Millis = 250;

/// What reaches a shard from elsewhere.
#[derive(Clone)]
pub enum ShardEvent {
    /// New frames, in the order of the log.
    Block(Arc<Block>),
    /// The same, and the newest values that they make.
    State(Arc<Block>, Arc<[Arc<Newest>]>),
    /// A message that is not kept.
    Transient(Arc<Passing>),
    /// Nothing up to here: coverage advances.
    Progress(Position),
    /// Another history begins.
    Reset { head: Cursor, code: Code },
    /// The log can be reached, or cannot.
    Upstream { up: bool, message: Arc<str> },
    /// The node ends: each connection is told a time of its own to come back.
    Drain(Arc<crate::drain::Slots>),
}

/// A socket that speaks WebSocket from here on.
pub struct Arrival {
    pub socket: Socket,
    /// Bytes that came right behind the handshake.
    pub early: Bytes,
    pub seat: Seat,
}

/// How others reach a shard.
#[derive(Clone)]
pub struct ShardHandle {
    mailbox: Arc<Mailbox<ShardEvent>>,
    arrivals: Arc<Mailbox<Arrival>>,
}

impl ShardHandle {
    /// Hands a socket over.
    pub fn connect(&self, arrival: Arrival) {
        self.arrivals.push(arrival);
    }

    /// Where the hub puts its blocks.
    pub fn mailbox(&self) -> &Arc<Mailbox<ShardEvent>> {
        &self.mailbox
    }
}

/// What a future of a connection has ended with.
enum Completion {
    Started { subscriptions: Vec<Asked>, verdict: Result<Verdict, ReadError> },
    Appended { message_id: Box<str>, result: Result<(Position, bool), AppendError> },
    Page { asked: Position, page: Result<Page, ReadError> },
}

type Work = BoxFuture<'static, (ConnectionId, u64, Completion)>;

/// A thread's connections and their loop.
pub struct Shard {
    node: Arc<Node>,
    mailbox: Arc<Mailbox<ShardEvent>>,
    /// `None` if the shard is fed by hand.
    pumping: Option<Pumping>,
    arrivals: Arc<Mailbox<Arrival>>,
    ready: Arc<Mailbox<ConnectionId>>,
    ring: Ring,
    /// As of the ring's head.
    values: Values,
    interest: Interest,
    connections: Slab<Connection>,
    next_serial: u64,
    lines: Lines,
    work: FuturesUnordered<Work>,
    /// Work that had ended when it began.
    ended: Vec<(ConnectionId, u64, Completion)>,
    /// Whether there is work that has not been polled yet, or had ended, so that nothing would wake us for it.
    new_work: bool,
    timers: Timers,
    /// One for all connections.
    read_buffer: Box<[u8]>,
    upstream: Option<Arc<str>>,
    draining: Option<Arc<crate::drain::Slots>>,
    figures: crate::metrics::Deliveries,
    /// What was taken out of the mailboxes, and has not been attended to.
    backlog: VecDeque<ShardEvent>,
    woken: Vec<ConnectionId>,
    // Reused from turn to turn.
    actions: Vec<Action>,
    paced: Vec<ConnectionId>,
}

impl Shard {
    /// A shard that begins at `head`, with the newest values as of there.
    pub fn new(node: Arc<Node>, head: Cursor, values: Values) -> (Shard, ShardHandle) {
        let handle = ShardHandle { mailbox: Arc::default(), arrivals: Arc::default() };
        let shard = Shard {
            mailbox: Arc::clone(&handle.mailbox),
            pumping: None,
            arrivals: Arc::clone(&handle.arrivals),
            ready: Arc::default(),
            ring: Ring::new(head, node.ring_bytes),
            values,
            interest: Interest::new(),
            connections: Slab::new(),
            next_serial: 0,
            lines: Lines::default(),
            work: FuturesUnordered::new(),
            ended: Vec::new(),
            new_work: false,
            timers: Timers::new(node.clock),
            read_buffer: vec![0; 64 * 1024].into(),
            upstream: None,
            draining: None,
            figures: crate::metrics::Deliveries::default(),
            backlog: VecDeque::new(),
            woken: Vec::new(),
            actions: Vec::new(),
            paced: Vec::new(),
            node,
        };
        (shard, handle)
    }

    /// The same, which pumps too.
    pub fn pumping(mut self, pumping: Pumping) -> Shard {
        self.pumping = Some(pumping);
        self
    }

    /// Runs until the node has drained: every connection has ended, or `Slots` has run out of patience.
    pub async fn run(mut self) {
        // Without tokio's budget: it would make the loop wake itself for nothing every 128 sockets.
        tokio::task::unconstrained(std::future::poll_fn(|cx| self.turn(cx))).await;
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.node.clock.now();
        self.pumping.iter().for_each(Pumping::attend);
        self.take_arrivals(cx, now);
        // The hub comes last: it has by then what the others have appended.
        let saw_all = [self.take_ready(cx, now), self.take_work(cx, now), self.take_events(cx, now)];
        self.tick(cx, now);
        self.evict();
        self.write_slice(now);
        self.figures.tell();
        if saw_all.contains(&false) || self.new_work || !self.lines.is_empty() {
            cx.waker().wake_by_ref();
        }
        match &self.draining {
            Some(slots) if self.connections.is_empty() || slots.is_over(now) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Writes to those that stand in line, for a while.
    fn write_slice(&mut self, now: Millis) {
        let began = Instant::now();
        loop {
            for line in [Line::Short, Line::Long] {
                for _ in 0..UNTIMED {
                    let Some(id) = self.lines.next(line) else { break };
                    self.write(id, line, now);
                }
            }
            if self.lines.is_empty() || began.elapsed() >= SLICE {
                return;
            }
        }
    }

    fn begin_work(&mut self, work: Work) {
        self.work.push(work);
        self.new_work = true;
    }

    fn take_arrivals(&mut self, cx: &mut Context<'_>, now: Millis) {
        let mut arrivals = Vec::new();
        // Polled until empty, so that the waker is registered; here as below.
        while self.arrivals.poll_take(cx, &mut arrivals).is_ready() {
            for arrival in arrivals.drain(..) {
                self.connect(arrival, now);
            }
        }
    }

    /// Takes what the hub has, for a while. Says whether that was all: if not, nothing wakes us for the rest.
    fn take_events(&mut self, cx: &mut Context<'_>, now: Millis) -> bool {
        let began = Instant::now();
        loop {
            // Before the pump, which may always have something: a node that ends must hear of it under any load.
            let mut is_all = self.mailbox.poll_take(cx, &mut self.backlog).is_pending();
            while began.elapsed() < INTAKE
                && let Some(event) = self.backlog.pop_front()
            {
                self.event(event, now);
            }
            if began.elapsed() >= INTAKE {
                self.pumping.iter().for_each(Pumping::pass);
                return false;
            }
            if let Some(pumping) = &self.pumping {
                is_all &= pumping.poll_step(cx, &mut self.backlog).is_pending();
            }
            if is_all {
                return true;
            }
        }
    }

    /// Takes what futures have ended with, for a while. Says whether that was all.
    fn take_work(&mut self, cx: &mut Context<'_>, now: Millis) -> bool {
        let began = Instant::now();
        self.new_work = false;
        let mut ended = std::mem::take(&mut self.ended);
        for (id, serial, completion) in ended.drain(..) {
            if self.connections.get(id as usize).is_some_and(|c| c.serial == serial) {
                self.complete(id, completion, now);
            }
        }
        self.ended = ended;
        while let Poll::Ready(Some((id, serial, completion))) = Pin::new(&mut self.work).poll_next_unpin(cx) {
            if self.connections.get(id as usize).is_some_and(|c| c.serial == serial) {
                self.complete(id, completion, now);
            }
            if began.elapsed() >= INTAKE {
                return false;
            }
        }
        true
    }

    fn event(&mut self, event: ShardEvent, now: Millis) {
        match event {
            ShardEvent::Block(block) => self.deliver(block, &[], now),
            ShardEvent::State(block, newest) => self.deliver(block, &newest, now),
            ShardEvent::Transient(passing) => self.pass(&passing),
            ShardEvent::Progress(position) => self.ring.advance_head(position),
            ShardEvent::Reset { head, code } => {
                for id in self.ids() {
                    let connection = &mut self.connections[id as usize];
                    connection.enter(&head, connection.cursor(&self.ring), code);
                    self.stand(Line::Long, id);
                }
                self.values.part(&head);
                self.ring.reset(head);
            }
            // The first word of a log that is well is no news.
            ShardEvent::Upstream { up: true, .. } if self.upstream.is_none() => {}
            ShardEvent::Upstream { up, message } => {
                self.upstream = (!up).then(|| Arc::clone(&message));
                for id in self.ids() {
                    if self.connections[id as usize].session.is_open() {
                        self.connections[id as usize]
                            .say(&ServerFrame::Upstream { up, message: (&*message).into() });
                        self.stand(Line::Long, id);
                    }
                }
            }
            ShardEvent::Drain(slots) => {
                self.draining = Some(Arc::clone(&slots));
                self.timers.wake_at(slots.over());
                for id in self.ids() {
                    self.connections[id as usize].session.go_away(slots.next(), &mut self.actions);
                    self.perform(id, now);
                }
            }
        }
    }

    fn ids(&self) -> Vec<ConnectionId> {
        self.connections.iter().map(|(id, _)| id as ConnectionId).collect()
    }

    fn connect(&mut self, arrival: Arrival, now: Millis) {
        let entry = self.connections.vacant_entry();
        let id = entry.key() as ConnectionId;
        self.next_serial += 1;
        let session = Session::new(now, &self.node.rules);
        let waker = Ready::waker(&self.ready, id);
        let deadline = session.next_tick(&self.node.rules);
        let connection = Connection::new(self.next_serial, arrival.socket, waker, session, arrival.seat);
        self.timers.schedule(id, entry.insert(connection), deadline);
        metrics::gauge!("anabranch_connections").increment(1.0);
        let mut early = arrival.early.to_vec();
        if early.is_empty() || self.take_in(id, &mut early, now) {
            self.read(id, now);
        }
    }

    /// Puts a block into the ring, and its values where they belong, and hands its frames to those who care.
    fn deliver(&mut self, block: Arc<Block>, newest: &[Arc<Newest>], now: Millis) {
        let first = self.ring.push(Arc::clone(&block));
        if block.kind() == Kind::Gap {
            let last = block.position(0);
            self.values.lose(last.partition, last.offset);
        }
        newest.iter().for_each(|value| self.values.put(Arc::clone(value)));
        if block.kind() == Kind::Gap {
            for id in self.ids() {
                self.offer(id, first, first + 1, now);
            }
            return;
        }
        // Neighbours with the same topic are offered as one range.
        let mut from = 0;
        while from < block.len() {
            let topic = block.topic(from);
            let same = (from + 1..block.len()).take_while(|&frame| block.topic(frame) == topic).count();
            let to = from + 1 + same;
            let watchers = self.interest.matching(topic);
            let line = Line::of(watchers.len());
            for &id in watchers {
                let connection = &mut self.connections[id as usize];
                match connection.offer(first + from as u64, first + to as u64, &self.ring) {
                    Offered::Due if !connection.full => {
                        self.lines.join(line, id, &mut connection.places);
                    }
                    Offered::Due | Offered::Nothing => {}
                    Offered::Paced => self.paced.push(id),
                }
            }
            if !self.paced.is_empty() {
                self.come_for_paced(first + from as u64, topic, now);
            }
            from = to;
        }
    }

    /// Gives a message that is not kept to those who care and have room for it now.
    fn pass(&mut self, passing: &Passing) {
        let mut missed = 0;
        let watchers = self.interest.matching(&passing.topic);
        let line = Line::of(watchers.len());
        for &id in watchers {
            let connection = &mut self.connections[id as usize];
            if connection.pass(&passing.frame) {
                self.lines.join(line, id, &mut connection.places);
            } else {
                missed += 1;
            }
        }
        if missed > 0 {
            metrics::counter!("anabranch_transient_missed_total").increment(missed);
        }
    }

    fn offer(&mut self, id: ConnectionId, from: u64, to: u64, now: Millis) {
        let connection = &mut self.connections[id as usize];
        if connection.session.subscriptions().is_empty() {
            return;
        }
        match connection.offer(from, to, &self.ring) {
            Offered::Due => self.stand(Line::Long, id),
            Offered::Nothing => {}
            Offered::Paced => self.come(id, from, true, now),
        }
    }

    /// A connection has something for its client alone: puts it in line.
    fn touch(&mut self, id: ConnectionId) {
        self.stand(Line::Short, id);
    }

    /// Puts a connection in line, once. A full socket wakes us when it is not.
    fn stand(&mut self, line: Line, id: ConnectionId) {
        let connection = &mut self.connections[id as usize];
        if !connection.full {
            self.lines.join(line, id, &mut connection.places);
        }
    }

    /// Makes room in the ring. Who still needs what goes reads on by itself, from the log.
    fn evict(&mut self) {
        let Some(below) = self.ring.surplus() else { return };
        for (_, connection) in &mut self.connections {
            if connection.needs().is_some_and(|first| first < below) {
                connection.fall_behind(&self.ring, false);
            }
        }
        self.ring.evict(below);
    }

    /// Writes what is due to one connection, and lets it catch up as far as it goes.
    fn write(&mut self, id: ConnectionId, line: Line, now: Millis) {
        let Some(connection) = self.connections.get_mut(id as usize) else { return };
        connection.places.leave(line);
        let delivered = connection.delivered();
        let mut bytes = 0;
        let outcome = loop {
            let (wrote, count) = connection.write(&self.ring);
            bytes += count;
            match wrote {
                Wrote::All => {}
                other => break other,
            }
            match connection.catch_up(Known { ring: &self.ring, values: &self.values }, now) {
                // Live: done, unless joining left something to say.
                None if connection.is_current() && !connection.has_something_to_say() => break Wrote::All,
                None | Some(Next::Write) => {}
                Some(Next::Read(position)) => {
                    let replay = Arc::clone(&self.node.replay);
                    let serial = connection.serial;
                    self.new_work = true;
                    self.work.push(Box::pin(async move {
                        let page = replay.page(position).await;
                        (id, serial, Completion::Page { asked: position, page })
                    }));
                    break Wrote::All;
                }
                Some(Next::Rest) => break Wrote::Some,
                Some(Next::Wait | Next::Join | Next::Admit | Next::Tell(_)) => break Wrote::All,
            }
        };
        self.figures.count(bytes, connection.delivered() - delivered);
        if bytes > 0 && std::mem::take(&mut connection.drained) {
            // Its full socket has room again, so the client has taken bytes: it lives, however slowly. A write alone
            // says nothing: the kernel takes bytes for a client that is long gone.
            connection.session.heard(now);
        }
        let closed = connection.closing.is_some();
        match outcome {
            Wrote::All if closed => self.finish(id, now),
            Wrote::All => {
                if std::mem::take(&mut connection.deaf) {
                    self.read(id, now);
                }
            }
            Wrote::Some => self.stand(Line::Long, id),
            Wrote::Full => connection.full = true,
            Wrote::Failed(error) => {
                tracing::debug!(id, %error, "the socket is dead");
                self.drop_connection(id);
            }
        }
    }

    /// The close frame was written: ends the stream, and waits a moment for the client to end its side. Dropped with
    /// bytes unread, the kernel would reset the connection, and the client might never see why it was closed.
    fn finish(&mut self, id: ConnectionId, now: Millis) {
        if let Some(connection) = self.connections.get_mut(id as usize) {
            let mut cx = Context::from_waker(&connection.waker);
            if connection.socket.poll_shutdown(&mut cx).is_ready() {
                self.read(id, now);
            }
        }
    }

    fn drop_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.try_remove(id as usize) else { return };
        let mut seen: Vec<&anabranch_protocol::filter::Filter> = Vec::new();
        for subscription in connection.session.subscriptions().iter() {
            let started = connection.session.subscriptions().has_started(subscription.id);
            if started && !seen.contains(&&subscription.filter) {
                self.interest.remove(&subscription.filter, id);
                seen.push(&subscription.filter);
            }
        }
        metrics::gauge!("anabranch_connections").decrement(1.0);
    }

    fn complete(&mut self, id: ConnectionId, completion: Completion, now: Millis) {
        match completion {
            Completion::Started { subscriptions, verdict } => {
                self.looked_up(id);
                self.begin(id, subscriptions, verdict, now);
            }
            Completion::Appended { message_id, result } => {
                self.connections[id as usize].session.appended(message_id, result, &mut self.actions);
                self.perform(id, now);
            }
            Completion::Page { asked, page } => self.page(id, asked, page, now),
        }
    }

    /// A page for a connection that reads by itself.
    fn page(&mut self, id: ConnectionId, asked: Position, page: Result<Page, ReadError>, now: Millis) {
        let connection = &mut self.connections[id as usize];
        let gap = |after, before, reason| Gap { partition: asked.partition, after, before, reason };
        let Some((behind, wanted)) = connection.behind().filter(|(behind, _)| behind.expects(asked)) else {
            return;
        };
        match page {
            // Of another history by now: what it says may stand no more.
            Ok(page) if page.block.before().log() != self.ring.head().log() => behind.read_failed(),
            Ok(page) if page.covered.offset > asked.offset => {
                behind.page(page.block, page.covered, &self.values, wanted);
            }
            Err(ReadError::Forgotten { oldest }) if oldest.0 > asked.offset.0 + 1 => {
                behind.lose(gap(asked.offset, oldest, GapReason::Retention));
            }
            Err(ReadError::Corrupt { after, before }) if before.0 > asked.offset.0 + 1 => {
                behind.lose(gap(after.max(asked.offset), before, GapReason::Corrupt));
            }
            // The log has nothing new where the ring says that there must be, or cannot be read: again, a little later.
            other => {
                if let Err(error) = other {
                    tracing::debug!(id, %error, "a read for a connection behind has failed");
                }
                behind.read_failed();
                connection.retry_at = Some(now + RETRY_MS);
                self.timers.schedule(id, connection, now + RETRY_MS);
                return;
            }
        }
        self.stand(Line::Long, id);
    }
}

impl Drop for Shard {
    /// Others keep their ends of the mailboxes: the pump, and who accepts sockets.
    fn drop(&mut self) {
        self.mailbox.close();
        self.arrivals.close();
    }
}

/// The world at this moment, as sessions are told of it.
fn moment<'r>(ring: &'r Ring, node: &Node, now: Millis) -> Moment<'r> {
    Moment { now, unix_ms: node.clock.unix_ms(), head: ring.head() }
}
