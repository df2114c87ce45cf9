//! Commands while a node is killed, clients move between nodes and devices restart: each is done once, or said to have failed or
//! expired, never both, and none goes without a word.

use crate::brokers;
use anabranch::{Client, Progress};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::proxy::ChaosProxy;
use anabranch_tests::tokens::Token;
use anabranch_tests::wait::{until, within};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::process::{Child, Command};

const ROOT: &str = "iotsphere";
const DEVICES: usize = 5;
const CLIENTS: usize = 10;
const COMMANDS: usize = 1_000;
/// Of nodes.
const KILLS: usize = 5;
/// Of devices.
const DEATHS: usize = 50;
/// Time enough for whatever happens here.
const LONG: Duration = Duration::from_secs(300);

/// A device's process. It outlives no test, and what it does it writes into a file beside its journal.
struct Device {
    child: Child,
}

impl Device {
    fn start(number: usize, address: SocketAddr, folder: &Path) -> Device {
        let name = format!("d{number}");
        let token = Token::of(&name)
            .read(&format!("{ROOT}/devices/{name}/commands/request"))
            .write(&format!("{ROOT}/devices/{name}/commands/response/+"))
            .sign();
        let mut command = Command::new(env!("CARGO_BIN_EXE_served-device"));
        command.args([&format!("ws://{address}"), &token, &name]);
        command.arg(folder.join(&name)).arg(folder.join(format!("{name}.done")));
        Device { child: command.kill_on_drop(true).spawn().expect("a process") }
    }

    /// As if the power failed: nothing is said to anybody.
    async fn kill(mut self) {
        within("its end", self.child.kill()).await.expect("killed");
    }
}

/// How often each command was done, by the number in its arguments.
fn done(folder: &Path) -> HashMap<u64, u32> {
    let mut times = HashMap::new();
    for number in 0..DEVICES {
        // Of a device that has done nothing there is no file.
        let text = std::fs::read_to_string(folder.join(format!("d{number}.done"))).unwrap_or_default();
        for line in text.lines() {
            *times.entry(line.parse().expect("a number")).or_default() += 1;
        }
    }
    times
}

fn commander(name: &str) -> Token {
    Token::of(name)
        .read(&format!("{ROOT}/devices/+/commands/response/{name}"))
        .write(&format!("{ROOT}/devices/+/commands/request"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_commands_on_redis_are_each_done_once_or_said_not_to_be() {
    let Some(server) = brokers::had(anabranch_brokers::shared::redis()) else { return };
    a_thousand_commands(&brokers::redis_log(&server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_commands_on_rabbitmq_are_each_done_once_or_said_not_to_be() {
    let Some(server) = brokers::had(anabranch_brokers::shared::rabbitmq()) else { return };
    a_thousand_commands(&brokers::rabbitmq_log(&server)).await;
}

async fn a_thousand_commands(log: &str) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let node = || Gateway::with(Settings::default().set("log", &format!("{log:?}")));
    let mut nodes = [node().await, node().await];
    let folder = tempfile::tempdir().expect("a folder");
    let mut proxies = Vec::new();
    for number in 0..CLIENTS + DEVICES {
        proxies.push(ChaosProxy::start(nodes[number % 2].address()).await.expect("a proxy"));
    }
    let device = |number: usize| Device::start(number, proxies[CLIENTS + number].address(), folder.path());
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

    let (mut jobs, mut targets, mut dead) = (Vec::new(), Vec::new(), None);
    for number in 0..COMMANDS {
        let target = random.random_range(0..DEVICES);
        targets.push(target);
        // Some are given no time at all.
        let ttl = if number % 50 == 7 { Duration::ZERO } else { LONG };
        jobs.push(
            commands[number % CLIENTS].send(&format!("d{target}"), "count", &number, ttl).expect("queued"),
        );
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
            for client in &clients {
                client.pause("radio");
                client.resume("radio");
            }
        }
        if number % (COMMANDS / DEATHS) == 10 {
            let which = number / (COMMANDS / DEATHS) % DEVICES;
            // In the middle of its work, if it has any.
            let work = || {
                std::fs::metadata(folder.path().join(format!("d{which}.done"))).map_or(0, |file| file.len())
            };
            let before = work();
            until("that it works", async || {
                let idle = jobs
                    .iter()
                    .zip(&targets)
                    .all(|(job, target)| *target != which || job.progress().is_final());
                // Behind a node that is dead it waits as we do.
                (idle || dead.is_some() || work() > before).then_some(())
            })
            .await;
            // One life at a time.
            if let Some(before) = devices[which].take() {
                before.kill().await;
            }
            devices[which] = Some(device(which));
        }
    }
    for client in &clients {
        client.pause("radio");
        client.resume("radio");
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (number, job) in jobs.iter_mut().enumerate() {
        let ended = within("the end of a command", job.ended()).await;
        let times = done(folder.path()).get(&(number as u64)).copied().unwrap_or(0);
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
    println!("{counts:?}, {DEATHS} devices and {KILLS} nodes killed");
    assert!(counts["done"] > COMMANDS / 2 && counts["expired"] >= COMMANDS / 50, "{counts:?}");
}

#[tokio::test]
async fn nobody_else_reads_or_gives_the_answers_and_a_command_that_was_not_sent_is_taken_back() {
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
    alice.connect();
    let job = commands.send("d1", "count", &2, LONG).expect("queued");
    // Another device has heard of the id, and answers on the topic that it may write.
    let other = Token::of("d2").write("iotsphere/devices/d2/commands/response/+").sign();
    let other = Client::builder(gateway.url()).token(other).build().expect("a client");
    other.connect();
    let forged = other.publish("iotsphere/devices/d2/commands/response/alice").correlation_id(job.id());
    forged.payload_text(r#"{"status":"done","result":"forged"}"#).send().await.expect("a confirm");
    let device = Device::start(1, gateway.address(), folder.path());
    assert!(!within("the command", async { (job.clone().ended().await, job.cancel()).1 }).await, "too late");
    assert_eq!(within("a reply", job.reply::<Value>()).await, Ok(json!({ "did": 2 })));
    let refused = commands.send("d1", "count", &3, LONG).expect("queued").reply::<Value>();
    assert_eq!(within("a refusal", refused).await, Err(anabranch::CommandError::Failed("not today".into())));
    assert_eq!(done(folder.path()).get(&1), None);
    device.kill().await;
}
