//! What `docs/SDK.md` shows in Rust: each of its snippets stands here, runs against a real gateway, and is compared with the guide line by line.

use anabranch::shadow::Settled;
use anabranch::store::SqliteStore;
use anabranch::{Client, CommandError, Cursor, Event, Phase, Progress, Start, TokenWhy};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::tokens;
use anabranch_tests::wait::{until, within};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::time::Duration;
use tokio::sync::watch;

type Outcome = Result<(), Box<dyn Error>>;

/// What the user of the app sees.
#[derive(Default)]
struct Ui {
    lines: watch::Sender<Vec<String>>,
}

impl Ui {
    fn show(&self, what: &str, text: &str) {
        self.lines.send_modify(|lines| lines.push(format!("{what} {text}")));
    }

    /// Runs a snippet until the user sees this, or to its end.
    async fn sees(&self, wanted: &str, snippet: impl Future<Output = Outcome>) {
        let mut lines = self.lines.subscribe();
        within(wanted, async {
            tokio::select! {
                seen = lines.wait_for(|lines| lines.iter().any(|line| line == wanted)) => drop(seen),
                ended = snippet => {
                    ended.expect("the snippet succeeds");
                    let lines = self.lines.borrow();
                    assert!(lines.iter().any(|line| line == wanted), "not seen: {wanted}: {lines:#?}");
                }
            }
        })
        .await;
    }
}

async fn gateway() -> Gateway {
    Gateway::with(Settings::default().set("shadows.enabled", "true")).await
}

fn client(gateway: &Gateway) -> Client {
    let client = Client::builder(gateway.url()).token(tokens::all("alice")).build().expect("a client");
    client.connect();
    client
}

/// Publishes, and returns when the gateway has it to show; how far it has come.
async fn publish(gateway: &Gateway, topic: &str, payload: &str) -> Cursor {
    let client = client(gateway);
    let publish = client.publish(topic).payload_text(payload).send();
    gateway.has_read(within("the confirm", publish).await.expect("stored").position).await
}

async fn fetch_token(_: TokenWhy) -> Result<String, std::io::Error> {
    Ok(tokens::all("alice"))
}

#[tokio::test]
async fn connecting() {
    let (gateway, ui) = (gateway().await, Ui::default());
    let url = gateway.url();
    let snippet = async {
        let client = Client::builder(url)
            .token_provider(|why| async move { fetch_token(why).await })
            .client_id("hall-3")
            .build()?;
        client.connect();
        client.wait_live(Duration::from_secs(5)).await?;
        ui.show("phase", client.state().phase.name());
        Ok(())
    };
    ui.sees("phase live", snippet).await;
}

#[tokio::test]
async fn subscribing() {
    let (gateway, ui) = (gateway().await, Ui::default());
    let client = client(&gateway);
    publish(&gateway, "iotsphere/devices/d1/telemetry/fan", "900").await;
    let snippet = async {
        let mut readings =
            client.subscribe("iotsphere/devices/+/telemetry/#").from(Start::Earliest).open()?;
        while let Some(event) = readings.next().await {
            match event {
                Event::Message(message) => ui.show(message.topic(), message.payload_text()),
                Event::Gap(gap) => ui.show("missed", gap.reason.name()),
                Event::Live => ui.show("phase", "live"),
                Event::Closed(why) => ui.show("closed", &format!("{why:?}")),
                _ => {}
            }
        }
        Ok(())
    };
    ui.sees("phase live", snippet).await;
    assert_eq!(ui.lines.borrow()[0], "iotsphere/devices/d1/telemetry/fan 900");
}

#[tokio::test]
async fn beginning_complete() {
    let (gateway, ui) = (gateway().await, Ui::default());
    let client = client(&gateway);
    publish(&gateway, "iotsphere/devices/d1/telemetry/status", "\"on\"").await;
    publish(&gateway, "iotsphere/devices/d2/telemetry/status", "\"off\"").await;
    let snippet = async {
        let mut values = BTreeMap::new();
        let mut named = BTreeSet::new();
        let mut status = client.subscribe("iotsphere/devices/+/telemetry/status").open()?;
        while let Some(event) = status.next().await {
            match event {
                Event::SnapshotBegins => named.clear(),
                Event::Message(message) => {
                    named.insert(message.topic().to_owned());
                    match message.payload_text() {
                        "null" => values.remove(message.topic()),
                        value => values.insert(message.topic().to_owned(), value.to_owned()),
                    };
                }
                // What was not named has no value any more.
                Event::SnapshotEnds { complete: true } => values.retain(|topic, _| named.contains(topic)),
                Event::Live => ui.show("devices", &values.len().to_string()),
                _ => {}
            }
        }
        Ok(())
    };
    ui.sees("devices 2", snippet).await;
}

#[tokio::test]
async fn going_on() {
    let (gateway, ui) = (gateway().await, Ui::default());
    let client = client(&gateway);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("cursor");
    publish(&gateway, "site/door", "1").await;
    let cursor = publish(&gateway, "site/door", "2").await;
    std::fs::write(&file, cursor.to_string()).expect("a file");
    publish(&gateway, "site/door", "3").await;
    let snippet = async {
        let start = match std::fs::read_to_string(&file) {
            Ok(cursor) => Start::After(cursor.parse()?),
            Err(_) => Start::Now,
        };
        let mut doors = client.subscribe("site/#").from(start).open()?;
        while let Some(event) = doors.next().await {
            // Covers what came before `event`: that one is handled when the next is asked for.
            if let Some(cursor) = doors.cursor() {
                std::fs::write(&file, cursor.to_string())?;
            }
            if let Event::Message(message) = event {
                ui.show(message.topic(), message.payload_text());
            }
        }
        Ok(())
    };
    ui.sees("site/door 3", snippet).await;
    assert_eq!(ui.lines.borrow().len(), 1);
}

#[tokio::test]
async fn keeping() {
    let (gateway, folder) = (gateway().await, tempfile::tempdir().expect("a folder"));
    publish(&gateway, "site/door", "1").await;
    for wanted in ["came 1", "cached 1"] {
        let ui = Ui::default();
        ui.sees(wanted, kept(&gateway, folder.path(), &ui)).await;
        // The client that was dropped writes what it has been told, and lets go: then SQLite's second file is gone.
        let second = folder.path().join("u-17.db-wal");
        until("the end of the client", async || (!second.exists()).then_some(())).await;
    }
}

async fn kept(gateway: &Gateway, folder: &Path, ui: &Ui) -> Outcome {
    let (url, token) = (gateway.url(), tokens::all("u-17"));
    let store = SqliteStore::open(folder.join("u-17.db"), "u-17")?;
    let client = Client::builder(url).token(token).store(store).build()?;
    for message in client.cached("site/#").limit(50).read()? {
        ui.show("cached", message.payload_text());
    }
    let mut doors = client.subscribe("site/#").from(Start::Earliest).keep_as("doors").open()?;
    client.connect();
    while let Some(message) = doors.next_message().await {
        ui.show("came", message.payload_text());
        // Asking for the next writes down that this one is handled.
    }
    Ok(())
}

#[tokio::test]
async fn publishing() {
    let (gateway, ui) = (gateway().await, Ui::default());
    let client = client(&gateway);
    let snippet = async {
        let published = client.publish("site/door").json(&json!({ "open": true }))?.send().await?;
        ui.show("stored", &published.position.to_string());

        let door = client.publish("site/door").json(&json!({ "open": false }))?;
        let queued = door.time_to_live(Duration::from_secs(600)).queue().await?;
        for waiting in client.outbox() {
            if let Some((code, why)) = &waiting.wedged {
                ui.show("refused", &format!("{}: {code}: {why}", waiting.topic));
                client.withdraw(&waiting.message_id);
            }
        }
        let published = queued.confirmed().await?;
        ui.show("duplicate", &published.duplicate.to_string());
        Ok(())
    };
    ui.sees("duplicate false", snippet).await;
}

#[tokio::test]
async fn shadows() {
    let (gateway, ui) = (gateway().await, Ui::default());
    let client = client(&gateway);
    let device = obedient(client.clone());
    let snippet = async {
        let shadow = client.shadow("d1").open()?;
        let view = shadow.ready().await;
        ui.show("reported", view.reported_text());
        let mut change = shadow.set_desired(&json!({ "fan": { "rpm": 1200 } })).await?;
        let view = shadow.view();
        ui.show("desired", view.desired_text());
        ui.show("pending", &format!("{:?}", view.pending("/fan/rpm")));
        match change.settled(Duration::from_secs(30)).await {
            Settled::Applied { .. } => ui.show("fan", "obeyed"),
            Settled::Superseded => ui.show("fan", "somebody wants something else"),
            Settled::Rejected { code, message } => ui.show("fan", &format!("{code}: {message}")),
            _ => ui.show("fan", "pending"),
        }
        Ok(())
    };
    tokio::select! {
        () = ui.sees("fan obeyed", snippet) => {}
        ended = device => panic!("the device ended: {ended:?}"),
    }
}

/// A device that obeys.
async fn obedient(client: Client) -> Outcome {
    let shadow = client.shadow("d1").open()?;
    let mut views = shadow.views();
    while let Some(view) = views.next().await {
        if let Some(wanted) = view.delta() {
            shadow.report(&serde_json::from_str::<Value>(wanted)?).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn commands() {
    let (gateway, ui) = (gateway().await, Ui::default());
    let client = client(&gateway);
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("commands");
    let device = client.clone();
    let device = async {
        let mut serving = device.serve_commands("iotsphere", "d1").journal(journal).open()?;
        while let Some(request) = serving.next_request().await? {
            let outcome = match &*request.name {
                "reboot" => Ok(json!({ "rebooted": true })),
                other => Err(format!("this device cannot {other}")),
            };
            serving.answer(outcome)?;
        }
        Outcome::Ok(())
    };
    let snippet = async {
        let commands = client.commands("iotsphere", "alice")?;
        let twenty = Duration::from_secs(20);
        let mut job = commands.send("d1", "reboot", &json!({ "delay": 5 }), twenty)?;
        while let Some(step) = job.next_progress().await {
            if step == Progress::Unanswered {
                ui.show("reboot", "not known whether it was done");
            }
        }
        match job.reply::<Value>().await {
            Ok(result) => ui.show("reboot", &result.to_string()),
            Err(CommandError::Failed(why)) => ui.show("reboot", &why),
            Err(error) => ui.show("reboot", &format!("{error}; again: {}", error.is_retryable())),
        }
        Ok(())
    };
    tokio::select! {
        () = ui.sees(r#"reboot {"rebooted":true}"#, snippet) => {}
        ended = device => panic!("the device ended: {ended:?}"),
    }
}

#[tokio::test]
async fn living() {
    let (gateway, ui) = (gateway().await, Ui::default());
    let client = client(&gateway);
    let snippet = async {
        let mut states = client.states();
        while let Some(state) = states.next().await {
            match state.phase {
                Phase::Offline => ui.show("retry in", &format!("{:?} ms", state.retry_in_ms)),
                Phase::NeedsAuth => ui.show("sign in", "the gateway accepts none of the tokens"),
                phase => ui.show("phase", phase.name()),
            }
        }
        Ok(())
    };
    ui.sees("phase live", snippet).await;
    let snippet = async {
        // An app that goes to the background, comes back, and is signed out.
        client.pause("background");
        client.flush().await?;
        client.resume("background");
        client.wake();
        client.log_out().await?;
        ui.show("phase", client.state().phase.name());
        Ok(())
    };
    ui.sees("phase closed", snippet).await;
}

#[tokio::test]
async fn failing() {
    let (gateway, ui) = (gateway().await, Ui::default());
    let client = client(&gateway);
    let snippet = async {
        if let Err(error) = client.publish("site/+").payload_text("1").send().await {
            let again = if error.is_retryable() { "later" } else { "never" };
            ui.show(again, &format!("{error}: {}", error.code().advice()));
            if error.could_have_happened() {
                ui.show("unknown", "publish again under the same message id");
            }
        }
        Ok(())
    };
    let text = "never not a topic: a topic must be concrete: it contains + or #: The topic is not valid. \
                At most 255 bytes and 32 levels, no wildcards, no control characters.";
    ui.sees(text, snippet).await;
}

#[tokio::test]
async fn less() {
    let (gateway, ui) = (gateway().await, Ui::default());
    let client = client(&gateway);
    publish(&gateway, "iotsphere/devices/d1/telemetry/status", "1").await;
    let snippet = async {
        let mut status = client.subscribe("iotsphere/devices/+/telemetry/status").max_hz(2.0).open()?;
        client.set_hidden(true);
        while let Some(message) = status.next_message().await {
            ui.show(message.topic(), message.payload_text());
        }
        Ok(())
    };
    ui.sees("iotsphere/devices/d1/telemetry/status 1", snippet).await;
}

#[test]
fn the_guide_shows_what_is_tried_here() {
    let here: Vec<&str> = include_str!("guide.rs").lines().collect();
    let mut wrong = Vec::new();
    let snippets = snippets(include_str!("../../../docs/SDK.md"));
    for (line, snippet) in &snippets {
        if !here.windows(snippet.len()).any(|lines| same(lines, snippet)) {
            wrong.push(format!("docs/SDK.md:{line}:\n{}", snippet.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "not tried in guide.rs:\n{}", wrong.join("\n\n"));
    assert!(snippets.len() >= 12, "only {} snippets were found", snippets.len());
}

/// Whether these lines are a snippet's, all of them further in by the same.
fn same(lines: &[&str], snippet: &[&str]) -> bool {
    let Some(indent) = lines[0].strip_suffix(snippet[0]) else { return false };
    let further_in = |(line, shown): (&&str, &&str)| match *shown {
        "" => line.is_empty(),
        shown => line.strip_prefix(indent) == Some(shown),
    };
    indent.trim().is_empty() && lines.iter().zip(snippet).all(further_in)
}

/// The Rust snippets of a guide, each with the number of its first line.
fn snippets(guide: &str) -> Vec<(usize, Vec<&str>)> {
    let mut snippets = Vec::new();
    let mut open: Option<(usize, Vec<&str>)> = None;
    for (number, line) in guide.lines().enumerate() {
        match (&mut open, line) {
            (None, "```rust") => open = Some((number + 2, Vec::new())),
            (Some(_), "```") => snippets.extend(open.take()),
            (Some((_, lines)), line) => lines.push(line),
            (None, line) => assert!(!line.starts_with("```rust"), "docs/SDK.md:{}: {line}", number + 1),
        }
    }
    snippets
}
