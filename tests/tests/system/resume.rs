//! What a cursor is worth: resumed from ring or log, gap, or reset, and never anything that only looks whole.

use anabranch_protocol::cursor::Cursor;
use anabranch_tests::gateway_process::{Gateway, Settings, binary};
use anabranch_tests::ledger::{Ledger, Witness};
use anabranch_tests::proxy::ChaosProxy;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::raw_client::{Heard, RawClient};
use anabranch_tests::tokens;
use anabranch_tests::wait::within;
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

/// What a resume brought: the verdict, and the witness of everything up to `caught_up`, and up to what `ledger` confirmed:
/// a message may be confirmed before the shard that answers has it, and then comes live.
async fn resume(gateway: &Gateway, cursor: &str, ledger: &Ledger) -> (Value, Witness) {
    let subscriptions = json!([{ "id": 1, "filter": "t/#", "cursor": cursor }]);
    let hello = RawClient::hello(gateway.address(), &tokens::all("c"), subscriptions).await;
    let (mut client, _) = hello.expect("a welcome");
    let mut witness = Witness::new("t/#");
    let mut verdict = Value::Null;
    let mut caught_up = false;
    while !(caught_up && ledger.judge(&witness).lost_unannounced == 0) {
        match within("a frame", client.hear()).await {
            Heard::Frame(frame) => {
                witness.frame(&frame);
                match frame["type"].as_str() {
                    Some("subscribed") => verdict = frame,
                    Some("caught_up") => caught_up = true,
                    Some("refused") => panic!("{frame}"),
                    _ => {}
                }
            }
            other => panic!("the connection has ended: {other:?}"),
        }
    }
    (verdict, witness)
}

/// The newest cursor, once the node has read what was confirmed.
async fn head(gateway: &Gateway, published: &Ledger) -> String {
    gateway.has_read(published.newest().expect("something was published")).await.to_string()
}

async fn publish(gateway: &Gateway, ledger: &std::sync::Arc<Ledger>, batches: usize, bytes: usize) {
    let token = tokens::all("p");
    let mut publisher = HttpPublisher::new(gateway.address(), &token, ledger.clone()).with_padding(bytes);
    for _ in 0..batches {
        publisher.publish(&["t/a", "t/b", "other", "t/c", "t/a"]).await;
    }
}

#[tokio::test]
async fn from_the_ring_the_log_and_over_a_restart() {
    let mut gateway = Gateway::with(Settings::default().set("limits.ring", "\"1MiB\"")).await;
    let ledger = Ledger::new();
    publish(&gateway, &ledger, 10, 0).await;
    let start = head(&gateway, &ledger).await;
    let ours = Ledger::new();
    publish(&gateway, &ours, 10, 0).await;
    let (verdict, witness) = resume(&gateway, &start, &ours).await;
    assert_eq!(verdict["outcome"], "resumed", "from the ring: {verdict}");
    assert!(ours.judge(&witness).is_perfect() && witness.seen() == 40, "{}", ours.judge(&witness));
    // 5 MB more than the ring holds.
    publish(&gateway, &ours, 1_000, 1_000).await;
    let (verdict, witness) = resume(&gateway, &start, &ours).await;
    assert_eq!(verdict["outcome"], "resumed", "from the log: {verdict}");
    assert!(ours.judge(&witness).is_perfect() && witness.seen() == 4_040, "{}", ours.judge(&witness));
    gateway.kill().await;
    gateway.start_again().await;
    let (verdict, witness) = resume(&gateway, &start, &ours).await;
    assert_eq!(verdict["outcome"], "resumed", "after a crash: {verdict}");
    assert!(ours.judge(&witness).is_perfect() && witness.seen() == 4_040, "{}", ours.judge(&witness));
}

#[tokio::test]
async fn what_the_log_has_forgotten_is_a_gap_with_its_range() {
    let gateway = Gateway::with(Settings::default().set("log", "\"memory:?records=1000\"")).await;
    let ledger = Ledger::new();
    publish(&gateway, &ledger, 1, 0).await;
    let start = head(&gateway, &ledger).await;
    let ours = Ledger::new();
    // The ring must not hold it either, or nothing is missing.
    publish(&gateway, &ours, 1_000, 20_000).await;
    let (verdict, witness) = resume(&gateway, &start, &ours).await;
    let judged = ours.judge(&witness);
    println!("{verdict}\n{judged}");
    assert_eq!(verdict["outcome"], "gap", "{verdict}");
    assert_eq!(verdict["reason"], "retention");
    assert!(judged.keeps_the_promise() && judged.lost_announced > 0 && judged.gaps == 1, "{judged}");
}

#[tokio::test]
async fn another_history_is_a_reset_with_its_reason() {
    let mut gateway = Gateway::with(Settings::default().set("log", "\"memory:\"")).await;
    let ledger = Ledger::new();
    publish(&gateway, &ledger, 2, 0).await;
    let good = head(&gateway, &ledger).await;
    let (log, position) = good.split_once('/').expect("a cursor");
    let mut parts = position.split(':');
    let (partition, offset) = (parts.next().expect("a partition"), parts.next().expect("an offset"));
    let offset: u64 = offset.parse().expect("a number");
    let table = [
        ("not a cursor", "garbage".to_owned(), 4303),
        ("an empty one", String::new(), 4303),
        ("a script", "<script>alert(1)</script>".to_owned(), 4303),
        ("another log", format!("00000000000000aa/{position}"), 4300),
        ("a partition that is not there", format!("{log}/9:5:00000000"), 4300),
        ("a forged fingerprint", format!("{log}/{partition}:{offset}:deadbeef"), 4301),
        ("from the future", format!("{log}/{partition}:{}:deadbeef", offset + 1_000), 4302),
        ("from the far future", format!("{log}/{partition}:{}:deadbeef", u64::MAX), 4302),
    ];
    for (what, cursor, code) in table {
        let (verdict, witness) = resume(&gateway, &cursor, &Ledger::default()).await;
        assert_eq!(
            (&verdict["outcome"], &verdict["code"]),
            (&json!("reset"), &json!(code)),
            "{what}: {verdict}"
        );
        let given: Cursor = verdict["cursor"].as_str().and_then(|text| text.parse().ok()).expect("a cursor");
        let known: Cursor = good.parse().expect("a cursor");
        // The gateway's own canary may have moved it on.
        assert!(given.log() == known.log() && given.includes(known.positions()[0]), "{what}: {verdict}");
        assert_eq!(witness.seen(), 0, "{what}: nothing of a history that is not the client's");
    }
    // A log that lives in memory has another history after each start.
    gateway.kill().await;
    gateway.start_again().await;
    let (verdict, _) = resume(&gateway, &good, &Ledger::default()).await;
    assert_eq!((&verdict["outcome"], &verdict["code"]), (&json!("reset"), &json!(4300)), "{verdict}");
}

/// The command `subscribe --json` through this address, and its output line by line.
struct Command {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Command {
    fn subscribe(url: &str, filters: &[&str]) -> Command {
        let mut command = tokio::process::Command::new(binary::path(binary::GATEWAY));
        command.args(["subscribe", "--json"]).args(filters).kill_on_drop(true).stdout(Stdio::piped());
        command.env("ANABRANCH_URL", format!("{url}/v1/ws")).env("ANABRANCH_TOKEN", tokens::all("cli"));
        let mut child = command.spawn().expect("the command");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Command { lines, _child: child }
    }

    async fn line(&mut self) -> Value {
        let line = within("a line", self.lines.next_line()).await.expect("its output").expect("it goes on");
        serde_json::from_str(&line).expect("JSON")
    }
}

/// The first filter has missed nothing, and is live again before the others have begun anew.
#[tokio::test]
async fn the_command_subscribe_is_live_behind_everything_it_has_missed() {
    let gateway = Gateway::start().await;
    let proxy = ChaosProxy::start(gateway.address()).await.expect("a proxy");
    let filters = ["silent", "t/a", "t/b", "t/c"];
    let mut command = Command::subscribe(&format!("ws://{}", proxy.address()), &filters);
    assert_eq!(command.line().await["type"], "live");
    for _ in 0..5 {
        proxy.cut_and_refuse();
        publish(&gateway, &Ledger::new(), 5, 0).await;
        proxy.heal();
        for number in 0..20 {
            let line = command.line().await;
            assert!(line["envelope"].is_object(), "{number} messages, then {line}");
        }
        assert_eq!(command.line().await["type"], "live");
    }
}

/// A memory log has another history after each restart. Two filters tell each reset once, and every reset is told.
#[tokio::test]
async fn the_command_subscribe_shows_each_of_two_resets_once() {
    let mut gateway = Gateway::with(Settings::default().set("log", "\"memory:\"")).await;
    let mut command = Command::subscribe(&gateway.url(), &["t/a", "t/b"]);
    while command.line().await["type"] != "live" {}
    let mut gaps_until_a_message = async |gateway: &Gateway| {
        let mut gaps = Vec::new();
        loop {
            let line = command.line().await;
            if line["type"] == "gap" {
                gaps.push(line["reason"].clone());
                publish(gateway, &Ledger::new(), 1, 0).await;
            } else if line["envelope"]["metadata"]["topic"] == "t/b" {
                return gaps;
            }
        }
    };
    // Whoever has seen nothing of a history has nothing to doubt.
    publish(&gateway, &Ledger::new(), 1, 0).await;
    assert_eq!(gaps_until_a_message(&gateway).await, [Value::Null; 0]);
    for _ in 0..2 {
        gateway.kill().await;
        gateway.start_again().await;
        assert_eq!(gaps_until_a_message(&gateway).await, ["reset"]);
    }
}
