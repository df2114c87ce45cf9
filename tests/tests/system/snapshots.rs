//! State that never lies: what a dashboard is shown first, what it is shown after it was away, and what it is shown when the
//! network cuts it off in between.

use anabranch::{Client, Cursor, Event, Message, Position, Start, Subscription};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::proxy::ChaosProxy;
use anabranch_tests::tokens;
use anabranch_tests::wait::within;
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;

const FILTER: &str = "iotsphere/devices/+/shadow/reported";

/// The embedded log writes to the disk once for all that wait.
const IN_FLIGHT: usize = 256;

async fn gateway() -> Gateway {
    Gateway::with(Settings::default().set("limits.publishes_in_flight", &IN_FLIGHT.to_string())).await
}

fn topic(device: usize) -> String {
    format!("iotsphere/devices/d{device}/shadow/reported")
}

fn client(url: &str) -> Client {
    let client = Client::builder(url).token(tokens::all("app")).build().expect("a client");
    client.connect();
    client
}

/// Publishes these values, in order for each device. Where the last one stands.
async fn publish(client: &Client, values: impl IntoIterator<Item = (usize, Option<u64>)>) -> Position {
    let sends = values.into_iter().map(|(device, value)| {
        let publish = client.publish(&topic(device)).json(&value).expect("JSON");
        async move { publish.send().await.expect("a confirm").position }
    });
    let newest = stream::iter(sends).buffered(IN_FLIGHT).fold(None, async |_, position| Some(position));
    newest.await.expect("something to publish")
}

/// What an app that shows values has on its screen.
#[derive(Default)]
struct Screen {
    values: BTreeMap<String, u64>,
    /// Topics that the snapshot under way has named.
    named: Option<Vec<String>>,
    messages: usize,
    snapshots: Vec<bool>,
    begun: usize,
    live: bool,
}

impl Screen {
    fn show(&mut self, event: Event) {
        match event {
            Event::SnapshotBegins => {
                self.named = Some(Vec::new());
                self.begun += 1;
            }
            Event::SnapshotEnds { complete } => {
                let named = self.named.take().expect("it has begun");
                self.values.retain(|topic, _| named.contains(topic));
                self.snapshots.push(complete);
            }
            Event::Message(message) => self.message(&message),
            Event::Live => self.live = true,
            Event::Subscribed(_) => self.live = false,
            Event::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
    }

    fn message(&mut self, message: &Message) {
        self.messages += 1;
        if let Some(named) = &mut self.named {
            named.push(message.topic().to_owned());
        }
        match message.json::<Option<u64>>().expect("a number or null") {
            Some(value) => {
                let before = self.values.insert(message.topic().to_owned(), value);
                assert!(before.is_none_or(|before| before < value), "{message:?} after {before:?}");
            }
            None => _ = self.values.remove(message.topic()),
        }
    }

    async fn until(&mut self, what: &str, subscription: &mut Subscription, done: impl Fn(&Screen) -> bool) {
        within(what, async {
            while !done(self) {
                self.show(subscription.next().await.expect("the subscription goes on"));
            }
        })
        .await;
    }
}

fn expected(values: impl IntoIterator<Item = (usize, u64)>) -> BTreeMap<String, u64> {
    values.into_iter().map(|(device, value)| (topic(device), value)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dashboard_begins_complete_and_one_that_was_away_gets_what_has_changed() {
    let gateway = gateway().await;
    let devices = client(&gateway.url());
    let fleet = 0..600;
    publish(&devices, fleet.clone().flat_map(|device| [(device, Some(1)), (device, Some(2))])).await;
    gateway.has_read(publish(&devices, [(7, None), (8, Some(3))]).await).await;
    let mut new = expected(fleet.clone().map(|device| (device, 2)));
    new.remove(&topic(7));
    new.insert(topic(8), 3);

    let dashboard = client(&gateway.url());
    let mut screen = Screen::default();
    let mut subscription = dashboard.subscribe(FILTER).open().expect("a subscription");
    screen.until("the snapshot", &mut subscription, |screen| screen.live).await;
    assert_eq!(screen.values, new);
    assert_eq!((screen.begun, &screen.snapshots[..]), (1, &[true][..]));
    assert_eq!(screen.messages, 599, "each value once, and nothing of what is deleted");
    // The cursor is the app's when it asks for the next event.
    publish(&devices, [(0, Some(3))]).await;
    screen.until("what comes next", &mut subscription, |screen| screen.values[&topic(0)] == 3).await;
    let cursor: Cursor = subscription.cursor().expect("it stands somewhere");
    drop(subscription);

    // Away for 10,000 updates of 300 devices, one of which is deleted.
    publish(&devices, (0..10_000).map(|n| (n % 300, Some(10 + n as u64)))).await;
    gateway.has_read(publish(&devices, [(9, None)]).await).await;
    let after = Start::After(cursor);
    let mut subscription = dashboard.subscribe(FILTER).from(after).open().expect("a subscription");
    screen.messages = 0;
    screen.live = false;
    screen.until("what has changed", &mut subscription, |screen| screen.live).await;
    for n in 9_700..10_000 {
        new.insert(topic(n % 300), 10 + n as u64);
    }
    new.remove(&topic(9));
    assert_eq!(screen.values, new);
    assert_eq!(screen.messages, 300, "10,000 updates of 300 devices");
    assert_eq!(screen.begun, 1, "nothing else began");
}

/// Cut off ten times in the middle, while values change, and moved to a node that has read the log itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_cut_goes_on_where_it_stood() {
    const FLEET: usize = 3_000;
    let mut gateway = gateway().await;
    let devices = client(&gateway.url());
    publish(&devices, (0..FLEET).map(|device| (device, Some(1)))).await;
    let proxy = ChaosProxy::start(gateway.address()).await.expect("a proxy");
    let dashboard = client(&format!("ws://{}/v1/ws", proxy.address()));
    let mut subscription = dashboard.subscribe(FILTER).open().expect("a subscription");
    let mut screen = Screen::default();
    let mut newest = expected((0..FLEET).map(|device| (device, 1)));
    for cut in 1..=10_usize {
        screen.until("a part", &mut subscription, |screen| screen.messages >= cut * 200).await;
        proxy.cut();
        if cut == 5 {
            gateway.kill().await;
            gateway.start_again().await;
        }
        let changed = (0..50).map(|n| (n * 61 + cut) % FLEET);
        publish(&devices, changed.clone().map(|device| (device, Some(1 + cut as u64)))).await;
        newest.extend(expected(changed.map(|device| (device, 1 + cut as u64))));
        dashboard.wake();
    }
    screen.until("the end", &mut subscription, |screen| !screen.snapshots.is_empty() && screen.live).await;
    // A snapshot is whole as of the node's head, which may stand before what was confirmed just now: that follows live.
    screen.until("the newest", &mut subscription, |screen| screen.values == newest).await;
    assert_eq!((screen.begun, &screen.snapshots[..]), (1, &[true][..]), "one, whole in the end");
    assert!(
        screen.messages <= FLEET + 500,
        "{} messages for {FLEET} values and 500 changes",
        screen.messages
    );
}
