//! How items are written: for people, or one JSON object a line.

use super::merged::Item;
use anabranch::{Cursor, Gap, GapReason, Metadata};
use anabranch_protocol::json::ObjectWriter;
use jiff::Timestamp;
use std::fmt::Write;

/// How items are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text { colour: bool },
    Json,
}

const RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

impl Form {
    /// Adds the line of an item, if it has one. `cursor` is where the reader stands after it.
    pub(super) fn write(self, out: &mut String, item: &Item, cursor: Option<&Cursor>, now: Timestamp) {
        match (self, item) {
            (Form::Json, Item::Message(message)) => {
                let envelope = compact(message.envelope_text(), false);
                object(out, "message", |object| {
                    object.plain("position", message.position()).raw("envelope", &envelope);
                });
            }
            (Form::Json, Item::Transient(message)) => {
                let envelope = compact(message.envelope_text(), false);
                object(out, "transient", |object| {
                    object.raw("envelope", &envelope);
                });
            }
            (Form::Json, Item::Gap(gap)) => object(out, "gap", |object| {
                object
                    .number("partition", gap.partition.into())
                    .plain("after", gap.after)
                    .plain("before", gap.before)
                    .string("reason", gap.reason.name());
            }),
            (Form::Json, Item::Live) => object(out, "live", |object| {
                if let Some(cursor) = cursor {
                    object.plain("cursor", cursor);
                }
            }),
            (Form::Text { colour }, Item::Message(message)) => {
                text_message(out, message.metadata(), message.topic(), message.payload_text(), colour, now);
            }
            (Form::Text { colour }, Item::Transient(message)) => {
                out.push_str("~ ");
                text_message(out, message.metadata(), message.topic(), message.payload_text(), colour, now);
            }
            (Form::Text { colour }, Item::Gap(gap)) => {
                let (on, off) = if colour { (RED, PLAIN) } else { ("", "") };
                let _ = writeln!(out, "{on}!!! GAP: {}{off}", gap_text(gap));
            }
            (_, Item::Live | Item::Closed(..)) => {}
        }
    }
}

fn object(out: &mut String, kind: &str, fields: impl FnOnce(&mut ObjectWriter<'_>)) {
    let mut object = ObjectWriter::begin(out);
    object.string("type", kind);
    fields(&mut object);
    object.end();
    out.push('\n');
}

fn text_message(
    out: &mut String,
    metadata: Metadata<'_>,
    topic: &str,
    payload: &str,
    colour: bool,
    now: Timestamp,
) {
    let (dim, cyan, plain) = if colour { (DIM, CYAN, PLAIN) } else { ("", "", "") };
    let time = metadata.timestamp().map_or_else(|| "-".to_owned(), |text| time(&text, now));
    let topic = shown(topic);
    let payload = compact(payload, true);
    let _ = writeln!(out, "{dim}{time}{plain}  {cyan}{topic}{plain}  {payload}");
}

/// A gap in words.
fn gap_text(gap: &Gap) -> String {
    let why = match gap.reason {
        GapReason::Retention => "the log's retention dropped them",
        GapReason::Corrupt => "the log cannot read them any more",
        GapReason::Poisoned => "the broker failed at them, and they were stepped over",
        GapReason::Reset => "the log's history was replaced: what you have may be wrong",
        GapReason::Miscount => "the gateway sent more messages than arrived",
        GapReason::Other => "for a reason that only a newer version knows",
    };
    format!(
        "messages after offset {} and before {} of partition {} may be missing here ({}: {why})",
        gap.after,
        gap.before,
        gap.partition,
        gap.reason.name()
    )
}

/// The time of a message in UTC, with the date unless it is today's; `-` if the text is no time.
fn time(text: &str, now: Timestamp) -> String {
    let Ok(time) = text.parse::<Timestamp>() else { return "-".to_owned() };
    let whole = format!("{time:.3}");
    let today = now.to_string();
    match (whole.split_once('T'), today.split_once('T')) {
        (Some((day, hour)), Some((this_day, _))) if day == this_day => hour.to_owned(),
        _ => whole,
    }
}

/// JSON text without blanks between its values. With `safe`, what a terminal would obey or what would reorder the line is
/// written as an escape, which means the same value.
fn compact(json: &str, safe: bool) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut inside, mut escaped) = (false, false);
    for c in json.chars() {
        if !inside && matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        if escaped {
            escaped = false;
        } else {
            escaped = inside && c == '\\';
            inside ^= c == '"';
        }
        if safe { show(&mut out, c) } else { out.push(c) }
    }
    out
}

/// A text without what a terminal would obey.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| show(&mut out, c));
    out
}

fn show(out: &mut String, c: char) {
    // The last three are Unicode's marks, embeddings and isolates of the writing direction.
    let obeyed = c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if obeyed {
        let _ = write!(out, "\\u{:04x}", u32::from(c));
    } else {
        out.push(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anabranch::Offset;

    #[test]
    fn blanks_go_and_strings_stay() {
        let json = "{ \"a b\" : [ 1,\n\t2 ], \"c\\\" d\" : \"\\\\\" , \"e\": \" \" }";
        assert_eq!(compact(json, false), r#"{"a b":[1,2],"c\" d":"\\","e":" "}"#);
    }

    #[test]
    fn terminals_get_no_orders_from_messages() {
        assert_eq!(compact("\"\u{9b}31m \u{202e}\u{7f}\"", true), r#""\u009b31m \u202e\u007f""#);
        assert_eq!(compact("\"\u{9b}\"", false), "\"\u{9b}\"");
    }

    #[test]
    fn a_time_shows_its_date_unless_it_is_today() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(time("2026-11-21T09:59:58.123456Z", now), "09:59:58.123Z");
        assert_eq!(time("2026-11-20T09:59:58Z", now), "2026-11-20T09:59:58.000Z");
        assert_eq!(time("\u{1b}[2J", now), "-");
    }

    #[test]
    fn a_gap_is_loud_and_exact() {
        let gap = Gap { partition: 0, after: Offset(3), before: Offset(9), reason: GapReason::Retention };
        let mut text = String::new();
        Form::Text { colour: false }.write(&mut text, &Item::Gap(gap.clone()), None, Timestamp::UNIX_EPOCH);
        assert!(text.starts_with("!!! GAP: messages after offset 3 and before 9"), "{text}");
        let mut json = String::new();
        Form::Json.write(&mut json, &Item::Gap(gap), None, Timestamp::UNIX_EPOCH);
        let expected = r#"{"type":"gap","partition":0,"after":"3","before":"9","reason":"retention"}"#;
        assert_eq!(json.trim_end(), expected);
    }
}
