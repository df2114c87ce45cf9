//! What the log loses under its clients: trimmed past their cursors, deleted, or without its tail after a failover. Each
//! client that it concerns is told, once and in time, and nobody else is.

use crate::brokers;
use crate::fleet;
use crate::told::{Listener, Told};
use anabranch::{Client, Event, Outcome, Start};
use anabranch_brokers::{Redis, RedisOptions};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::ledger::Ledger;
use anabranch_tests::proxy::ChaosProxy;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::tokens;
use anabranch_tests::wait::within;
use std::net::SocketAddr;
use std::time::Instant;

async fn gateway(log: &str) -> Gateway {
    Gateway::with(Settings::default().set("log", &format!("{log:?}"))).await
}

/// Publishes so many messages, one after the other confirmed.
async fn publish(gateway: &Gateway, count: usize) {
    let mut publisher = HttpPublisher::new(gateway.address(), &tokens::all("plant"), Ledger::new());
    let topics = fleet::topics();
    let turn: Vec<&str> = topics.iter().map(String::as_str).cycle().take(count).collect();
    for batch in turn.chunks(10) {
        publisher.publish(batch).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_trims_past_cursors() {
    let Some(server) = brokers::had(anabranch_brokers::shared::redis()) else { return };
    let log = brokers::redis_log(&server);
    let stream = log.rsplit('=').next().expect("a stream").to_owned();
    trimmed_past_cursors(&log, 400, async || {
        server.cli(&["XTRIM", &stream, "MAXLEN", "150"]).expect("trimmed");
    })
    .await;
}

/// Stores messages, trims some of them, and sends clients with cursors before, at and behind the edge to a node whose
/// ring is empty.
pub async fn trimmed_past_cursors(log: &str, messages: usize, trim: impl AsyncFnOnce()) {
    let first = gateway(log).await;
    let connected = Listener::live(&first.url(), 5).await;
    publish(&first, messages).await;
    for listener in &connected {
        listener.until("all messages", |told| told.messages.len() == messages).await;
    }
    let all = connected[0].told().messages.clone();
    trim().await;
    let second = gateway(log).await;
    let kept = Listener::start(&second.url(), "kept", Start::Earliest);
    kept.until_live().await;
    let kept = kept.told().offsets();
    let edge = messages - kept.len();
    assert!(edge > 50 && kept.len() > 50, "{} messages are left", kept.len());
    let concerned = [0, 1, edge / 2, edge - 3, edge - 2];
    let others = [edge, edge + 1, edge + kept.len() / 2, messages - 1];
    let mut late = Vec::new();
    for number in concerned.into_iter().chain(others) {
        let cursor = connected[0].cursor_after(number);
        late.push((number, Listener::start(&second.url(), &format!("late-{number}"), Start::After(cursor))));
    }
    for (number, listener) in &late {
        listener.until_live().await;
        let told = listener.told();
        let expected = &all[edge.max(number + 1)..];
        assert_eq!(told.messages, expected, "behind message {number}, of which {edge} are gone");
        assert_eq!(told.resets.len(), 0, "behind message {number}");
        if *number < edge {
            assert_eq!(told.gaps.len(), 1, "behind message {number}: {:?}", told.gaps);
            let gap = &told.gaps[0];
            assert_eq!(gap.after, all[*number].offset, "behind message {number}");
            // The first record that is left may be no message.
            let (last_gone, first_left) = (all[edge - 1].offset, all[edge].offset);
            assert!(last_gone < gap.before && gap.before <= first_left, "behind message {number}: {gap:?}");
        } else {
            assert_eq!(told.gaps, [], "behind message {number}");
        }
    }
    // Whoever was connected has missed nothing, and everybody goes on.
    publish(&first, 10).await;
    let newest = all[messages - 1].offset;
    for listener in connected.iter().chain(late.iter().map(|(_, listener)| listener)) {
        let newer = |told: &Told| told.messages.iter().filter(|message| message.offset > newest).count();
        listener.until("what follows", |told| newer(told) == 10).await;
    }
    for listener in &connected {
        assert_eq!(listener.told().losses(), (0, 0));
    }
    println!(
        "{edge} of {messages} messages trimmed: {} clients concerned, one gap each; {} others, none",
        concerned.len(),
        others.len() + connected.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_flushed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(server) = brokers::had(Redis::start(RedisOptions::new(folder.path()))) else { return };
    let log = brokers::redis_log(&server);
    deleted_under_clients(&log, async || {
        server.cli(&["FLUSHALL"]).expect("flushed");
    })
    .await;
}

/// Deletes the log under clients of two nodes. Each is told once, and goes on in the next history.
pub async fn deleted_under_clients(log: &str, delete: impl AsyncFnOnce()) {
    const EACH: usize = 20;
    let nodes = [gateway(log).await, gateway(log).await];
    let mut listeners = Listener::live(&nodes[0].url(), EACH).await;
    listeners.extend(Listener::live(&nodes[1].url(), EACH).await);
    publish(&nodes[0], 100).await;
    for listener in &listeners {
        listener.until("all messages", |told| told.messages.len() == 100).await;
    }
    let deleted = Instant::now();
    delete().await;
    for listener in &listeners {
        listener.until("the reset", |told| !told.resets.is_empty()).await;
    }
    let took: Vec<_> = listeners.iter().map(|listener| listener.told().resets[0] - deleted).collect();
    let (fastest, slowest) = (took.iter().min(), took.iter().max());
    println!("deleted under {} clients of 2 nodes: told after {fastest:.2?} to {slowest:.2?}", took.len());
    for (node, count) in [(0, 10), (1, 10)] {
        publish(&nodes[node], count).await;
    }
    for listener in &listeners {
        listener.until("what follows", |told| told.messages.len() == 20).await;
        assert_eq!(listener.told().losses(), (0, 1));
    }
}

/// What is left of a log whose primary was lost with its end.
struct FailedOver {
    gateway: Gateway,
    /// Has seen 70 messages, of which the last 20 are lost.
    live: Listener,
    proxy: ChaosProxy,
    replica: Redis,
    _folders: [tempfile::TempDir; 2],
}

impl FailedOver {
    async fn new() -> Option<FailedOver> {
        FailedOver::after(async |_| {}).await
    }

    /// Does something with the gateway, and then loses the primary with the end of the log. The gateway still asks for it.
    async fn after(first: impl AsyncFnOnce(&Gateway)) -> Option<FailedOver> {
        let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let [primary, replica] = [0, 1].map(|n| Redis::start(RedisOptions::new(folders[n].path())));
        let (mut primary, replica) = (brokers::had(primary)?, brokers::had(replica)?);
        let at = SocketAddr::from(([127, 0, 0, 1], primary.port()));
        let proxy = ChaosProxy::start(at).await.expect("a proxy");
        let stream = format!("t{:016x}", rand::random::<u64>());
        let gateway = gateway(&format!("redis://{}?stream={stream}", proxy.address())).await;
        first(&gateway).await;
        let live = Listener::live(&gateway.url(), 1).await.remove(0);
        publish(&gateway, 50).await;
        replica.replica_of(&primary).expect("a replica");
        replica.cli(&["REPLICAOF", "127.0.0.1", "1"]).expect("cut off from the primary, which goes on");
        publish(&gateway, 20).await;
        live.until("all messages", |told| told.messages.len() == 70).await;
        primary.kill().expect("killed");
        replica.cli(&["REPLICAOF", "NO", "ONE"]).expect("promoted");
        replica
            .cli(&["XADD", &stream, "*", "topic", "plant/0/alarm", "payload", r#"{"n":70}"#])
            .expect("hides the loss");
        Some(FailedOver { gateway, live, proxy, replica, _folders: folders })
    }

    fn lead_to_the_replica(&self) {
        self.proxy.retarget(SocketAddr::from(([127, 0, 0, 1], self.replica.port())));
    }
}

/// Clients that were there are told once, and are sent what is new: the one message that hides the loss, and what follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_fails_over_under_a_client() {
    let Some(over) = FailedOver::new().await else { return };
    over.lead_to_the_replica();
    over.live.until("the reset", |told| !told.resets.is_empty()).await;
    publish(&over.gateway, 10).await;
    over.live.until("what follows", |told| told.messages.len() >= 11).await;
    let told = over.live.told();
    assert_eq!((told.losses(), told.messages.len()), ((0, 1), 11), "what stood was sent before");
}

/// A client that was slow meanwhile gets all that still stands and it has not had; and a message that still stands is known as stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_fails_over_under_a_slow_client() {
    const LARGE: usize = 600;
    let mut slow = None;
    let publish_first = async |client: &Client| {
        let first = client.publish("plant/0/first").message_id("first").json(&0).expect("JSON");
        first.send().await.expect("a confirm")
    };
    let over = FailedOver::after(async |gateway| {
        let way = ChaosProxy::start(gateway.address()).await.expect("a proxy");
        let url = format!("ws://{}/v1/ws", way.address());
        let client = Client::builder(url).token(tokens::all("slow")).build().expect("a client");
        client.connect();
        let mut subscription = client.subscribe("plant/#").open().expect("a subscription");
        publish_first(&client).await;
        within("the first message", subscription.next_message()).await.expect("a message");
        way.freeze();
        let quick = Listener::live(&gateway.url(), 1).await.remove(0);
        let ledger = Ledger::new();
        let mut publisher =
            HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger).with_padding(20_000);
        for _ in 0..LARGE / 10 {
            publisher.publish(&["plant/0/large"; 10]).await;
        }
        // What the node has not read by now would come to those who subscribe next.
        quick.until("the large ones", |told| told.messages.len() >= LARGE).await;
        slow = Some((way, client, subscription));
    })
    .await;
    let (Some(over), Some((way, client, mut subscription))) = (over, slow) else { return };
    over.lead_to_the_replica();
    over.live.until("the reset", |told| !told.resets.is_empty()).await;
    publish(&over.gateway, 10).await;
    way.heal();
    // 600 and 50 stand, of the 20 that are lost none can be due any more; then the one that hides the loss, and ten.
    let (mut messages, mut resets) = (Vec::new(), 0);
    while messages.len() < LARGE + 50 + 11 {
        match within("what stands", subscription.next()).await.expect("it goes on") {
            Event::Message(message) => messages.push(message.topic().to_owned()),
            Event::Subscribed(Outcome::Reset(_)) => resets += 1,
            _ => {}
        }
    }
    let large = messages.iter().filter(|topic| *topic == "plant/0/large").count();
    assert_eq!((large, resets), (LARGE, 1), "none is missing, and none comes twice");
    assert!(publish_first(&client).await.duplicate, "it stands");
}

/// The replica that takes over lacks the newest messages, and one later write hides it. Every cursor in the lost part is
/// told; those before it go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_fails_over_without_its_tail() {
    let Some(mut over) = FailedOver::new().await else { return };
    over.gateway.kill().await;
    over.lead_to_the_replica();
    over.gateway.start_again().await;
    let late: Vec<_> = [0, 30, 49, 50, 51, 60, 68, 69]
        .map(|number| {
            let start = Start::After(over.live.cursor_after(number));
            (number, Listener::start(&over.gateway.url(), &format!("late-{number}"), start))
        })
        .into_iter()
        .collect();
    for (number, listener) in &late {
        let lost = *number >= 50;
        listener
            .until("its verdict", |told| {
                if lost { !told.resets.is_empty() } else { told.messages.len() == 50 - number }
            })
            .await;
        let told = listener.told();
        assert_eq!(told.resets.len(), usize::from(lost), "behind message {number}");
        assert_eq!(told.gaps, [], "behind message {number}");
    }
    println!(
        "20 of 70 messages lost in a failover: 5 cursors in the lost part, one reset each; 3 before it, none"
    );
}
