//! Whatever is called with whatever: the answer is JSON of the shapes that `lib.rs` promises to the shell.

use anabranch_sdk_wasm::Core;
use proptest::prelude::*;
use serde_json::Value;

const WALL: f64 = 1_795_233_600_000.0;

/// Checks an answer's shape, and gives its effects.
fn effects(answer: &str) -> Vec<Value> {
    let value: Value = serde_json::from_str(answer).unwrap_or_else(|e| panic!("{e}: {answer}"));
    let list = value.as_array().expect("an array").clone();
    for effect in &list {
        let parts = effect.as_array().expect("an array");
        let name = parts[0].as_str().expect("a name");
        let shape: String = parts[1..].iter().map(letter).collect();
        let fits = match name {
            "open" => shape == "n",
            "send" => shape == "ns",
            "close" => shape == "nn",
            "token" => shape == "ns",
            "timer" => shape == "n" || shape == "_",
            "message" => shape == "aso" || shape == "ason",
            "transient" => shape == "ao",
            "gap" => shape == "ao",
            "live" => shape == "a",
            "subscribed" => shape == "ns",
            "snapshot_begins" => shape == "n",
            "snapshot_ends" => shape == "nb",
            "refused" => shape == "nns" || shape == "_ns",
            "revoked" => shape == "nn",
            "cursor" => shape == "ns",
            "published" => shape == "ssb",
            "failed" => shape == "snsb",
            "sent" => shape == "s",
            "merged" => shape == "sss",
            "wedged" => shape == "sns",
            "keep" => match parts[1].as_str().expect("what") {
                "enqueue" => shape == "sssn" || shape == "sss_",
                "wedge" => shape == "ss" || shape == "ssns",
                "settle" => shape == "ss",
                "message" => shape == "ssss" || shape == "ssssn",
                "trim" => shape == "ssn",
                _ => false,
            },
            "state" => shape == "o",
            _ => false,
        };
        assert!(fits, "{effect} has no promised shape");
    }
    list
}

fn letter(value: &Value) -> char {
    match value {
        Value::Null => '_',
        Value::Bool(_) => 'b',
        Value::Number(_) => 'n',
        Value::String(_) => 's',
        Value::Array(_) => 'a',
        Value::Object(_) => 'o',
    }
}

/// Connected, welcomed, and subscribed to `#` as 1.
fn online() -> Core {
    let mut core = Core::new("client", "sdk", 1, 2);
    effects(&core.connect(0.0, WALL));
    effects(&core.token(1, "token", 0.0, WALL));
    effects(&core.subscribe(1, "#", "{}", 0.0, WALL));
    effects(&core.opened(1, 0.0, WALL));
    let welcome = r#"{"type":"welcome","session":"s","cursor":"7f3a9c21d0e1b2c4/0:1","pingIntervalMs":20000,
        "pingGraceMs":10000,"tokenTtlMs":3600000,"serverTimeMs":0,
        "limits":{"frameBytes":278528,"subscriptions":256,"publishesInFlight":256}}"#;
    effects(&core.received(1, welcome, 0.0, WALL));
    let subscribed =
        r#"{"type":"subscribed","subscription":1,"cursor":"7f3a9c21d0e1b2c4/0:1","outcome":"live"}"#;
    effects(&core.received(1, subscribed, 0.0, WALL));
    core
}

#[test]
fn a_message_stands_in_the_answer_as_it_came_before_the_cursor_that_covers_it() {
    let mut core = online();
    let envelope =
        "{ \"metadata\" : {\"topic\":\"caf\u{e9}\\u00e9\"} , \"payload\" : [1.0e3, \"\u{1f600}\"] }";
    let frame = format!("{{\"type\":\"message\",\"position\":\"0:2:00000002\",\"envelope\":{envelope}}}");
    let answer = core.received(1, &frame, 1.0, WALL);
    assert!(answer.contains(envelope), "{answer}");
    let names: Vec<_> = effects(&answer).iter().map(|e| e[0].as_str().map(str::to_owned)).collect();
    assert_eq!(names[..2], [Some("message".into()), Some("cursor".into())], "{answer}");
    assert_eq!(core.cursor(1), "7f3a9c21d0e1b2c4/0:2:00000002");
    let cached: Value = serde_json::from_str(&core.cached("#", 10)).expect("JSON");
    assert_eq!(cached[0][0], "0:2:00000002");
    assert_eq!(cached[0][1]["payload"][0], 1000.0);
}

#[test]
fn a_refusal_by_the_core_looks_like_one_by_the_gateway() {
    let mut core = online();
    let answer = effects(&core.subscribe(2, "a/#/b", "", 1.0, WALL));
    assert_eq!((&answer[0][0], &answer[0][1], &answer[0][2]), (&"refused".into(), &2.into(), &4402.into()));
    let answer = effects(&core.publish("m", "{\"metadata\":", false, -1.0, 0, 1.0, WALL));
    assert_eq!(
        (&answer[0][0], &answer[0][2], &answer[0][4]),
        (&"failed".into(), &4404.into(), &false.into())
    );
}

#[test]
fn a_patch_that_becomes_part_of_another_is_said_before_anything_is_sent() {
    let mut core = Core::new("client", "sdk", 1, 2);
    core.restore(0.0, WALL);
    let envelope = |id: &str, patch: &str| {
        format!(
            r#"{{"metadata":{{"messageId":"{id}","topic":"r/devices/d/shadow/desired"}},"payload":{patch}}}"#
        )
    };
    let mut set = |id: &str, patch: &str, author| {
        effects(&core.publish(id, &envelope(id, patch), true, -1.0, author, 1.0, WALL))
    };
    set("x", r#"{"a":1}"#, 7);
    let answer = set("y", r#"{"b":2}"#, 7);
    let both = Value::from(envelope("x", r#"{"a":1,"b":2}"#));
    assert_eq!(answer[0], Value::from(vec!["merged".into(), "y".into(), "x".into(), both.clone()]));
    assert_eq!(
        answer[1],
        Value::from(vec!["keep".into(), "enqueue".into(), "x".into(), both, Value::Null]),
        "one write"
    );
    let apart = set("z", r#"{"c":3}"#, 0);
    assert_eq!(apart[0][2], "z", "an earlier core may have sent it: {apart:?}");
}

#[test]
fn a_cursor_that_is_none_begins_anew() {
    let mut core = online();
    let answer = core.subscribe(2, "a", "{\"cursor\":\"garbage\"}", 1.0, WALL);
    assert!(answer.contains("\\\"from\\\":\\\"now\\\""), "{answer}");
    let subscribed =
        r#"{"type":"subscribed","subscription":2,"cursor":"7f3a9c21d0e1b2c4/0:1","outcome":"live"}"#;
    let gap = effects(&core.received(1, subscribed, 1.0, WALL))[1].clone();
    assert_eq!((&gap[0], &gap[2]["reason"]), (&"gap".into(), &"reset".into()));
}

fn frame() -> impl Strategy<Value = String> {
    let vectors: Value =
        serde_json::from_str(include_str!("../../protocol/vectors/server_frames.json")).expect("JSON");
    let frames: Vec<String> = ["valid", "unknown", "refused"]
        .iter()
        .flat_map(|kind| vectors[kind].as_array().expect("a list"))
        .filter_map(|vector| Some(vector["text"].as_str()?.to_owned()))
        .collect();
    assert!(frames.len() > 20, "the vectors look different now");
    let known = (0..frames.len().max(1), any::<prop::sample::Index>(), "\\PC{0,3}").prop_map(
        move |(which, at, noise)| {
            let mut text = frames.get(which).cloned().unwrap_or_default();
            let at = text.floor_char_boundary(at.index(text.len() + 1));
            text.insert_str(at, &noise);
            text
        },
    );
    prop_oneof![known, "\\PC{0,40}", "\\{\"type\":\"[a-z_]{0,12}\"[^}]{0,60}\\}"]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_it_panic(
        times in prop::collection::vec((any::<f64>(), any::<f64>()), 8),
        frames in prop::collection::vec(frame(), 1..20),
        texts in prop::collection::vec("\\PC{0,30}|[{\\[\"]{0,4}", 6),
        id in any::<u32>(),
    ) {
        let mut core = online();
        if id & 2 > 0 {
            core.keep_messages(1);
            core.kept_publish(&texts[0], "{\"metadata\":{\"topic\":\"a\"}}", f64::from(id), id as u16, &texts[1]);
            core.kept_message(&texts[0], "0:1", "{}", id as u8);
            core.kept_place(&texts[1], "#", "7f3a9c21d0e1b2c4/0:1");
            effects(&core.restore(1.0, WALL));
        }
        let mut times = times.into_iter().cycle();
        let mut now = move || times.next().unwrap_or_default();
        for frame in &frames {
            let (mono, wall) = now();
            effects(&core.received(1, frame, mono, wall));
            effects(&core.timer(mono, wall));
        }
        let (mono, wall) = now();
        effects(&core.subscribe(id, &texts[0], &texts[1], mono, wall));
        effects(&core.publish(&texts[2], &texts[3], id & 1 > 0, mono, id, mono, wall));
        effects(&core.retry(&texts[2], mono, wall));
        effects(&core.withdraw(&texts[2], mono, wall));
        let _: Value = serde_json::from_str(&core.outbox()).expect("JSON");
        effects(&core.pause(&texts[4], mono, wall));
        effects(&core.resume(&texts[4], mono, wall));
        effects(&core.wake(mono, wall));
        effects(&core.token(id, &texts[5], mono, wall));
        effects(&core.token_failed(id, "", mono, wall));
        effects(&core.opened(id, mono, wall));
        effects(&core.closed(1, id as u16, mono, wall));
        effects(&core.disconnect(mono, wall));
        effects(&core.unsubscribe(id, mono, wall));
        core.cursor(id);
        let _: Value = serde_json::from_str(&core.cached(&texts[0], id)).expect("JSON");
        effects(&core.close(mono, wall));
    }
}
