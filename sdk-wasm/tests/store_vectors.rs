//! `sdk-core/tests/store.json`: what every store keeps, for the stores that are not written in Rust. The cases are those of
//! `anabranch_sdk_core::store::conformance`; a change there is written into the file with `UPDATE_VECTORS=1`.

use anabranch_sdk_core::store::{Kept, Write, conformance};
use serde_json::{Value, json};
use std::fs;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk-core/tests/store.json");
const ROUNDS: usize = 60;

/// As `Core` tells it, and a place as the shell writes it.
fn write(write: &Write) -> Value {
    match write {
        Write::Enqueue { message_id, envelope, expires } => json!(["enqueue", message_id, envelope, expires]),
        Write::Wedge { message_id, why: Some((code, message)) } => {
            json!(["wedge", message_id, code.0, message])
        }
        Write::Wedge { message_id, why: None } => json!(["wedge", message_id]),
        Write::Settle { message_id } => json!(["settle", message_id]),
        Write::Message { topic, position, about, envelope } => {
            let flags = u8::from(about.snapshot) | u8::from(about.stale) << 1 | u8::from(about.patch) << 2;
            let mut parts =
                vec![json!("message"), json!(topic), json!(position.to_string()), json!(&**envelope)];
            parts.extend((flags > 0).then(|| json!(flags)));
            Value::Array(parts)
        }
        Write::Trim { topic, keep } => json!(["trim", topic, keep]),
        Write::Cursor { name, place: Some(place) } => {
            json!(["cursor", name, place.filter.as_str(), place.cursor.to_string()])
        }
        Write::Cursor { name, place: None } => json!(["cursor", name]),
    }
}

/// As writes that make it, places by name.
fn kept(kept: &Kept) -> Value {
    let mut places = kept.places.clone();
    places.sort_by(|a, b| a.0.cmp(&b.0));
    let publishes = kept.publishes.iter().map(|one| {
        let wedged = one.wedged.as_ref().map(|(code, message)| json!([code.0, message]));
        json!([one.message_id, one.envelope, one.expires, wedged])
    });
    let messages = kept.messages.iter().map(|one| {
        let (topic, position, about) = (one.topic.clone(), one.position, one.about);
        write(&Write::Message { topic, position, about, envelope: one.envelope.clone() })
    });
    let places = places.into_iter().map(|(name, place)| write(&Write::Cursor { name, place: Some(place) }));
    json!({
        "publishes": publishes.collect::<Value>(),
        "messages": messages.collect::<Value>(),
        "places": places.collect::<Value>(),
    })
}

#[test]
fn the_file_says_what_the_suite_asks() {
    let mut model = Kept::default();
    let mut told = String::from("{\"rounds\":[");
    for (i, (writes, ends)) in conformance::rounds(ROUNDS).iter().enumerate() {
        writes.iter().for_each(|write| model.apply(write));
        let mut round = json!({ "writes": writes.iter().map(write).collect::<Value>() });
        if *ends || i + 1 == ROUNDS {
            round["kept"] = kept(&model);
        }
        told += if i > 0 { ",\n" } else { "\n" };
        told += &round.to_string();
    }
    told += "\n]}\n";
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::write(FILE, &told).expect("written");
    }
    let file = fs::read_to_string(FILE).expect("sdk-core/tests/store.json");
    assert!(file == told, "{FILE} is not what the suite asks: write it with UPDATE_VECTORS=1");
}
