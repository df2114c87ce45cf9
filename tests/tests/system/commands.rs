//! Commands while a node is killed, clients move between nodes and devices restart: each is done once, or said to have failed or
//! expired, never both, and none goes without a word.

use anabranch::{Client, Progress};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::proxy::ChaosProxy;
use anabranch_tests::tokens::Token;
use anabranch_tests::wait::{until, within};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

const ROOT: &str = "iotsphere";
const DEVICES: usize = 5;
const CLIENTS: usize = 10;
const COMMANDS: usize = 1_000;
const KILLS: usize = 5;
/// Time enough for whatever happens here.
const LONG: Duration = Duration::from_secs(300);

/// How often each command was done, by the number in its arguments.
type Done = Arc<Mutex<HashMap<u64, u32>>>;

/// A device in a life of its own: what it does, it counts.
struct Device {
    client: Client,
    serving: JoinHandle<()>,
}

impl Device {
    fn start(number: usize, address: std::net::SocketAddr, folder: &Path, done: &Done) -> Device {
        let name = format!("d{number}");
        let token = Token::of(&name)
            .read(&format!("{ROOT}/devices/{name}/commands/request"))
            .write(&format!("{ROOT}/devices/{name}/commands/response/+"))
            .sign();
        let client = Client::builder(format!("ws://{address}")).token(token).build().expect("a client");
        client.connect();
        let serve = client.serve_commands(ROOT, &name).journal(folder.join(&name));
        let done = Arc::clone(done);
        let serving = tokio::spawn(async move {
            let handler = |request: anabranch::Request| {
                let done = Arc::clone(&done);
                async move {
                    let number: Value = request.json().map_err(|error| error.to_string())?;
                    let number = number.as_u64().ok_or("no number")?;
                    *done.lock().expect("no panic").entry(number).or_default() += 1;
                    // A place at which it may be interrupted: done, and not answered.
                    tokio::task::yield_now().await;
                    if number % 10 == 3 { Err("not today".into()) } else { Ok(json!({ "did": number })) }
                }
            };
            serve.run(handler).await.expect("served until it is dropped");
        });
        Device { client, serving }
    }

    /// As if the power failed: nothing is said to anybody.
    async fn end(self) {
        self.serving.abort();
        let _ = self.serving.await;
        self.client.close().await;
    }
}

fn commander(name: &str) -> Token {
    Token::of(name)
        .read(&format!("{ROOT}/devices/+/commands/response/{name}"))
        .write(&format!("{ROOT}/devices/+/commands/request"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_commands_are_each_done_once_or_said_not_to_be() {
    let Some(server) = crate::brokers::had(anabranch_brokers::shared::redis()) else { return };
    let log = crate::brokers::redis_log(&server);
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let node = || Gateway::with(Settings::default().set("log", &format!("{log:?}")));
    let mut nodes = [node().await, node().await];
    let folder = tempfile::tempdir().expect("a folder");
    let done = Done::default();
    let mut proxies = Vec::new();
    for number in 0..CLIENTS + DEVICES {
        proxies.push(ChaosProxy::start(nodes[number % 2].address()).await.expect("a proxy"));
    }
    let device =
        |number: usize| Device::start(number, proxies[CLIENTS + number].address(), folder.path(), &done);
    let mut devices: Vec<Option<Device>> = (0..DEVICES).map(|number| Some(device(number))).collect();
    let clients: Vec<Client> = (0..CLIENTS)
        .map(|number| {
            let token = commander(&format!("user{number}")).sign();
            let url = format!("ws://{}", proxies[number].address());
            let client = Client::builder(url).token(token).build().expect("a client");
            client.connect();
            client
        })
        .collect();
    let commands: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, client)| client.commands(ROOT, &format!("user{number}")).expect("a filter"))
        .collect();

    let (mut jobs, mut dead) = (Vec::new(), None);
    for number in 0..COMMANDS {
        let target = format!("d{}", random.random_range(0..DEVICES));
        // Some are given no time at all.
        let ttl = if number % 50 == 7 { Duration::ZERO } else { LONG };
        jobs.push(commands[number % CLIENTS].send(&target, "count", &number, ttl).expect("queued"));
        if number % (COMMANDS / KILLS) == 90 {
            // In the middle of what is under way.
            let heard = jobs.iter().filter(|job| job.progress().is_final()).count();
            until("some more answers", async || {
                let now = jobs.iter().filter(|job| job.progress().is_final()).count();
                (now > heard || now + 40 > jobs.len()).then_some(())
            })
            .await;
            let which = random.random_range(0..2);
            nodes[which].kill().await;
            dead = Some(which);
        }
        if number % 20 == 5 {
            let who = random.random_range(0..proxies.len());
            proxies[who].retarget(nodes[random.random_range(0..2)].address());
            proxies[who].reset();
        }
        if number % (COMMANDS / KILLS) == 130 {
            if let Some(which) = dead.take() {
                nodes[which].start_again().await;
            }
            for client in clients.iter().chain(devices.iter().flatten().map(|device| &device.client)) {
                client.pause("radio");
                client.resume("radio");
            }
        }
        if number % 100 == 50 {
            let which = random.random_range(0..DEVICES);
            // One life at a time.
            if let Some(before) = devices[which].take() {
                before.end().await;
            }
            devices[which] = Some(device(which));
        }
    }
    for client in clients.iter().chain(devices.iter().flatten().map(|device| &device.client)) {
        client.pause("radio");
        client.resume("radio");
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (number, job) in jobs.iter_mut().enumerate() {
        let ended = within("the end of a command", job.ended()).await;
        let times = done.lock().expect("no panic").get(&(number as u64)).copied().unwrap_or(0);
        let (word, right) = match &ended {
            Progress::Done(result) => {
                let did = serde_json::from_str::<Value>(result).expect("JSON");
                ("done", times == 1 && did == json!({ "did": number }))
            }
            Progress::Failed(why) if **why == *"not today" => ("refused by the device", times == 1),
            // Interrupted: begun at most once.
            Progress::Failed(_) => ("failed", times <= 1),
            Progress::Expired => ("expired", times == 0),
            _ => ("without a word", false),
        };
        *counts.entry(word).or_default() += 1;
        assert!(right, "command {number} {}: {ended:?}, done {times} times", job.id());
    }
    println!("{counts:?}");
    assert!(counts["done"] > COMMANDS / 2 && counts["expired"] >= COMMANDS / 50, "{counts:?}");
}

#[tokio::test]
async fn nobody_else_reads_the_answers_and_a_command_that_was_not_sent_is_taken_back() {
    let gateway = Gateway::start().await;
    let spy = Client::builder(gateway.url()).token(commander("spy").sign()).build().expect("a client");
    spy.connect();
    let mut others = spy.subscribe("iotsphere/devices/+/commands/response/alice").open().expect("a filter");
    let refused = within("a refusal", async {
        loop {
            if let Some(anabranch::Event::Closed(why)) = others.next_event().await {
                return why;
            }
        }
    });
    assert!(matches!(refused.await, anabranch::Closed::Refused { .. }));

    let alice = Client::builder(gateway.url()).token(commander("alice").sign()).build().expect("a client");
    let commands = alice.commands(ROOT, "alice").expect("a filter");
    let job = commands.send("d1", "count", &1, LONG).expect("queued");
    assert_eq!(job.progress(), Progress::Queued, "it is not connected");
    assert!(job.cancel());
    assert_eq!(job.progress(), Progress::Cancelled);

    let folder = tempfile::tempdir().expect("a folder");
    let done = Done::default();
    let device = Device::start(1, gateway.address(), folder.path(), &done);
    alice.connect();
    let job = commands.send("d1", "count", &2, LONG).expect("queued");
    assert!(!within("the command", async { (job.clone().ended().await, job.cancel()).1 }).await, "too late");
    assert_eq!(within("a reply", job.reply::<Value>()).await, Ok(json!({ "did": 2 })));
    let refused = commands.send("d1", "count", &3, LONG).expect("queued").reply::<Value>();
    assert_eq!(within("a refusal", refused).await, Err(anabranch::CommandError::Failed("not today".into())));
    assert_eq!(done.lock().expect("no panic").get(&1), None);
    device.end().await;
}
