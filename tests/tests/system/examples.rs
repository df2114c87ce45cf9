//! The examples of the Rust client, as their first lines say to run them, against a real gateway: what each prints.

use anabranch::{Client, Start};
use anabranch_tests::gateway_process::{Gateway, Settings, binary};
use anabranch_tests::tokens;
use anabranch_tests::wait::within;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// An example that runs, and its lines.
struct Example {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Example {
    fn start(gateway: &Gateway, folder: &Path, name: &str, words: &[&str]) -> Example {
        // The subject that tokens of `serve --dev` speak for.
        let mut child = Command::new(binary::example(name))
            .args(words)
            .current_dir(folder)
            .env("ANABRANCH_URL", format!("{}/v1/ws", gateway.url()))
            .env("ANABRANCH_TOKEN", tokens::all("dev"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the example");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Example { child, lines }
    }

    /// Its next line; `None` at its end.
    async fn line(&mut self) -> Option<String> {
        within("a line", self.lines.next_line()).await.expect("text")
    }

    /// The lines up to the first that begins like this.
    async fn until(&mut self, beginning: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("no {beginning:?} in {before:#?}"));
            before.push(line);
            if before.last().is_some_and(|line| line.starts_with(beginning)) {
                return before;
            }
        }
    }

    /// All lines until it has ended, which it does well.
    async fn rest(mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(line) = self.line().await {
            lines.push(line);
        }
        assert!(within("its end", self.child.wait()).await.expect("a status").success(), "{lines:#?}");
        lines
    }

    /// Ends it as Ctrl-C does.
    async fn interrupt(self) -> Vec<String> {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
        kill_process(id, Signal::INT).expect("it runs");
        self.rest().await
    }
}

async fn publish(gateway: &Gateway, topic: &str, payload: &str) {
    let client = Client::builder(gateway.url()).token(tokens::all("somebody")).build().expect("a client");
    client.connect();
    let publish = client.publish(topic).payload_text(payload).send();
    within("the confirm", publish).await.expect("stored");
    within("the end", client.close()).await;
}

#[tokio::test]
async fn subscribe_shows_what_comes_and_goes_on_from_its_cursor() {
    let (gateway, folder) = (Gateway::start().await, tempfile::tempdir().expect("a folder"));
    publish(&gateway, "hello/world", r#"{"n": 1}"#).await;
    let mut first = Example::start(&gateway, folder.path(), "subscribe", &["hello/#"]);
    first.until(r#"hello/world {"n": 1}"#).await;
    first.until("up to date").await;
    publish(&gateway, "hello/world", r#"{"n": 2}"#).await;
    let mut cursor = first.until(r#"hello/world {"n": 2}"#).await;
    cursor.retain(|line| line.starts_with("cursor "));
    let cursor = cursor.pop().expect("a cursor");
    drop(first);

    // It covers what was handled, and not the message that was in hand.
    let cursor = cursor.trim_start_matches("cursor ");
    let mut second = Example::start(&gateway, folder.path(), "subscribe", &["hello/#", cursor]);
    let lines = second.until("up to date").await;
    let messages: Vec<_> = lines.iter().filter(|line| line.starts_with("hello/")).collect();
    assert_eq!(messages, [r#"hello/world {"n": 2}"#], "{lines:#?}");
}

#[tokio::test]
async fn offline_keeps_what_is_written_and_how_far_was_read() {
    let (mut gateway, folder) = (Gateway::start().await, tempfile::tempdir().expect("a folder"));
    gateway.kill().await;
    for (note, kept) in
        [("milk", "kept, with 1 in all that wait"), ("bread", "kept, with 2 in all that wait")]
    {
        let writing = Example::start(&gateway, folder.path(), "offline", &["write", note]);
        assert_eq!(writing.rest().await, [kept]);
    }
    gateway.start_again().await;
    let mut reading = Example::start(&gateway, folder.path(), "offline", &["read"]);
    let expected = ["waits: notes/mine", "waits: notes/mine", "note: milk", "note: bread"];
    assert_eq!(reading.until("note: bread").await, expected);
    assert_eq!(reading.interrupt().await, ["closed"]);

    publish(&gateway, "notes/others", r#""eggs""#).await;
    let mut again = Example::start(&gateway, folder.path(), "offline", &["read"]);
    let lines = again.until("note: eggs").await;
    let news = lines.iter().filter(|line| *line != "note: bread");
    assert_eq!(news.collect::<Vec<_>>(), ["note: eggs"], "the note in hand may come again, no other");
}

#[tokio::test]
async fn shadow_and_commands_meet_the_device() {
    let gateway = Gateway::with(Settings::default().set("shadows.enabled", "true")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut device = Example::start(&gateway, folder.path(), "device", &["d1"]);
    device.until("d1 is there").await;
    // Its report has become a document: who asks now is told.
    let client = Client::builder(gateway.url()).token(tokens::all("watcher")).build().expect("a client");
    client.connect();
    let documents = client.subscribe("iotsphere/devices/d1/shadow/document").from(Start::Earliest).open();
    let mut documents = documents.expect("a subscription");
    within("a document", documents.next_message()).await.expect("one");

    let shadow = Example::start(&gateway, folder.path(), "shadow", &["d1", "900"]).rest().await;
    assert!(shadow[0].starts_with(r#"reported {"fan":{"rpm":0}} (live: "#), "{shadow:#?}");
    assert!(shadow[1].starts_with(r#"desired {"fan":{"rpm":900}}, pending Some("#), "{shadow:#?}");
    assert!(shadow[2].starts_with("Applied { version: "), "{shadow:#?}");
    assert_eq!(shadow[3], r#"reported {"fan":{"rpm":900}}"#);
    device.until(r#"obeys {"fan":{"rpm":900}}"#).await;

    let blinked = Example::start(&gateway, folder.path(), "commands", &["d1", "blink", r#"{"times":3}"#]);
    let blinked = blinked.rest().await;
    assert_eq!(blinked.last().map(String::as_str), Some(r#"result {"blinked":true}"#), "{blinked:#?}");
    device.until(r#"dev asks for blink {"times":3}"#).await;
    let refused = Example::start(&gateway, folder.path(), "commands", &["d1", "fly"]).rest().await;
    assert_eq!(refused.last().map(String::as_str), Some("the device says: this device cannot fly"));
}
