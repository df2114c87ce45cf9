use super::*;

fn shadow() -> Shadow {
    Shadow::new(Settings::new(1000), Vec::new())
}

#[test]
fn what_is_desired_is_done_and_the_rest_stays() {
    let mut shadow = shadow();
    assert!(shadow.obey(&json!({ "intervalMs": 250, "metrics": { "disk": false } })));
    assert_eq!(shadow.settings().interval_ms, 250);
    assert!(!shadow.settings().is_on(Metric::Disk) && shadow.settings().is_on(Metric::Cpu));
    assert!(!shadow.obey(&json!({ "intervalMs": 250 })), "nothing new");
    assert_eq!(shadow.settings().interval_ms, 250);
    let state = shadow.state();
    assert_eq!((&state["intervalMs"], &state["metrics"]["disk"]), (&json!(250), &json!(false)));
    assert_eq!(state.get("refused"), None);
}

#[test]
fn what_it_cannot_do_is_refused_by_field_and_the_rest_is_done() {
    let lacks = vec![Metric::Temperature];
    for (desired, field, words) in [
        (json!({ "intervalMs": 99 }), "/intervalMs", "100 to 60000, and is 99"),
        (json!({ "intervalMs": 60_001 }), "/intervalMs", "and is 60001"),
        (json!({ "intervalMs": 250.5 }), "/intervalMs", "and is 250.5"),
        (json!({ "intervalMs": "fast" }), "/intervalMs", "and is \"fast\""),
        (json!({ "metrics": { "gpu": true } }), "/metrics/gpu", "is not known; this device has cpu"),
        (json!({ "metrics": { "cpu": 1 } }), "/metrics/cpu", "true or false, and is 1"),
        (json!({ "metrics": { "temperature": true } }), "/metrics/temperature", "does not have it"),
        (json!({ "metrics": [] }), "/metrics", "must be an object"),
        (json!({ "a/b": 1 }), "/a~1b", "knows intervalMs and metrics"),
    ] {
        let mut shadow = Shadow::new(Settings::new(300), lacks.clone());
        let mut asked = patched(&json!({ "metrics": { "memory": false } }), &desired);
        assert!(shadow.obey(&asked), "{desired}");
        assert_eq!(shadow.settings().interval_ms, 300, "{desired}");
        assert_eq!(shadow.settings().is_on(Metric::Memory), field == "/metrics", "{desired}");
        let why = shadow.state()["refused"][field].as_str().expect(field).to_owned();
        assert!(why.contains(words), "{why}");
        assert!(!shadow.obey(&asked), "the same again is no news: {desired}");
        asked = json!({});
        assert!(shadow.obey(&asked) && shadow.refused().is_empty(), "nobody desires it any more");
    }
}

#[test]
fn a_metric_that_the_machine_lacks_is_off_and_may_be_desired_off() {
    let mut shadow = Shadow::new(Settings::new(300), vec![Metric::Temperature]);
    assert!(!shadow.obey(&json!({ "metrics": { "temperature": false } })));
    assert_eq!(shadow.state()["metrics"]["temperature"], false);
    assert_eq!(shadow.state()["unsupported"], json!(["temperature"]));
}

#[test]
fn settings_outlive_a_restart_and_refusals_are_found_anew() {
    let mut first = shadow();
    first.obey(&json!({ "intervalMs": 150, "metrics": { "disk": false } }));
    let desired = json!({ "intervalMs": 5, "metrics": { "disk": false } });
    first.obey(&desired);
    let mut second = shadow();
    second.recall(&first.state());
    assert!(second.refused().is_empty());
    second.obey(&desired);
    assert_eq!(second.state(), first.state());
    second.recall(&json!("nonsense"));
    assert_eq!(second.settings(), first.settings());
}

#[test]
fn a_patch_makes_one_state_of_the_other() {
    let states = [
        json!({}),
        json!({ "intervalMs": 5, "metrics": { "cpu": true } }),
        json!({ "intervalMs": 5, "metrics": { "cpu": false, "disk": true }, "refused": { "/a": "no" } }),
        json!({ "intervalMs": 6, "metrics": 7, "version": 3 }),
        json!({ "metrics": { "cpu": true }, "unsupported": ["disk"] }),
    ];
    for before in &states {
        for now in &states {
            match patch(before, now) {
                Some(patch) => assert_eq!(patched(before, &patch), *now, "{before} {patch}"),
                None => assert_eq!(before, now),
            }
        }
    }
}

#[test]
fn a_long_foreign_value_is_cut() {
    let mut shadow = shadow();
    shadow.obey(&json!({ "intervalMs": "é".repeat(10_000), "x".repeat(10_000): 1 }));
    assert!(shadow.state().to_string().len() < 600);
}

/// RFC 7396, as its pseudocode says it.
fn patched(target: &Value, patch: &Value) -> Value {
    let Some(patch) = patch.as_object() else { return patch.clone() };
    let mut result = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            result.remove(key);
        } else {
            let inner = patched(result.get(key).unwrap_or(&Value::Null), value);
            result.insert(key.clone(), inner);
        }
    }
    Value::Object(result)
}
