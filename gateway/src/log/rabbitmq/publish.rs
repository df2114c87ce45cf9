//! The publishing side: a connection of its own, records in the order of the calls, confirms.

mod doubt;
mod refused;

use super::echo::EchoBoard;
use super::fault::Fault;
use super::mark::{self, Mark};
use super::probe::Probes;
use super::shared::Shared;
use super::{echo_reader, key, topology};
use crate::log::source::SourceError;
use crate::log::{AppendError, DEADLINE, Health};
use bytes::Bytes;
use doubt::Doubts;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, Event};
use refused::{Forbidden, Sorted};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// The longest that appends wait for a question about the stream's end that was asked before them.
const HOLD: Duration = Duration::from_millis(500);

/// How often is looked for appends whose echo does not come.
const LOOK: Duration = Duration::from_millis(25);

/// Between two attempts to connect: the first pause, which doubles, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the publisher is told, in order.
pub(super) enum Order {
    Publish(Parcel),
    /// Nothing that was ordered after this is published before the other end is dropped.
    Hold(oneshot::Receiver<()>),
}

/// One record to be published.
#[derive(Clone)]
pub(super) struct Parcel {
    pub(super) mark: Mark,
    pub(super) key: String,
    pub(super) body: Bytes,
}

/// Publishes until the other end of `orders` is dropped.
pub(super) async fn run(shared: Arc<Shared>, probes: Vec<Arc<Probes>>, mut orders: mpsc::Receiver<Order>) {
    let mut publisher = Publisher {
        echo_reader: echo_reader::EchoReader::new(shared.clone()),
        shared,
        probes,
        link: None,
        confirms: FuturesUnordered::new(),
        published: 0,
        unconfirmed: BTreeMap::new(),
        alone: None,
        forbidden: Forbidden::default(),
        doubts: Doubts::default(),
        failure: None,
    };
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            event = next_event(&mut publisher.link) => publisher.event(event),
            Some((nth, outcome)) = publisher.confirms.next() => publisher.confirm(nth, outcome).await,
            (given_back, why) = publisher.doubts.settle(&publisher.shared) => {
                given_back.into_iter().for_each(|sequence| publisher.echoes().failed(sequence, why.clone()));
            }
            order = orders.recv() => match order {
                None => return,
                Some(Order::Hold(held)) => drop(timeout(HOLD, held).await),
                Some(Order::Publish(parcel)) => publisher.publish(parcel).await,
            },
            _ = look.tick(), if !publisher.shared.echoes.is_idle() => publisher.echo_reader.look(),
        }
    }
}

/// A connection to publish on.
struct Link {
    connection: Connection,
    /// The broker closes it over a record that it forbids.
    channel: Option<Channel>,
    /// The only listener: two would take each other's events.
    events: BoxStream<'static, Event>,
}

/// Publishes one record, and waits for its confirm.
async fn send(
    channel: Channel,
    exchange: String,
    nth: u64,
    parcel: Parcel,
) -> (u64, Result<Confirmation, lapin::Error>) {
    let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let Parcel { mark, key, body } = parcel;
    let properties = mark::properties(mark);
    let sending = channel.basic_publish(exchange.into(), key.into(), mandatory, &body, properties);
    let outcome = match sending.await {
        Ok(confirm) => confirm.await,
        Err(error) => Err(error),
    };
    (nth, outcome)
}

fn forbidden() -> AppendError {
    AppendError::Refused("RabbitMQ's topic permissions do not let the gateway write to it".to_owned())
}

type Confirm = BoxFuture<'static, (u64, Result<Confirmation, lapin::Error>)>;

/// The last attempt to connect, if it failed.
struct Failure {
    why: String,
    since: Instant,
    pause: Duration,
}

struct Publisher {
    shared: Arc<Shared>,
    probes: Vec<Arc<Probes>>,
    link: Option<Link>,
    confirms: FuturesUnordered<Confirm>,
    /// How many records were handed to connections.
    published: u64,
    /// What the broker has neither confirmed nor refused, by its number among these.
    unconfirmed: BTreeMap<u64, Parcel>,
    /// The one record that is on its way, if its refusal could not be read.
    alone: Option<Parcel>,
    forbidden: Forbidden,
    doubts: Doubts,
    failure: Option<Failure>,
    echo_reader: echo_reader::EchoReader,
}

async fn next_event(link: &mut Option<Link>) -> Option<Event> {
    match link {
        Some(link) => link.events.next().await,
        None => std::future::pending().await,
    }
}

/// What the broker's word for it means to people.
fn blocked(why: &str) -> String {
    format!(
        "RabbitMQ blocks publishers: {why}. Give the broker memory or disk, or raise vm_memory_high_watermark or \
         disk_free_limit; publishing goes on by itself then"
    )
}

impl Publisher {
    fn is_connected(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.connection.status().connected())
    }

    fn echoes(&self) -> &EchoBoard {
        &self.shared.echoes
    }

    /// Publishes a record. One whose refusal could not be read has the connection to itself, so that it is known by that.
    async fn publish(&mut self, parcel: Parcel) {
        if !refused::would_be_cut_within(&parcel.key, &self.shared.options) {
            return self.hand_over(parcel).await;
        }
        self.settle().await;
        self.alone = Some(parcel.clone());
        self.hand_over(parcel).await;
        self.settle().await;
        self.alone = None;
    }

    /// Waits until the broker has answered for everything, or is given up.
    async fn settle(&mut self) {
        let settling = async {
            while !self.unconfirmed.is_empty() {
                tokio::select! {
                    biased;
                    event = next_event(&mut self.link) => self.event(event),
                    Some((nth, outcome)) = self.confirms.next() => Box::pin(self.confirm(nth, outcome)).await,
                    else => break,
                }
            }
        };
        if timeout(DEADLINE, settling).await.is_err() {
            self.lost("no confirm within 5 s");
        }
    }

    async fn hand_over(&mut self, parcel: Parcel) {
        let sequence = parcel.mark.sequence;
        if let Health::Blocked(why) = &*self.shared.health.borrow() {
            return self.echoes().failed(sequence, AppendError::Blocked(why.clone()));
        }
        if self.forbidden.contains(&parcel.key) {
            return self.echoes().failed(sequence, forbidden());
        }
        if let Err(why) = self.ready().await {
            return self.echoes().failed(sequence, AppendError::Blocked(why));
        }
        let Some(Link { channel: Some(channel), .. }) = &self.link else { return };
        let floors = self.shared.sights().iter().map(|sight| sight.highest()).collect();
        self.echoes().publishing(sequence, floors);
        let nth = self.published;
        self.published += 1;
        let mut confirm =
            send(channel.clone(), self.shared.options.exchange.clone(), nth, parcel.clone()).boxed();
        self.unconfirmed.insert(nth, parcel);
        // The first poll puts the record behind those before it. To wait until it is written would take two changes of
        // threads for each record, and a write of its own.
        match poll_fn(|context| Poll::Ready(confirm.as_mut().poll(context))).await {
            // The channel was closed just now: why, the records before this one are about to hear.
            Poll::Ready((_, Err(_))) if self.unconfirmed.len() > 1 && self.is_connected() => {}
            Poll::Ready((nth, outcome)) => self.confirm(nth, outcome).await,
            Poll::Pending => self.confirms.push(confirm),
        }
    }

    /// Prepares, or says why not: after a failure without another attempt for a while, so that a broker that comes back
    /// is not met by an attempt for each record.
    async fn ready(&mut self) -> Result<(), String> {
        if let Some(Failure { why, since, pause }) = &self.failure
            && since.elapsed() < *pause
            && !self.shared.connector.entered_since(*since)
        {
            return Err(why.clone());
        }
        let Err(fault) = self.prepare().await else {
            self.failure = None;
            return Ok(());
        };
        let why = match fault {
            Fault::Unreachable(why) | Fault::Refused(why) | Fault::Killed(why) => why,
            Fault::Gone => "the stream does not exist".to_owned(),
        };
        let pause = self.failure.take().map_or(PAUSE, |failure| (failure.pause * 2).min(LONGEST_PAUSE));
        self.failure = Some(Failure { why: why.clone(), since: Instant::now(), pause });
        Err(why)
    }

    /// Sees to it that there is a connection, and that something is known of where each stream ends.
    async fn prepare(&mut self) -> Result<(), Fault> {
        if self.link.as_ref().is_some_and(|link| !link.connection.status().connected()) {
            self.lost("it is closed");
        }
        if self.link.is_none() {
            let connection = self.shared.connector.connect("publish").await?;
            let events = connection.events_listener().boxed();
            topology::establish(&self.shared).await?;
            self.link = Some(Link { connection, channel: None, events });
        }
        if let Some(Link { connection, channel: channel @ None, .. }) = &mut self.link {
            let opened = connection.create_channel().await?;
            opened.confirm_select(ConfirmSelectOptions::default()).await?;
            *channel = Some(opened);
        }
        for (sight, probes) in self.shared.sights().iter().zip(&self.probes) {
            if sight.highest().is_none() {
                let mut newest = probes.newest(None).await;
                // Its readers were told that it was deleted, before a record was given back to us. There may be no tail that makes it anew.
                if newest.as_ref().is_err_and(|error| *error == SourceError::Gone) {
                    topology::establish(&self.shared).await?;
                    newest = probes.newest(None).await;
                }
                newest.map_err(|error| Fault::Unreachable(error.to_string()))?;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Option<Event>) {
        match event {
            Some(Event::ConnectionBlocked(why)) => {
                let why = blocked(&why);
                // They are on their way: the broker may take them when it takes records again.
                self.give_up(&AppendError::Unknown(why.clone()));
                self.shared.health.send_replace(Health::Blocked(why));
            }
            Some(Event::ConnectionUnblocked) => {
                self.shared.health.send_replace(Health::Connected);
            }
            // A channel's error comes here too; the records that it concerns hear of it themselves.
            Some(Event::Error(error)) if refused::words(&error).is_some() && self.is_connected() => {}
            Some(Event::Error(error)) => {
                if refused::is_unreadable(&error) {
                    self.refused_unreadably();
                }
                self.lost(&error.to_string());
            }
            Some(_) => {}
            None => self.lost("it was closed"),
        }
    }

    async fn confirm(&mut self, nth: u64, outcome: Result<Confirmation, lapin::Error>) {
        let words = outcome.as_ref().err().and_then(refused::words);
        if let Some(words) = words {
            return self.refused(&words).await;
        }
        let Some(Parcel { mark, key, body }) = self.unconfirmed.remove(&nth) else { return };
        match outcome {
            Ok(Confirmation::Ack(None)) => self.echoes().confirmed(mark.sequence),
            Ok(Confirmation::Ack(Some(_)))
                if self.shared.options.keys().any(|bound| key::matches(bound, &key)) =>
            {
                self.doubts.add(mark.sequence);
            }
            Ok(Confirmation::Ack(Some(_))) => self.echoes().failed(mark.sequence, AppendError::Unroutable),
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                let why = "RabbitMQ could not say that it stored the record".to_owned();
                self.echoes().failed(mark.sequence, AppendError::Unknown(why));
            }
            Err(error) if refused::is_unreadable(&error) && self.is_alone(&key) => {
                self.unconfirmed.insert(nth, Parcel { mark, key, body });
                self.refused_unreadably();
                self.lost(&error.to_string());
            }
            Err(error) => {
                let why = format!("the connection to RabbitMQ was lost: {error}");
                self.echoes().failed(mark.sequence, AppendError::Unknown(why.clone()));
                self.lost(&why);
            }
        }
    }

    /// The broker has closed the channel over a record that it forbids. The connection stands, and so do the other records.
    async fn refused(&mut self, words: &str) {
        tracing::warn!("RabbitMQ's permissions forbid a publish: {words}");
        if let Some(link) = &mut self.link {
            link.channel = None;
        }
        self.confirms = FuturesUnordered::new();
        let unknown =
            AppendError::Unknown("RabbitMQ forbade a record and does not say clearly which".to_owned());
        match refused::sort(std::mem::take(&mut self.unconfirmed), words, &self.shared.options) {
            Ok(Sorted { before, refused, after }) => {
                // The broker had taken them when it came to the forbidden one. Whatever is read from the log is stored.
                before.iter().for_each(|parcel| self.echoes().confirmed(parcel.mark.sequence));
                match &refused[..] {
                    [one] => {
                        self.echoes().failed(one.mark.sequence, forbidden());
                        self.forbidden.add(one.key.clone());
                    }
                    // To publish those again that it took would store them twice.
                    several => several
                        .iter()
                        .for_each(|one| self.echoes().failed(one.mark.sequence, unknown.clone())),
                }
                for parcel in after {
                    Box::pin(self.publish(parcel)).await;
                }
            }
            Err(all) if refused::is_about_a_topic(words) => {
                all.iter().for_each(|parcel| self.echoes().failed(parcel.mark.sequence, unknown.clone()));
            }
            // Nothing may be written, whatever its topic: somebody takes our permissions away, and may give them back.
            Err(all) => {
                let why = "RabbitMQ's permissions forbid the gateway to publish".to_owned();
                self.failure =
                    Some(Failure { why: why.clone(), since: Instant::now(), pause: LONGEST_PAUSE });
                // It may have taken the first of several.
                let why = if all.len() == 1 { AppendError::Blocked(why) } else { AppendError::Unknown(why) };
                all.iter().for_each(|parcel| self.echoes().failed(parcel.mark.sequence, why.clone()));
            }
        }
    }

    fn is_alone(&self, key: &str) -> bool {
        self.alone.as_ref().is_some_and(|alone| alone.key == key)
    }

    /// The broker has said something that cannot be read. If one record alone was on its way, the words were about that.
    fn refused_unreadably(&mut self) {
        if let Some(Parcel { mark, key, .. }) = self.alone.take() {
            tracing::warn!("RabbitMQ's permissions forbid a publish, in words that cannot be read");
            self.unconfirmed.retain(|_, parcel| parcel.mark.sequence != mark.sequence);
            self.echoes().failed(mark.sequence, forbidden());
            self.forbidden.add(key);
        }
    }

    /// The connection is of no use any more. The next record asks for another.
    fn lost(&mut self, why: &str) {
        if self.link.take().is_some() {
            tracing::warn!("the connection on which records are published was lost: {why}");
        }
        self.give_up(&AppendError::Unknown(format!("the connection to RabbitMQ was lost: {why}")));
        self.confirms = FuturesUnordered::new();
        self.shared.health.send_if_modified(|health| {
            let was_blocked = *health != Health::Connected;
            *health = Health::Connected;
            was_blocked
        });
    }

    fn give_up(&mut self, why: &AppendError) {
        let unconfirmed = std::mem::take(&mut self.unconfirmed).into_values();
        self.shared.echoes.fail_unconfirmed(unconfirmed.map(|parcel| parcel.mark.sequence), why);
    }
}
