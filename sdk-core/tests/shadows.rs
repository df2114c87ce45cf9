//! `shadows.json`: what a client sees of a shadow. The browser's client follows the same file.

use anabranch_protocol::code::Code;
use anabranch_sdk_core::shadow::{Outcome, Shadow, Stage};
use serde_json::{Map, Value, json};

fn name(stage: &Stage) -> &'static str {
    match stage {
        Stage::Queued => "queued",
        Stage::Sent => "sent",
        Stage::Accepted { .. } => "accepted",
        Stage::Rejected { .. } => "rejected",
    }
}

fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Applied { .. } => "applied",
        Outcome::Superseded => "superseded",
        Outcome::Rejected { .. } => "rejected",
    }
}

fn run(shadow: &mut Shadow, step: &Map<String, Value>) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let number = |value: &Value| value.as_u64().expect("a number");
    for (what, value) in step {
        match what.as_str() {
            "document" => _ = shadow.take(&value.to_string()),
            "set" => shadow.set(&text(&value[0]), &value[1].to_string()).expect("a patch"),
            "merged" => shadow.merged(&text(&value[0]), &text(&value[1])),
            "sent" => _ = shadow.sent(&text(value)),
            "accepted" => shadow.accepted(&text(&value[0]), number(&value[1]), number(&value[2])),
            "rejected" => {
                let code = Code(number(&value[1]).try_into().expect("a code"));
                shadow.rejected(&text(&value[0]), code, &text(&value[2]));
            }
            "begin" => shadow.begin(),
            "unsure" => _ = shadow.unsure(),
            "decided" => shadow.decided(number(&value[0]), number(&value[1])),
            _ => {}
        }
    }
}

#[test]
fn the_vectors_hold() {
    let file: Value = serde_json::from_str(include_str!("shadows.json")).expect("JSON");
    for case in file["cases"].as_array().expect("cases") {
        let mut shadow = Shadow::default();
        for step in case["steps"].as_array().expect("steps") {
            let step = step.as_object().expect("a step");
            run(&mut shadow, step);
            let settled: Map<String, Value> =
                shadow.settle().iter().map(|(id, how)| (id.clone(), json!(outcome(how)))).collect();
            let pending: Map<String, Value> =
                shadow.pending().iter().map(|(field, stage)| (field.clone(), json!(name(stage)))).collect();
            let parse = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
            let seen = json!({
                "settled": settled,
                "pending": pending,
                "desired": parse(shadow.desired()),
                "delta": shadow.delta().map(parse),
                "exists": shadow.document().is_some(),
            });
            for (what, seen) in seen.as_object().expect("an object") {
                let expected = step.get(what).unwrap_or(seen);
                assert_eq!(seen, expected, "{}: {what} after {step:?}", case["name"]);
            }
        }
    }
}
