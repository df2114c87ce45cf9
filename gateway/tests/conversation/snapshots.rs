//! Snapshots as a dashboard meets them.

use crate::kit::{World, token};
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
    assert!(early.expect("caught_up").await.get("complete").is_none(), "nothing is complete, too");

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
