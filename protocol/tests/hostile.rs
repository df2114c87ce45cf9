//! Inputs that lie: about size, depth, type, encoding and number. Each must be answered at once, by a bounded message.

use anabranch_protocol::client_frame::ClientFrame;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::envelope::{Envelope, Stamp};
use anabranch_protocol::filter::Filter;
use anabranch_protocol::json::Scanner;
use anabranch_protocol::limits;
use anabranch_protocol::server_frame::ServerFrame;
use anabranch_protocol::topic::{NameError, Topic};

const DEEP: usize = 10_000;

fn client_code(text: &str) -> Code {
    let error = ClientFrame::from_json(text).expect_err("refused");
    assert!(error.message.len() < 200, "{} bytes of message", error.message.len());
    error.code
}

fn envelope_code(text: &str) -> Code {
    let refused = match Envelope::parse(text) {
        Err(error) => error,
        Ok(envelope) => envelope.valid_topic().expect_err("refused"),
    };
    assert!(refused.message.len() < 200, "{} bytes of message", refused.message.len());
    refused.code
}

fn stamp() -> Stamp<'static> {
    Stamp { message_id: "m", timestamp: "t", source: "s" }
}

#[test]
fn depth_exhausts_no_stack() {
    // A stack this small overflows if anything recurses once a level.
    let small = std::thread::Builder::new().stack_size(64 * 1024);
    let run = small.spawn(|| {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]"), ("[0,", "]")] {
            for text in [open.repeat(DEEP), open.repeat(DEEP) + "1" + &close.repeat(DEEP)] {
                assert!(Scanner::new(&text).raw().is_err());
                assert_eq!(client_code(&text), Code::BAD_FRAME);
                assert!(ServerFrame::from_json(&text).is_err());
                assert_eq!(envelope_code(&text), Code::BAD_ENVELOPE);
                for frame in [
                    format!(r#"{{"type":"publish","envelope":{text}}}"#),
                    format!(r#"{{"type":"probe","x":{text}}}"#),
                    format!(r#"{{"x":{text},"type":"probe"}}"#),
                    format!(r#"{{"type":"hello","token":"t","subscriptions":{text}}}"#),
                    format!(r#"{{"type":"hello","token":{text}}}"#),
                ] {
                    assert_eq!(client_code(&frame), Code::BAD_FRAME);
                }
                for frame in [
                    format!(r#"{{"type":"message","position":"0:1","envelope":{text}}}"#),
                    format!(r#"{{"type":"unheard_of","x":{text}}}"#),
                ] {
                    assert!(ServerFrame::from_json(&frame).is_err());
                }
            }
        }
    });
    run.expect("a thread").join().expect("no overflow");
}

/// The bug class that this rules out: a record that was accepted, and that no client can read.
#[test]
fn what_is_accepted_can_be_delivered() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    for levels in 1..=limits::JSON_DEPTH {
        for text in [
            format!(r#"{{"metadata":{{"topic":"a"}},"payload":{}}}"#, nested(levels)),
            format!(r#"{{"metadata":{{"topic":"a","x":{}}},"payload":1}}"#, nested(levels)),
        ] {
            let published = format!(r#"{{"type":"publish","envelope":{text}}}"#);
            let by_socket = ClientFrame::from_json(&published).is_ok();
            let by_http = Envelope::parse(&text).is_ok();
            assert_eq!(by_socket, by_http, "{levels} levels: both doors agree");
            if let Ok(envelope) = Envelope::parse(&text) {
                let stored = envelope.complete("a", stamp());
                let position = "0:1".parse().expect("a position");
                let frame = ServerFrame::Message { position, about: Default::default(), envelope: &stored };
                let frame = frame.to_json();
                assert!(
                    ServerFrame::from_json(&frame).is_ok(),
                    "{levels} levels: accepted, but not readable"
                );
                Envelope::parse(&stored).expect("readable again");
            }
        }
    }
}

#[test]
fn size() {
    let payload =
        |bytes: usize| format!(r#"{{"metadata":{{"topic":"a"}},"payload":"{}"}}"#, "x".repeat(bytes));
    let rest = payload(0).len();
    assert!(Envelope::parse(&payload(limits::ENVELOPE_BYTES - rest)).is_ok());
    assert_eq!(envelope_code(&payload(limits::ENVELOPE_BYTES - rest + 1)), Code::TOO_LARGE);
    assert_eq!(envelope_code(&payload(64 << 20)), Code::TOO_LARGE);

    let token = |bytes: usize| format!(r#"{{"type":"authenticate","token":"{}"}}"#, "x".repeat(bytes));
    assert!(ClientFrame::from_json(&token(limits::TOKEN_BYTES)).is_ok());
    assert_eq!(client_code(&token(limits::TOKEN_BYTES + 1)), Code::TOKEN_INVALID);

    // Names of fields are somebody else's choice too: they must not come back whole in an error.
    let name = "\u{e9}".repeat(100_000);
    assert_eq!(envelope_code(&format!(r#"{{"{name}":1}}"#)), Code::BAD_ENVELOPE);
    assert_eq!(envelope_code(&format!(r#"{{"metadata":{{"{name}":1}},"payload":1}}"#)), Code::BAD_ENVELOPE);
    assert_eq!(client_code(&format!(r#"{{"type":"{name}"}}"#)), Code::UNKNOWN_FRAME);
}

/// The stored form is bounded by the received one: no escape makes it grow.
#[test]
fn completion_adds_little() {
    let escapes = r"\b\f\u0001\u0000\n".repeat(12);
    for name in ["source", "own"] {
        let text =
            format!(r#"{{"metadata":{{"topic":"a","{name}":"{escapes}","{escapes}":1}},"payload":1}}"#);
        let stored = Envelope::parse(&text).expect("an envelope").complete("a", stamp());
        assert!(stored.len() <= text.len() + 128, "{} bytes became {}", text.len(), stored.len());
    }
}

#[test]
fn huge_arrays() {
    let items = |n: usize, item: &str| vec![item; n].join(",");
    let list = |n: usize| {
        format!(
            r#"{{"type":"hello","token":"t","subscriptions":[{}]}}"#,
            items(n, r#"{"id":1,"filter":"a"}"#)
        )
    };
    // Up to 16 times the limit is read, so that each surplus one is refused by its id; more is nonsense.
    assert!(ClientFrame::from_json(&list(16 * limits::SUBSCRIPTIONS)).is_ok());
    assert_eq!(client_code(&list(16 * limits::SUBSCRIPTIONS + 1)), Code::BAD_FRAME);
    let zeros = items(1_000_000, "0");
    assert!(
        ClientFrame::from_json(&format!(r#"{{"type":"probe","x":[{zeros}]}}"#)).is_ok(),
        "skipped, not kept"
    );
    assert_eq!(
        client_code(&format!(r#"{{"type":"hello","token":"t","subscriptions":[{zeros}]}}"#)),
        Code::BAD_FRAME
    );
    let fields = (0..100_000).map(|i| format!(r#""f{i}":1"#)).collect::<Vec<_>>().join(",");
    assert!(ClientFrame::from_json(&format!(r#"{{"type":"probe",{fields}}}"#)).is_ok());
    let fields = &fields[..limits::ENVELOPE_BYTES / 2];
    let fields = &fields[..fields.rfind(',').expect("a comma")];
    assert_eq!(envelope_code(&format!(r#"{{"metadata":{{{fields}}},"payload":1}}"#)), Code::BAD_ENVELOPE);
}

#[test]
fn types() {
    let values = [r#""x""#, "1", "-1", "1.5", "true", "null", "[]", "{}"];
    // These frames need no field, so that only the type of the one given can be wrong.
    let client = |field: &str, good: &str| {
        for value in values {
            let text = format!(r#"{{"type":"probe","{field}":{value}}}"#);
            match ClientFrame::from_json(&text) {
                Ok(_) => assert_eq!(value, good, "{text}"),
                Err(_) => assert_ne!(value, good, "{text}"),
            }
        }
    };
    let server = |field: &str, good: &str| {
        for value in values {
            let text = format!(r#"{{"type":"ping","{field}":{value}}}"#);
            assert_eq!(ServerFrame::from_json(&text).is_ok(), value == good, "{text}");
        }
    };
    for field in ["token", "clientId", "sdk", "cursor", "filter", "from"] {
        client(field, r#""x""#);
    }
    for field in ["id", "sinceMs"] {
        client(field, "1");
    }
    client("subscriptions", "[]");
    for field in
        ["session", "cursor", "position", "outcome", "after", "before", "reason", "message", "messageId"]
    {
        server(field, r#""x""#);
    }
    for field in
        ["code", "retryAfterMs", "reconnectAfterMs", "subscription", "delivered", "partition", "tokenTtlMs"]
    {
        server(field, "1");
    }
    for field in ["up", "duplicate"] {
        server(field, "true");
    }
    server("limits", "{}");
}

#[test]
fn numbers_end_at_two_to_the_53() {
    let two53 = 1u64 << 53;
    let subscribe = |n: &str| format!(r#"{{"type":"subscribe","id":1,"filter":"a","sinceMs":{n}}}"#);
    for good in [0, two53 - 1, two53] {
        assert!(ClientFrame::from_json(&subscribe(&good.to_string())).is_ok(), "{good}");
    }
    let over = (two53 + 1).to_string();
    let long = "9".repeat(100_000);
    for bad in
        [over.as_str(), "18446744073709551615", "18446744073709551616", "-1", "-0", "1.0", "1e3", &long]
    {
        assert_eq!(client_code(&subscribe(bad)), Code::BAD_FRAME);
    }
    // Offsets have all 64 bits: they are texts.
    for offset in [two53 - 1, two53, two53 + 1, u64::MAX] {
        let position: Position = format!("0:{offset}").parse().expect("a position");
        assert_eq!(position.offset.0, offset);
    }
    assert!("0:18446744073709551616".parse::<Position>().is_err());
}

#[test]
fn doubled_fields() {
    for text in [
        r#"{"type":"probe","type":"probe"}"#,
        r#"{"type":"hello","token":"a","\u0074oken":"b"}"#,
        r#"{"type":"subscribe","id":1,"filter":"a","filter":"b"}"#,
        r#"{"type":"hello","token":"a","subscriptions":[],"subscriptions":[]}"#,
        r#"{"type":"hello","token":"a","subscriptions":[{"id":1,"id":2,"filter":"a"}]}"#,
    ] {
        assert_eq!(client_code(text), Code::BAD_FRAME, "{text}");
    }
    for text in [
        r#"{"type":"ping","cursor":"a","cursor":"a"}"#,
        r#"{"type":"message","position":"0:1","envelope":1,"envelope":2}"#,
        r#"{"type":"upstream","up":true,"up":false}"#,
        r#"{"type":"refused","code":4100,"code":4500}"#,
    ] {
        assert!(ServerFrame::from_json(text).is_err(), "{text}");
    }
}

#[test]
fn encoding() {
    // A text is UTF-8 before it reaches us; these are the lies that remain possible inside of it.
    for escape in
        [r"\ud800", r"\udc00", r"\ud800\ud800", r"\udc00\ud800", r"\ud800\n", r"\ud800x", r"\ud83c\u0041"]
    {
        assert_eq!(client_code(&format!(r#"{{"type":"authenticate","token":"{escape}"}}"#)), Code::BAD_FRAME);
        assert_eq!(client_code(&format!(r#"{{"type":"probe","{escape}":1}}"#)), Code::BAD_FRAME);
        assert_eq!(
            envelope_code(&format!(r#"{{"metadata":{{"topic":"{escape}"}},"payload":1}}"#)),
            Code::BAD_ENVELOPE
        );
    }
    for raw in ["\u{0}", "\n", "\t", "\u{1f}"] {
        assert_eq!(client_code(&format!(r#"{{"type":"authenticate","token":"{raw}"}}"#)), Code::BAD_FRAME);
    }
    assert_eq!(client_code("\u{feff}{\"type\":\"probe\"}"), Code::BAD_FRAME);
    assert_eq!(envelope_code(r#"{"metadata":{"topic":"a\u0000b"},"payload":1}"#), Code::BAD_TOPIC);
    assert_eq!(envelope_code(r#"{"metadata":{"topic":"a/\u002b"},"payload":1}"#), Code::BAD_TOPIC);
}

#[test]
fn every_cut_of_a_frame_is_refused() {
    let cursor = "7f3a9c21d0e1b2c4/0:1234:9f3a5c01";
    let hello = format!(
        r#"{{"type":"hello","token":"t","cursor":"{cursor}","subscriptions":[{{"id":1,"filter":"caf\u00e9/é"}}]}}"#
    );
    let message = r#"{"type":"message","position":"0:1:00000000","envelope":{"metadata":{"topic":"é"},"payload":{"a":[1]}}}"#;
    for at in (0..hello.len()).filter(|at| hello.is_char_boundary(*at)) {
        assert_eq!(client_code(&hello[..at]), Code::BAD_FRAME);
    }
    for at in (0..message.len()).filter(|at| message.is_char_boundary(*at)) {
        assert!(ServerFrame::from_json(&message[..at]).is_err());
    }
    for at in 0..cursor.len() - 1 {
        // Some cuts leave a shorter cursor: what is read must then be what is written.
        if let Ok(read) = cursor[..at].parse::<Cursor>() {
            assert_eq!(read.to_string(), &cursor[..at]);
        }
    }
}

#[test]
fn names() {
    let long = "a/".repeat(1 << 20);
    assert_eq!(Topic::new(&long), Err(NameError::TooLong));
    assert_eq!(Filter::new(&long), Err(NameError::TooLong));
    assert_eq!(Topic::new(&"/".repeat(limits::TOPIC_LEVELS)), Err(NameError::TooDeep));
    assert!(Topic::new(&"/".repeat(limits::TOPIC_LEVELS - 1)).is_ok());
    // The worst filters for a matcher that backtracks: ours walks each level once.
    let plus = Filter::new(&("+/".repeat(limits::TOPIC_LEVELS - 1) + "x")).expect("a filter");
    let topic = "a/".repeat(limits::TOPIC_LEVELS - 1) + "y";
    assert!(!plus.matches(&topic));
}
