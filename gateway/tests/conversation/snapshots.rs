//! Snapshots as a dashboard meets them.

use crate::kit::{World, token};
use anabranch_gateway::log::memory;
use serde_json::{Value, json};

const ALL: &str = "iotsphere/devices/+/shadow/reported";

fn reported(device: &str) -> String {
    format!("iotsphere/devices/{device}/shadow/reported")
}

/// Topic, payload and whether it is a newest value, of the next message.
fn told(message: &Value) -> (String, Value, bool) {
    let envelope = &message["envelope"];
    let topic = envelope["metadata"]["topic"].as_str().expect("a topic").to_owned();
    (topic, envelope["payload"].clone(), message["snapshot"] == true)
}

#[tokio::test]
async fn a_snapshot_has_every_newest_value_and_ends_even_when_empty() {
    let world = World::start().await;
    let all = token("dashboard", &["iotsphere/#"], &["iotsphere/#"]);
    let (mut device, _) = world.hello(&all, json!([])).await;

    let ask = json!([{"id": 1, "filter": ALL, "snapshot": "if_new"}]);
    let (mut early, _) = world.hello(&all, ask.clone()).await;
    let subscribed = early.expect("subscribed").await;
    assert_eq!((&subscribed["outcome"], &subscribed["snapshot"]), (&json!("live"), &json!("whole")));
    early.expect("caught_up").await;

    for (number, (name, payload)) in
        [("a", json!(1)), ("b", json!(2)), ("a", json!(3)), ("c", json!(4)), ("b", Value::Null)]
            .into_iter()
            .enumerate()
    {
        device.publish(&reported(name), &format!("m{number}"), payload).await;
    }
    device.publish("iotsphere/devices/a/telemetry/temperature", "e", json!(20)).await;
    for expected in [("a", json!(1)), ("b", json!(2)), ("a", json!(3)), ("c", json!(4)), ("b", Value::Null)] {
        let (topic, payload, newest) = told(&early.expect("message").await);
        assert_eq!(
            (topic, payload, newest),
            (reported(expected.0), expected.1, false),
            "live: as it happened"
        );
    }

    let (mut late, _) = world.hello(&all, ask).await;
    late.expect("subscribed").await;
    for expected in [("a", 3), ("c", 4)] {
        let found = told(&late.expect("message").await);
        assert_eq!(found, (reported(expected.0), json!(expected.1), true), "b was deleted before");
    }
    late.expect("caught_up").await;

    device.publish(&reported("a"), "m9", json!(9)).await;
    assert_eq!(told(&late.expect("message").await), (reported("a"), json!(9), false));
}

#[tokio::test]
async fn a_snapshot_that_lacks_values_says_so_before_the_first() {
    let world = World::with(|options| options.newest_bytes = 2_000, memory::Options::default()).await;
    let all = token("dashboard", &["iotsphere/#"], &["iotsphere/#"]);
    let (mut device, _) = world.hello(&all, json!([])).await;
    for number in 0..20 {
        let name = format!("d{number}");
        device.publish(&reported(&name), &format!("m{number}"), json!("x".repeat(200))).await;
    }
    let (mut late, _) = world.hello(&all, json!([{"id": 1, "filter": ALL, "snapshot": "if_new"}])).await;
    assert_eq!(late.expect("subscribed").await["snapshot"], "whole");
    late.expect("incomplete").await;
    let (topic, ..) = told(&late.expect("message").await);
    assert_ne!(topic, reported("d0"), "the oldest is forgotten");
    late.expect_past("message", "caught_up").await;
}

#[tokio::test]
async fn a_resume_gets_what_changed_by_its_newest_value() {
    let world = World::start().await;
    let all = token("dashboard", &["iotsphere/#"], &["iotsphere/#"]);
    let (mut device, welcome) = world.hello(&all, json!([])).await;
    for number in 0..20 {
        let name = if number % 2 == 0 { "a" } else { "b" };
        device.publish(&reported(name), &format!("m{number}"), json!(number)).await;
    }
    let cursor = welcome["cursor"].clone();
    let (mut back, _) =
        world.hello(&all, json!([{"id": 1, "filter": ALL, "cursor": cursor, "snapshot": "if_new"}])).await;
    let subscribed = back.expect("subscribed").await;
    assert_eq!((&subscribed["outcome"], &subscribed["snapshot"]), (&json!("resumed"), &json!("since")));
    let values = [told(&back.expect("message").await), told(&back.expect("message").await)];
    assert_eq!(values, [(reported("a"), json!(18), true), (reported("b"), json!(19), true)]);
    back.expect("caught_up").await;
}

#[tokio::test]
async fn who_asks_for_less_gets_newest_values_with_the_next_event_or_when_it_asks_for_more() {
    let world = World::start().await;
    let all = token("dashboard", &["iotsphere/#"], &["iotsphere/#"]);
    let (mut device, welcome) = world.hello(&all, json!([])).await;
    assert_eq!(welcome["limits"]["conflateMs"], 60_000);
    // A minute: nothing of what follows happens because time has passed.
    let ask = json!([{"id": 1, "filter": "iotsphere/#", "conflateMs": 60_000}]);
    let (mut calm, _) = world.hello(&all, ask).await;
    calm.expect("subscribed").await;
    calm.expect("caught_up").await;
    device.publish(&reported("a"), "m1", json!(1)).await;
    assert_eq!(told(&calm.expect("message").await), (reported("a"), json!(1), true), "the first at once");

    for (id, name, value) in [("m2", "a", 2), ("m3", "b", 3), ("m4", "a", 4)] {
        device.publish(&reported(name), id, json!(value)).await;
    }
    let event = "iotsphere/devices/a/telemetry/temperature";
    device.publish(event, "e1", json!(20)).await;
    for (topic, value, newest) in
        [(reported("b"), 3, true), (reported("a"), 4, true), (event.into(), 20, false)]
    {
        assert_eq!(told(&calm.expect("message").await), (topic, json!(value), newest));
    }

    device.publish(&reported("b"), "m5", json!(5)).await;
    device.publish(&reported("b"), "m6", json!(6)).await;
    // Of a subscription that does not exist: no matter.
    calm.send(json!({"type": "conflate", "id": 9, "conflateMs": 0})).await;
    calm.send(json!({"type": "conflate", "id": 1, "conflateMs": 0})).await;
    let (topic, mut value, _) = told(&calm.expect("message").await);
    // The node may not have read the last one yet when it lets go.
    if value == 5 {
        value = told(&calm.expect("message").await).1;
    }
    assert_eq!((topic, value), (reported("b"), json!(6)), "let go at once");
    device.publish(&reported("b"), "m7", json!(7)).await;
    assert_eq!(
        told(&calm.expect("message").await),
        (reported("b"), json!(7), false),
        "and live from here on"
    );

    calm.send(json!({"type": "hidden", "hidden": true})).await;
    device.publish(&reported("b"), "m8", json!(8)).await;
    assert_eq!(told(&calm.expect("message").await).1, json!(8), "hidden is late, not lost");
    calm.send(json!({"type": "hidden", "hidden": false})).await;
    device.publish(&reported("b"), "m9", json!(9)).await;
    assert_eq!(told(&calm.expect("message").await).1, json!(9));
}

#[tokio::test]
async fn a_drain_leaves_a_checkpoint_of_what_was_confirmed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("values");
    let keep = file.clone();
    let world = World::with(|options| options.checkpoint = Some(keep), memory::Options::default()).await;
    let all = token("device", &["iotsphere/#"], &["iotsphere/#"]);
    let (mut device, _) = world.hello(&all, json!([{"id": 1, "filter": ALL}])).await;
    device.expect("subscribed").await;
    device.expect("caught_up").await;
    device.publish(&reported("a"), "m1", json!({"kept": "over a restart"})).await;
    // The node has read it.
    device.expect("message").await;
    assert!(!file.exists(), "the minute is not over");
    world.gateway.drain().await;
    let text = String::from_utf8_lossy(&std::fs::read(&file).expect("a checkpoint")).into_owned();
    assert!(text.contains(&reported("a")) && text.contains("over a restart"), "{text}");
}
