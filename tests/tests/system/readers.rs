//! Clients that read slowly, or not at all: they lose nothing, and cost nobody else anything.

use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::ledger::{Ledger, Witness};
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::raw_client::{Heard, RawClient};
use anabranch_tests::tokens;
use anabranch_tests::wait::{until, within};
use serde_json::json;
use std::sync::Arc;

const BATCH: usize = 50;

async fn subscriber(gateway: &Gateway, subject: &str, filter: &str) -> (RawClient, Witness) {
    let subscriptions = json!([{ "id": 1, "filter": filter }]);
    let hello = RawClient::hello(gateway.address(), &tokens::all(subject), subscriptions).await;
    let (mut client, _) = hello.expect("a welcome");
    client.expect("caught_up").await;
    (client, Witness::new(filter))
}

async fn publish(gateway: &Gateway, ledger: &Arc<Ledger>, batches: usize, bytes: usize) {
    let mut publisher =
        HttpPublisher::new(gateway.address(), &tokens::all("p"), ledger.clone()).with_padding(bytes);
    for _ in 0..batches {
        publisher.publish(&["bulk/a"; BATCH]).await;
    }
}

/// Takes frames to the witness until it has seen so many messages.
async fn read_until(client: &mut RawClient, witness: &mut Witness, messages: usize) {
    while witness.seen() < messages as u64 {
        match within("a message", client.hear()).await {
            Heard::Frame(frame) if frame["type"] == "ping" => {
                client.say(&json!({ "type": "pong" })).await.expect("sent");
            }
            Heard::Frame(frame) => witness.frame(&frame),
            other => panic!("the connection has ended: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_costs_nobody() {
    // The ring holds a twentieth of what is published: who stops reads from the log.
    let gateway = Gateway::with(Settings::default().set("limits.ring", "\"1MiB\"").set("shards", "1")).await;
    let ledger = Ledger::new();
    let (mut slow, mut slow_witness) = subscriber(&gateway, "slow", "bulk/#").await;
    let (mut fast, mut fast_witness) = subscriber(&gateway, "fast", "bulk/#").await;
    publish(&gateway, &ledger, 2, 4096).await;
    read_until(&mut fast, &mut fast_witness, 2 * BATCH).await;
    let before = gateway.resident_bytes();
    let batches = 500;
    let total = (batches + 2) * BATCH;
    tokio::join!(publish(&gateway, &ledger, batches, 4096), read_until(&mut fast, &mut fast_witness, total));
    let grown = gateway.resident_bytes().saturating_sub(before);
    println!("100 MiB behind a reader that stopped: the gateway grew by {} KiB", grown / 1024);
    // What the allocator keeps for the next burst is in there, and does not grow with what was published.
    assert!(grown < 40 << 20, "{grown} bytes are held for a slow reader");
    read_until(&mut slow, &mut slow_witness, total).await;
    for (name, witness) in [("fast", &fast_witness), ("slow", &slow_witness)] {
        let verdict = ledger.judge(witness);
        assert!(verdict.is_perfect(), "{name}: {verdict}");
    }
}

#[tokio::test]
async fn a_reader_that_stopped_is_let_go_and_comes_back_without_loss() {
    let settings = Settings::default()
        .set("heartbeat.interval", "\"500ms\"")
        .set("heartbeat.grace", "\"500ms\"")
        .set("limits.ring", "\"1MiB\"");
    let gateway = Gateway::with(settings).await;
    let ledger = Ledger::new();
    let (stopped, _) = subscriber(&gateway, "stopped", "bulk/#").await;
    let (mut silent, _) = subscriber(&gateway, "silent", "nothing").await;
    let (mut fast, mut fast_witness) = subscriber(&gateway, "fast", "bulk/#").await;
    let total = 100 * BATCH;
    tokio::join!(publish(&gateway, &ledger, 100, 4096), read_until(&mut fast, &mut fast_witness, total));
    // One takes nothing; the other takes pings and answers none. Both are dead to the gateway.
    let end = tokio::select! {
        end = silent.end() => end,
        // It answers pings meanwhile.
        () = read_until(&mut fast, &mut fast_witness, total + 1) => panic!("nothing more was published"),
    };
    assert_eq!(end.code(), Some(4107));
    let alone = async || (gateway.metric("anabranch_connections").await == Some(1.0)).then_some(());
    tokio::select! {
        () = until("the end of the one that stopped", alone) => {}
        () = read_until(&mut fast, &mut fast_witness, total + 1) => panic!("nothing more was published"),
    }
    drop(stopped);
    assert!(ledger.judge(&fast_witness).is_perfect());
}
