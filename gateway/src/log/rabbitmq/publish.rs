//! The publishing side: a connection of its own, records in the order of the calls, confirms.

use super::echo::EchoBoard;
use super::fault::Fault;
use super::mark::{self, Mark};
use super::probe::Probes;
use super::shared::Shared;
use super::{echo_reader, topology};
use crate::log::{AppendError, Health};
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, Event};
use std::collections::BTreeSet;
use std::sync::Arc;
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
        unconfirmed: BTreeSet::new(),
        failure: None,
    };
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            event = next_event(&mut publisher.link) => publisher.event(event),
            Some((sequence, outcome)) = publisher.confirms.next() => publisher.confirm(sequence, outcome),
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
    channel: Channel,
    /// The only listener: two would take each other's events.
    events: BoxStream<'static, Event>,
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
    unconfirmed: BTreeSet<u64>,
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
    fn echoes(&self) -> &EchoBoard {
        &self.shared.echoes
    }

    async fn publish(&mut self, parcel: Parcel) {
        let Parcel { mark, key, body } = parcel;
        if let Health::Blocked(why) = &*self.shared.health.borrow() {
            return self.echoes().failed(mark.sequence, AppendError::Blocked(why.clone()));
        }
        if let Err(why) = self.ready().await {
            return self.echoes().failed(mark.sequence, AppendError::Blocked(why));
        }
        let floors = self.shared.sights().iter().map(|sight| sight.highest()).collect();
        self.echoes().publishing(mark.sequence, floors);
        let Some(link) = &self.link else { return };
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.shared.options.exchange.as_str().into();
        let published =
            link.channel.basic_publish(exchange, key.into(), mandatory, &body, mark::properties(mark)).await;
        match published {
            Ok(confirm) => {
                self.unconfirmed.insert(mark.sequence);
                self.confirms.push(confirm.map(move |outcome| (mark.sequence, outcome)).boxed());
            }
            Err(error) => {
                self.lost(&error.to_string());
                let why = format!("the connection to RabbitMQ was lost: {error}");
                self.echoes().failed(mark.sequence, AppendError::Unknown(why));
            }
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
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            self.link = Some(Link { connection, channel, events });
        }
        for (sight, probes) in self.shared.sights().iter().zip(&self.probes) {
            if sight.highest().is_none() {
                let newest = probes.newest(None).await;
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
            Some(Event::Error(error)) => self.lost(&error.to_string()),
            Some(_) => {}
            None => self.lost("it was closed"),
        }
    }

    fn confirm(&mut self, sequence: u64, outcome: Result<Confirmation, lapin::Error>) {
        self.unconfirmed.remove(&sequence);
        match outcome {
            Ok(Confirmation::Ack(None)) => self.echoes().confirmed(sequence),
            Ok(Confirmation::Ack(Some(_))) => self.echoes().failed(sequence, AppendError::Unroutable),
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                let why = "RabbitMQ could not say that it stored the record".to_owned();
                self.echoes().failed(sequence, AppendError::Unknown(why));
            }
            Err(error) => {
                let why = format!("the connection to RabbitMQ was lost: {error}");
                self.echoes().failed(sequence, AppendError::Unknown(why.clone()));
                self.lost(&why);
            }
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
        let unconfirmed = std::mem::take(&mut self.unconfirmed);
        self.shared.echoes.fail_unconfirmed(unconfirmed, why);
    }
}
