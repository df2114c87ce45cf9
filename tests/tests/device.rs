//! The device agent as a process, against a real gateway: it reports, obeys its shadow, tells what it does not obey, and takes
//! up its life after a restart.

#![forbid(unsafe_code)]

use anabranch::{Client, Event, Message, Start, Subscription};
use anabranch_tests::gateway_process::{Gateway, Settings, binary};
use anabranch_tests::tokens;
use anabranch_tests::wait::within;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const DOCUMENT: &str = "iotsphere/devices/d1/shadow/document";
const DESIRED: &str = "iotsphere/devices/d1/shadow/desired";

/// A gateway that keeps shadows.
async fn keeper() -> Gateway {
    Gateway::with(Settings::default().set("shadows.enabled", "true")).await
}

/// Starts the agent as the device `d1`.
fn start(gateway: &Gateway, folder: &Path) -> Child {
    start_told(gateway, folder, Stdio::inherit())
}

/// The same, with its log to a place.
fn start_told(gateway: &Gateway, folder: &Path, log: Stdio) -> Child {
    let token = folder.join("token");
    std::fs::write(&token, tokens::all("d1")).expect("the token");
    Command::new(binary::path(binary::AGENT))
        .args(["--url", &gateway.url(), "--device-id", "d1", "--interval-ms", "200", "--stop-with-stdin"])
        .arg("--token-file")
        .arg(&token)
        .stdin(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("the agent's binary")
}

/// Somebody who watches the device.
struct Watcher {
    client: Client,
    events: Subscription,
}

impl Watcher {
    fn of(gateway: &Gateway, filter: &str) -> Watcher {
        let client = Client::builder(gateway.url()).token(tokens::all("watcher")).build().expect("a client");
        let events = client.subscribe(filter).from(Start::Earliest).open().expect("a filter");
        client.connect();
        Watcher { client, events }
    }

    async fn message(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Value {
        let found = async {
            loop {
                match self.events.next().await {
                    Some(Event::Message(message)) if wanted(&message) => {
                        return message.json().expect("JSON");
                    }
                    Some(Event::Closed(why)) => panic!("closed: {why:?}"),
                    Some(_) => {}
                    None => panic!("the stream ended"),
                }
            }
        };
        within(what, found).await
    }

    /// The state of the first document from here on that fits.
    async fn state(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let state = |message: &Message| message.json::<Value>().expect("JSON")["state"].take();
        let fits = |message: &Message| message.topic() == DOCUMENT && fits(&state(message));
        self.message(what, fits).await["state"].take()
    }

    async fn wish(&self, desired: Value) {
        let publish = self.client.publish(DESIRED).json(&desired).expect("JSON").send();
        within("the wish's confirm", publish).await.expect("stored");
    }
}

#[tokio::test]
async fn the_device_reports_obeys_refuses_and_remembers() {
    let gateway = keeper().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut watcher = Watcher::of(&gateway, "iotsphere/devices/d1/#");
    let mut agent = start(&gateway, folder.path());

    let first = watcher.state("the first report", |_| true).await;
    assert_eq!((&first["reported"]["intervalMs"], first.get("desired")), (&json!(200), None));

    let cpu = |message: &Message| message.topic() == "iotsphere/devices/d1/telemetry/cpu";
    let load = watcher.message("the CPU's load", cpu).await;
    assert!((0.0..=100.0).contains(&load["total"].as_f64().expect("a number")), "{load}");

    watcher.wish(json!({ "intervalMs": 150, "metrics": { "disk": false } })).await;
    let obeyed = watcher.state("obedience", |state| state["reported"]["intervalMs"] == 150).await;
    assert_eq!(obeyed["reported"]["metrics"]["disk"], false);

    // One field cannot be done, the other can.
    watcher.wish(json!({ "intervalMs": 5, "metrics": { "memory": false } })).await;
    let refused = watcher.state("a refusal", |state| state["reported"].get("refused").is_some()).await;
    let (desired, reported) = (&refused["desired"], &refused["reported"]);
    assert_eq!((&desired["intervalMs"], &reported["intervalMs"]), (&json!(5), &json!(150)));
    assert_eq!(reported["metrics"]["memory"], false);
    let why = reported["refused"]["/intervalMs"].as_str().expect("why");
    assert!(why.contains("100 to 60000, and is 5"), "{why}");

    // Closing its standard input is asking it to stop.
    drop(agent.stdin.take());
    let status = within("the agent's end", agent.wait()).await.expect("a child");
    assert!(status.success(), "{status}");

    // Its next life goes on as before: it does what is desired meanwhile, and has nothing else to say.
    watcher.wish(json!({ "intervalMs": null, "metrics": { "cpu": false } })).await;
    let _agent = start(&gateway, folder.path());
    let again =
        watcher.state("its next life", |state| state["reported"]["metrics"]["cpu"] == json!(false)).await;
    let mut expected = reported.clone();
    expected["metrics"]["cpu"] = json!(false);
    expected.as_object_mut().expect("an object").remove("refused");
    assert_eq!(
        again["reported"], expected,
        "what it did outlives a restart, and what nobody desires is not refused"
    );
}

#[tokio::test]
async fn without_a_keeper_of_shadows_the_device_measures_and_says_what_is_missing() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut watcher = Watcher::of(&gateway, "iotsphere/devices/d1/#");
    let mut agent = start_told(&gateway, folder.path(), Stdio::piped());
    let memory = |message: &Message| message.topic() == "iotsphere/devices/d1/telemetry/memory";
    watcher.message("a reading", memory).await;
    let mut lines = BufReader::new(agent.stderr.take().expect("its log")).lines();
    within("the warning", async {
        while let Some(line) = lines.next_line().await.expect("a line") {
            if line.contains("shadows.enabled = true") {
                return;
            }
        }
        panic!("the agent ended");
    })
    .await;
}

#[tokio::test]
async fn the_device_measures_and_lists_its_processes_when_it_is_told_to() {
    let gateway = keeper().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = start(&gateway, folder.path());
    let client = Client::builder(gateway.url()).token(tokens::all("operator")).build().expect("a client");
    let commands = client.commands("iotsphere", "operator").expect("a filter");
    let mut reports = client.subscribe(DOCUMENT).from(Start::Earliest).open().expect("a filter");
    client.connect();
    // It serves by then: its requests are subscribed to together with its shadow.
    within("a report", reports.next_message()).await.expect("a report");
    let ask = |name: &str, arguments: Value| {
        let job = commands.send("d1", name, &arguments, std::time::Duration::from_secs(60)).expect("queued");
        job.reply::<Value>()
    };
    let measured = within("a measurement", ask("measure", Value::Null)).await.expect("measured");
    assert!(measured["memory"]["totalBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{measured}");
    let top = within("a list", ask("top", json!({ "count": 3 }))).await.expect("listed");
    let processes = top["processes"].as_array().expect("a list");
    assert!(processes.len() == 3 && processes.iter().all(|one| one["pid"].as_u64().is_some()), "{top}");
    for (name, arguments) in [("top", json!({ "count": "all" })), ("reboot", Value::Null)] {
        let refused = within("a refusal", ask(name, arguments)).await;
        assert!(matches!(refused, Err(anabranch::CommandError::Failed(_))), "{refused:?}");
    }
    drop(agent.stdin.take());
    assert!(within("the agent's end", agent.wait()).await.expect("a child").success());
}
