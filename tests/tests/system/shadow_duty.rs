//! Who acts on shadows is killed again and again, under load: no update is lost, none counts twice, no version is used twice.

use crate::brokers;
use anabranch::{Client, Event, Start};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::http_client::HttpClient;
use anabranch_tests::tokens;
use anabranch_tests::wait::{until, within};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const NODES: usize = 3;
const DEVICES: usize = 8;
const WRITERS: usize = 4;
const FAIL_OVERS: usize = 50;
/// Between two updates of one writer. What is written is read again at each start.
const PACE: Duration = Duration::from_millis(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_acting_node_is_killed_on_redis() {
    let Some(server) = brokers::had(anabranch_brokers::shared::redis()) else { return };
    fail_over(&brokers::redis_log(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_acting_node_is_killed_on_rabbitmq() {
    let Some(server) = brokers::had(anabranch_brokers::shared::rabbitmq()) else { return };
    fail_over(&brokers::rabbitmq_log(&server)).await;
}

/// What a writer has asked for and seen confirmed.
struct Writer {
    number: usize,
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    /// By message id: device.
    asked: HashMap<String, usize>,
    /// By device: what it wrote last.
    last: BTreeMap<usize, u64>,
}

impl Writer {
    /// Writes to one device after the other, each time a number that is one higher, through whichever node answers.
    async fn run(mut self, written: Arc<AtomicU64>) -> Writer {
        let bearer = format!("Bearer {}", tokens::all("writer"));
        let mut connection: Option<HttpClient> = None;
        let mut node = self.number;
        let mut count = 0;
        let mut ticks = tokio::time::interval(PACE);
        while !self.stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            count += 1;
            let device = count % DEVICES;
            let id = format!("w{}-{count}", self.number);
            let number = count as u64;
            // A conflict would be a refusal: nothing here may be refused.
            let leaf = if count % 2 == 0 { "desired" } else { "update" };
            let patch = json!({ format!("w{}", self.number): number });
            let payload = if leaf == "desired" { patch } else { json!({ "state": { "desired": patch } }) };
            let topic = format!("iotsphere/devices/d{device}/shadow/{leaf}");
            let envelope =
                json!({ "metadata": { "messageId": id, "topic": topic }, "payload": payload }).to_string();
            within("a confirm", async {
                loop {
                    if connection.is_none() {
                        node = (node + 1) % self.addresses.len();
                        connection = HttpClient::connect(self.addresses[node]).await.ok();
                    }
                    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
                    let sent = match &mut connection {
                        Some(open) => {
                            open.request("POST", "/v1/publish", &headers, envelope.as_bytes()).await.ok()
                        }
                        None => None,
                    };
                    match sent {
                        Some(answer) if answer.json()["results"][0]["position"].is_string() => break,
                        Some(_) => tokio::task::yield_now().await,
                        None => connection = None,
                    }
                }
            })
            .await;
            self.asked.insert(id, device);
            self.last.insert(device, number);
            written.fetch_add(1, Ordering::Relaxed);
        }
        self
    }
}

async fn on_duty(nodes: &[Gateway]) -> Option<usize> {
    let mut found = None;
    for (number, node) in nodes.iter().enumerate() {
        if node.metric("anabranch_shadow_on_duty").await == Some(1.0) {
            found = Some(number);
        }
    }
    found
}

async fn fail_over(log: &str) {
    let settings = || {
        Settings::default()
            .set("log", &format!("{log:?}"))
            .set("shadows.enabled", "true")
            .set("topics.checkpoint", "\"newest\"")
            .set("shadows.rate", "1000000")
    };
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(Gateway::with(settings()).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let addresses: Vec<SocketAddr> = nodes.iter().map(Gateway::address).collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let (addresses, stop) = (addresses.clone(), Arc::clone(&stop));
            let writer = Writer { number, addresses, stop, asked: HashMap::new(), last: BTreeMap::new() };
            tokio::spawn(writer.run(Arc::clone(&written)))
        })
        .collect();

    let began = std::time::Instant::now();
    let mut before = None;
    let mut changes = 0;
    for _ in 0..FAIL_OVERS {
        let acting = until("a node on duty", async || on_duty(&nodes).await).await;
        changes += usize::from(before.replace(acting).is_some_and(|before| before != acting));
        // It is in the middle of it.
        let goal = written.load(Ordering::Relaxed) + 20;
        until("load", async || (written.load(Ordering::Relaxed) >= goal).then_some(())).await;
        nodes[acting].kill().await;
        nodes[acting].start_again().await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut asked: HashMap<String, usize> = HashMap::new();
    let mut last: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for writer in writers {
        let writer = writer.await.expect("a writer");
        last.extend(writer.last.iter().map(|(device, number)| ((*device, writer.number), *number)));
        asked.extend(writer.asked);
    }
    let took = began.elapsed();

    // What clients are told, from the first record on, at a node that has read it all anew.
    let reader = Client::builder(nodes[0].url()).token(tokens::all("app")).build().expect("a client");
    reader.connect();
    let mut judged = Judged::default();
    let subscribe = reader.subscribe("iotsphere/devices/+/shadow/+").from(Start::Earliest);
    let mut subscription = subscribe.open().expect("a subscription");
    while judged.answers.len() < asked.len() {
        if let Event::Message(message) =
            within("one more answer", subscription.next()).await.expect("it goes on")
        {
            judged.take(message.topic(), message.envelope_text());
        }
    }
    let mut documents = BTreeMap::new();
    let mut now = reader.subscribe("iotsphere/devices/+/shadow/document").open().expect("a subscription");
    within("every document", async {
        loop {
            match now.next().await.expect("it goes on") {
                Event::Message(message) => {
                    _ = documents.insert(message.topic().to_owned(), message.json::<Value>())
                }
                Event::Live => break,
                _ => {}
            }
        }
    })
    .await;
    let lost = asked.keys().filter(|id| !judged.answers.contains_key(*id)).count();
    println!(
        "{FAIL_OVERS} kills of the acting node ({changes} times another one took over), {} updates in {:.1} s, {lost} \
         lost, {} versions used twice",
        asked.len(),
        took.as_secs_f64(),
        judged.reused
    );
    assert_eq!((lost, judged.reused), (0, 0));
    for device in 0..DEVICES {
        let topic = format!("iotsphere/devices/d{device}/shadow/document");
        let document = documents[&topic].as_ref().expect("JSON");
        let count = asked.values().filter(|of| **of == device).count();
        assert_eq!(document["version"], json!(count), "each update is one version: {document}");
        for writer in 0..WRITERS {
            let expected = last.get(&(device, writer)).map_or(Value::Null, |number| json!(number));
            assert_eq!(document["state"]["desired"][format!("w{writer}")], expected, "{document}");
        }
    }
}

/// What was told.
#[derive(Default)]
struct Judged {
    /// By request: topic, incarnation and version.
    answers: HashMap<String, (String, u64, u64)>,
    /// By device, incarnation and version: the request.
    versions: HashMap<(String, u64, u64), String>,
    reused: usize,
}

impl Judged {
    fn take(&mut self, topic: &str, envelope: &str) {
        let envelope: Value = serde_json::from_str(envelope).expect("JSON");
        let Some(to) = envelope["metadata"]["correlationId"].as_str() else { return };
        assert!(topic.ends_with("/accepted"), "{envelope}");
        let number = |name: &str| envelope["payload"][name].as_u64().expect("a number");
        let answer = (topic.to_owned(), number("incarnation"), number("version"));
        if self.versions.insert(answer.clone(), to.to_owned()).is_some_and(|before| before != to) {
            self.reused += 1;
        }
        let before = self.answers.insert(to.to_owned(), answer);
        assert!(before.is_none(), "{to} is answered twice: {before:?}, {envelope}");
    }
}
