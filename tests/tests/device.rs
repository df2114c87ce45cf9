//! The device agent as a process, against a real gateway: it reports, obeys, tells what it does not obey, and takes up its
//! life after a restart.

#![forbid(unsafe_code)]

use anabranch::{Client, Event, Message, Start, Subscription};
use anabranch_tests::gateway_process::{Gateway, binary};
use anabranch_tests::tokens;
use anabranch_tests::wait::within;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::process::{Child, Command};

const REPORTED: &str = "iotsphere/devices/d1/shadow/reported";
const DESIRED: &str = "iotsphere/devices/d1/shadow/desired";

/// Starts the agent as the device `d1`.
fn start(gateway: &Gateway, folder: &Path) -> Child {
    let token = folder.join("token");
    std::fs::write(&token, tokens::all("d1")).expect("the token");
    Command::new(binary::path(binary::AGENT))
        .args(["--url", &gateway.url(), "--device-id", "d1", "--interval-ms", "200", "--stop-with-stdin"])
        .arg("--token-file")
        .arg(&token)
        .stdin(Stdio::piped())
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

    /// The first report from here on that fits.
    async fn report(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let fits = |message: &Message| {
            message.topic() == REPORTED && message.json().is_ok_and(|document| fits(&document))
        };
        self.message(what, fits).await
    }

    async fn wish(&self, desired: Value) {
        let publish = self.client.publish(DESIRED).json(&desired).expect("JSON").send();
        within("the wish's confirm", publish).await.expect("stored");
    }
}

#[tokio::test]
async fn the_device_reports_obeys_refuses_and_remembers() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut watcher = Watcher::of(&gateway, "iotsphere/devices/d1/#");
    let mut agent = start(&gateway, folder.path());

    let first = watcher.report("the first report", |_| true).await;
    assert_eq!(
        (&first["version"], &first["intervalMs"], &first["desiredVersion"]),
        (&json!(1), &json!(200), &json!(null))
    );

    let cpu = |message: &Message| message.topic() == "iotsphere/devices/d1/telemetry/cpu";
    let load = watcher.message("the CPU's load", cpu).await;
    assert!((0.0..=100.0).contains(&load["total"].as_f64().expect("a number")), "{load}");

    watcher.wish(json!({ "version": 7, "intervalMs": 150, "metrics": { "disk": false } })).await;
    let obeyed = watcher.report("obedience", |report| report["desiredVersion"] == 7).await;
    assert_eq!((&obeyed["intervalMs"], &obeyed["metrics"]["disk"]), (&json!(150), &json!(false)));

    watcher.wish(json!({ "version": 8, "intervalMs": 5 })).await;
    let refused = watcher.report("a refusal", |report| report.get("rejected").is_some()).await;
    assert_eq!((&refused["rejected"]["version"], &refused["intervalMs"]), (&json!(8), &json!(150)));

    // Closing its standard input is asking it to stop.
    drop(agent.stdin.take());
    let status = within("the agent's end", agent.wait()).await.expect("a child");
    assert!(status.success(), "{status}");

    let newest = refused["version"].as_u64().expect("a version");
    let _agent = start(&gateway, folder.path());
    let again =
        watcher.report("a report of its next life", |report| report["version"].as_u64() > Some(newest)).await;
    let (life, past) = (again.as_object().expect("an object"), refused.as_object().expect("an object"));
    for field in ["intervalMs", "metrics", "desiredVersion", "rejected"] {
        assert_eq!(life[field], past[field], "{field} outlives a restart");
    }
}

#[tokio::test]
async fn the_device_measures_and_lists_its_processes_when_it_is_told_to() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = start(&gateway, folder.path());
    let client = Client::builder(gateway.url()).token(tokens::all("operator")).build().expect("a client");
    let commands = client.commands("iotsphere", "operator").expect("a filter");
    let mut reports = client.subscribe(REPORTED).from(Start::Earliest).open().expect("a filter");
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
