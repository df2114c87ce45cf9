//! Every kind of bad input: it gets a code and a remedy, and nobody else notices.

use anabranch_protocol::code::{Code, Remedy};
use anabranch_protocol::limits;
use anabranch_tests::gateway_process::Gateway;
use anabranch_tests::ledger::{Ledger, Witness};
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::raw_client::{Frame, Heard, Opcode, RawClient};
use anabranch_tests::tokens::{self, Token};
use serde_json::{Value, json};
use std::sync::Arc;

/// A client that behaves, beside those that do not: it must get every message, whatever they do.
struct Bystander {
    client: RawClient,
    witness: Witness,
    publisher: HttpPublisher,
    ledger: Arc<Ledger>,
}

impl Bystander {
    async fn beside(gateway: &Gateway) -> Bystander {
        let ledger = Ledger::new();
        let publisher = HttpPublisher::new(gateway.address(), &tokens::all("publisher"), ledger.clone());
        let subscriptions = json!([{ "id": 1, "filter": "steady/#" }]);
        let hello = RawClient::hello(gateway.address(), &tokens::all("bystander"), subscriptions).await;
        let (mut client, _) = hello.expect("a welcome");
        client.expect("caught_up").await;
        Bystander { client, witness: Witness::new("steady/#"), publisher, ledger }
    }

    /// A message is published, and arrives.
    async fn is_well(&mut self) {
        self.publisher.publish(&["steady/state"]).await;
        let message = self.client.expect("message").await;
        self.witness.frame(&message);
    }

    fn judge(&self) {
        let verdict = self.ledger.judge(&self.witness);
        assert!(verdict.is_perfect(), "the bystander: {verdict}");
    }
}

fn deep(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

fn publish(topic: &str, payload: &str) -> String {
    format!(
        r#"{{"type":"publish","envelope":{{"metadata":{{"messageId":"bad","topic":{}}},"payload":{payload}}}}}"#,
        Value::from(topic)
    )
}

fn remedy_of(refused: &Value) -> &str {
    refused["remedy"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn what_ends_the_connection_says_why_first() {
    let gateway = Gateway::start().await;
    let mut bystander = Bystander::beside(&gateway).await;
    let text = |text: String| Frame::text(&text).bytes();
    let bare = |frame: Frame| frame.bytes();
    let large = limits::CLIENT_FRAME_BYTES + 1;
    let table: Vec<(&str, Vec<u8>, Code, u16)> = vec![
        ("not JSON", text("hello?".into()), Code::BAD_FRAME, 4500),
        ("nothing", text(String::new()), Code::BAD_FRAME, 4500),
        ("an array", text("[]".into()), Code::BAD_FRAME, 4500),
        ("no type", text("{}".into()), Code::BAD_FRAME, 4500),
        ("cut off", text(r#"{"type":"probe""#.into()), Code::BAD_FRAME, 4500),
        ("a field twice", text(r#"{"type":"probe","type":"probe"}"#.into()), Code::BAD_FRAME, 4500),
        (
            "a lone surrogate",
            text(r#"{"type":"authenticate","token":"\ud800"}"#.into()),
            Code::BAD_FRAME,
            4500,
        ),
        ("10,000 levels", text(deep(10_000)), Code::BAD_FRAME, 4500),
        ("10,000 levels of payload", text(publish("a", &deep(10_000))), Code::BAD_FRAME, 4500),
        ("2^53 + 1", text(r#"{"type":"unsubscribe","id":9007199254740993}"#.into()), Code::BAD_FRAME, 4500),
        ("an unknown type", text(r#"{"type":"dance"}"#.into()), Code::UNKNOWN_FRAME, 4501),
        ("a second hello", text(r#"{"type":"hello","token":"t"}"#.into()), Code::UNEXPECTED_FRAME, 4502),
        ("binary", bare(Frame::new(Opcode::Binary, *b"{}")), Code::BAD_FRAME, 4500),
        ("a frame over the limit", text("x".repeat(large)), Code::FRAME_TOO_LARGE, 1009),
        (
            "a frame that claims an exabyte",
            bare(Frame { claimed: Some(1 << 60), ..Frame::text("x") }),
            Code::FRAME_TOO_LARGE,
            1009,
        ),
        ("invalid UTF-8", bare(Frame::new(Opcode::Text, [0xc3, 0x28])), Code::BAD_WEBSOCKET, 1007),
        ("unmasked", bare(Frame { masked: false, ..Frame::text("{}") }), Code::BAD_WEBSOCKET, 1002),
        ("a reserved bit", bare(Frame { reserved: 4, ..Frame::text("{}") }), Code::BAD_WEBSOCKET, 1002),
        ("a reserved opcode", bare(Frame::new(Opcode::Reserved(3), *b"")), Code::BAD_WEBSOCKET, 1002),
        ("a large ping", bare(Frame::new(Opcode::Ping, [0; 126])), Code::BAD_WEBSOCKET, 1002),
        (
            "a ping in pieces",
            bare(Frame { fin: false, ..Frame::new(Opcode::Ping, *b"") }),
            Code::BAD_WEBSOCKET,
            1002,
        ),
        (
            "a rest without a beginning",
            bare(Frame::new(Opcode::Continuation, *b"x")),
            Code::BAD_WEBSOCKET,
            1002,
        ),
        (
            "a message inside another",
            [bare(Frame { fin: false, ..Frame::text("x") }), bare(Frame::text("y"))].concat(),
            Code::BAD_WEBSOCKET,
            1002,
        ),
        (
            "100,000 fragments of a byte",
            Frame::fragments(&"x".repeat(100_000), 1).iter().flat_map(Frame::bytes).collect(),
            Code::BAD_WEBSOCKET,
            1008,
        ),
    ];
    for (what, bytes, code, close) in table {
        let hello = RawClient::hello(gateway.address(), &tokens::all("attacker"), json!([])).await;
        let (mut client, _) = hello.expect("a welcome");
        // The gateway may have closed before all of it is sent.
        let _ = client.send_bytes(&bytes).await;
        let end = client.end().await;
        let refused = end.refused.as_ref().unwrap_or_else(|| panic!("{what}: ended with {end:?}"));
        assert_eq!(refused["code"], code.0, "{what}: {refused}");
        assert_eq!(remedy_of(refused), Remedy::Stop.name(), "{what}");
        assert!(
            refused["message"].as_str().is_some_and(|m| !m.is_empty() && m.len() < 300),
            "{what}: {refused}"
        );
        assert_eq!(end.close, Some(close), "{what}");
        bystander.is_well().await;
    }
    bystander.judge();
}

#[tokio::test]
async fn a_bad_publish_costs_only_itself() {
    let gateway = Gateway::start().await;
    let mut bystander = Bystander::beside(&gateway).await;
    let token = Token::of("attacker").read("own/#").write("own/#").deny("own/secret/#").sign();
    let hello = RawClient::hello(gateway.address(), &token, json!([{ "id": 1, "filter": "own/a" }])).await;
    let (mut client, _) = hello.expect("a welcome");
    client.expect("caught_up").await;
    let long = format!("own/{}", "a".repeat(252));
    let levels = format!("own{}", "/a".repeat(32));
    let enveloped = |inner: &str| format!(r#"{{"type":"publish","envelope":{inner}}}"#);
    let table = [
        ("a wildcard", publish("own/+", "1"), Code::BAD_TOPIC, true),
        ("a tail wildcard", publish("own/#", "1"), Code::BAD_TOPIC, true),
        ("a control character", publish("own/a\nb", "1"), Code::BAD_TOPIC, true),
        ("256 bytes of topic", publish(&long, "1"), Code::BAD_TOPIC, true),
        ("33 levels", publish(&levels, "1"), Code::BAD_TOPIC, true),
        ("no topic", enveloped(r#"{"metadata":{"messageId":"bad"},"payload":1}"#), Code::BAD_TOPIC, true),
        ("not granted", publish("other/a", "1"), Code::NOT_ALLOWED, true),
        ("denied", publish("own/secret/a", "1"), Code::NOT_ALLOWED, true),
        (
            "payload over the limit",
            publish("own/a", &format!("\"{}\"", "x".repeat(limits::ENVELOPE_BYTES))),
            Code::TOO_LARGE,
            false,
        ),
        ("no payload", enveloped(r#"{"metadata":{"topic":"own/a"}}"#), Code::BAD_ENVELOPE, false),
        ("not an envelope", enveloped("7"), Code::BAD_ENVELOPE, false),
        (
            "a topic twice",
            enveloped(r#"{"metadata":{"topic":"own/a","topic":"other/a"},"payload":1}"#),
            Code::BAD_ENVELOPE,
            false,
        ),
        (
            "no such type",
            enveloped(r#"{"metadata":{"topic":"own/a","messageType":"rumour"},"payload":1}"#),
            Code::BAD_ENVELOPE,
            false,
        ),
        (
            "no such time",
            enveloped(r#"{"metadata":{"topic":"own/a","timestamp":"yesterday"},"payload":1}"#),
            Code::BAD_ENVELOPE,
            false,
        ),
    ];
    for (what, frame, code, named) in table {
        client.say_text(&frame).await.expect("sent");
        let Heard::Frame(refused) = client.next().await else { panic!("{what}: the connection has ended") };
        assert_eq!(refused["type"], "refused", "{what}: {refused}");
        // A topic that is missing may count as either.
        let missing = what == "no topic" && refused["code"] == Code::BAD_ENVELOPE.0;
        assert!(missing || refused["code"] == code.0, "{what}: {refused}");
        assert_eq!(remedy_of(&refused), Remedy::DropItem.name(), "{what}");
        assert!(!named || refused["messageId"] == "bad", "{what}: {refused}");
        assert!(refused["message"].as_str().is_some_and(|m| m.len() < 400), "{what}: {refused}");
        bystander.is_well().await;
    }
    // The connection is as good as new.
    client.say_text(&publish("own/a", "1")).await.expect("sent");
    let mut answers = Vec::new();
    for _ in 0..2 {
        let Heard::Frame(frame) = client.next().await else { panic!("the connection has ended") };
        answers.push(frame["type"].as_str().map(str::to_owned));
    }
    // The confirm and the message itself, in any order.
    answers.sort();
    assert_eq!(answers, [Some("message".to_owned()), Some("published".to_owned())]);
    bystander.judge();
}

#[tokio::test]
async fn a_bad_subscription_costs_only_itself() {
    let gateway = Gateway::start().await;
    let mut bystander = Bystander::beside(&gateway).await;
    let token = Token::of("attacker").read("own/#").write("own/#").deny("own/secret/#").sign();
    let hello = RawClient::hello(gateway.address(), &token, json!([{ "id": 1, "filter": "own/a" }])).await;
    let (mut client, _) = hello.expect("a welcome");
    client.expect("caught_up").await;
    let long = "a".repeat(256);
    let table = [
        ("everything", "#", Code::NOT_ALLOWED),
        ("another's", "other/a", Code::NOT_ALLOWED),
        ("a part of it is denied", "own/#", Code::NOT_ALLOWED),
        ("denied", "own/secret/a", Code::NOT_ALLOWED),
        ("wider than granted", "+/a", Code::NOT_ALLOWED),
        ("a misplaced wildcard", "own/a#", Code::BAD_FILTER),
        ("levels after the rest", "own/#/a", Code::BAD_FILTER),
        ("nothing", "", Code::BAD_FILTER),
        ("a control character", "own/\u{7f}", Code::BAD_FILTER),
        ("256 bytes", &long, Code::BAD_FILTER),
        ("a shared one", "$share/group/own/a", Code::BAD_FILTER),
    ];
    for (what, filter, code) in table {
        client.say(&json!({ "type": "subscribe", "id": 7, "filter": filter })).await.expect("sent");
        let Heard::Frame(refused) = client.next().await else { panic!("{what}: the connection has ended") };
        assert_eq!(
            (&refused["type"], &refused["code"]),
            (&json!("refused"), &json!(code.0)),
            "{what}: {refused}"
        );
        assert_eq!((remedy_of(&refused), &refused["subscription"]), ("drop_item", &json!(7)), "{what}");
    }
    for (what, frame, code) in [
        (
            "an id in use",
            json!({ "type": "subscribe", "id": 1, "filter": "own/b" }),
            Code::SUBSCRIPTION_IN_USE,
        ),
        ("an unknown id", json!({ "type": "unsubscribe", "id": 9 }), Code::UNKNOWN_SUBSCRIPTION),
    ] {
        client.say(&frame).await.expect("sent");
        let Heard::Frame(refused) = client.next().await else { panic!("{what}: the connection has ended") };
        assert_eq!(refused["code"], code.0, "{what}: {refused}");
        assert_eq!(remedy_of(&refused), "drop_item", "{what}");
    }
    bystander.is_well().await;
    client.say_text(&publish("own/a", "1")).await.expect("sent");
    client.expect("message").await;
    bystander.judge();
}

#[tokio::test]
async fn of_1000_subscriptions_256_are_served_and_each_other_is_refused_by_its_id() {
    let gateway = Gateway::start().await;
    let mut bystander = Bystander::beside(&gateway).await;
    let list: Vec<Value> = (0..1000).map(|id| json!({ "id": id, "filter": format!("many/{id}") })).collect();
    let hello = RawClient::hello(gateway.address(), &tokens::all("greedy"), list.into()).await;
    let (mut client, welcome) = hello.expect("a welcome");
    assert_eq!(welcome["limits"]["subscriptions"], 256);
    let (mut served, mut refused) = (Vec::new(), Vec::new());
    while served.len() + refused.len() < 1000 {
        let Heard::Frame(frame) = client.next().await else { panic!("the connection has ended") };
        let id = frame["subscription"].as_u64();
        match frame["type"].as_str() {
            Some("subscribed") => served.push(id.expect("an id")),
            Some("refused") => {
                assert_eq!(frame["code"], Code::TOO_MANY_SUBSCRIPTIONS.0, "{frame}");
                assert_eq!(remedy_of(&frame), "drop_item");
                refused.push(id.expect("an id"));
            }
            _ => {}
        }
    }
    served.sort_unstable();
    refused.sort_unstable();
    assert_eq!(served, (0..256).collect::<Vec<_>>());
    assert_eq!(refused, (256..1000).collect::<Vec<_>>());
    bystander.is_well().await;
    bystander.judge();
}

#[tokio::test]
async fn bad_tokens_are_refused_with_what_to_do() {
    let gateway = Gateway::start().await;
    let mut bystander = Bystander::beside(&gateway).await;
    let good = tokens::all("somebody");
    let (body, signature) = good.rsplit_once('.').expect("three parts");
    let (_, claims) = body.split_once('.').expect("two parts");
    let with_header = |header: &str| {
        use std::fmt::Write;
        let mut out = String::new();
        // base64url without padding, by hand: the header is ours to spoil.
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        for chunk in header.as_bytes().chunks(3) {
            let bits =
                chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for at in 0..=chunk.len() {
                let _ = write!(out, "{}", LETTERS[(bits >> (18 - 6 * at) & 63) as usize] as char);
            }
        }
        format!("{out}.{claims}.{signature}")
    };
    let somebody = || Token::of("somebody").read("#");
    let table = [
        ("nothing", String::new(), Code::TOKEN_INVALID),
        ("no token", "hello".into(), Code::TOKEN_INVALID),
        ("expired", somebody().ended_seconds_ago(60).sign(), Code::TOKEN_EXPIRED),
        ("another audience", somebody().audience("another").sign(), Code::TOKEN_INVALID),
        ("another key", somebody().sign_with("another key of at least 32 bytes, too"), Code::TOKEN_INVALID),
        ("unsigned", with_header(r#"{"alg":"none","typ":"JWT"}"#), Code::TOKEN_INVALID),
        ("no signature", format!("{body}."), Code::TOKEN_INVALID),
        ("another algorithm", with_header(r#"{"alg":"HS512","typ":"JWT"}"#), Code::TOKEN_INVALID),
        ("crit", with_header(r#"{"alg":"HS256","crit":["x"],"x":1}"#), Code::TOKEN_INVALID),
        ("jku", with_header(r#"{"alg":"HS256","jku":"http://127.0.0.1/keys"}"#), Code::TOKEN_INVALID),
        ("a path for a kid", with_header(r#"{"alg":"HS256","kid":"../../dev/null"}"#), Code::TOKEN_INVALID),
        ("a query for a kid", with_header(r#"{"alg":"HS256","kid":"' OR 1=1 --"}"#), Code::TOKEN_INVALID),
        ("17 KiB", "x".repeat(17 * 1024), Code::TOKEN_INVALID),
    ];
    for (what, token, code) in table {
        let mut client = RawClient::open(gateway.address()).await.expect("a socket");
        client.say(&json!({ "type": "hello", "token": token, "subscriptions": [] })).await.expect("sent");
        let end = client.end().await;
        let refused = end.refused.as_ref().unwrap_or_else(|| panic!("{what}: ended with {end:?}"));
        assert_eq!(refused["code"], code.0, "{what}: {refused}");
        assert_eq!(remedy_of(refused), "authenticate", "{what}");
        assert_eq!(end.close, Some(code.0), "{what}");
        assert!(
            !token.is_empty() && !refused.to_string().contains(&token) || token.is_empty(),
            "{what}: it says the token"
        );
    }
    bystander.is_well().await;
    bystander.judge();
}
