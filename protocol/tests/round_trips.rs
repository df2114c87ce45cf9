//! Whatever one side writes, the other reads as the same.

use anabranch_protocol::client_frame::{
    ClientFrame, Hello, SnapshotMode, StartAt, Subscribe, Token, published,
};
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, Fingerprint, LogId, Offset, Position};
use anabranch_protocol::envelope::{Envelope, MessageType, Stamp};
use anabranch_protocol::server_frame::{
    About, Gap, GapReason, Limits, Outcome, Refused, ServerFrame, Snapshot, Welcome,
};
use proptest::option;
use proptest::prelude::*;
use std::borrow::Cow;

/// Any text, control characters and quotes more often than chance has them.
fn text() -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof![any::<String>(), "[\\x00-\\x1f\"\\\\/a\u{e9}\u{2028}\u{1f321}]{0,12}"].prop_map(Cow::Owned)
}

/// Any number that a frame can hold.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..=1u64 << 53, Just(1 << 53), 0..100u64]
}

fn position() -> impl Strategy<Value = Position> {
    (0..64u16, any::<u64>(), option::of(any::<u32>())).prop_map(|(partition, offset, fingerprint)| Position {
        partition,
        offset: Offset(offset),
        fingerprint: fingerprint.map(Fingerprint),
    })
}

fn cursor() -> impl Strategy<Value = Cursor> {
    (any::<u64>(), prop::collection::vec(position(), 0..5)).prop_map(|(log, positions)| {
        let mut cursor = Cursor::beginning(LogId(log));
        positions.into_iter().for_each(|position| cursor.set(position));
        cursor
    })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (any::<bool>(), cursor()).prop_map(|(whole, state)| Snapshot { whole, state })
}

fn about() -> impl Strategy<Value = About> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(snapshot, stale, patch)| About {
        snapshot,
        stale,
        patch,
    })
}

fn subscribe() -> impl Strategy<Value = Subscribe<'static>> {
    let start = prop_oneof![
        Just(StartAt::Default),
        Just(StartAt::Now),
        Just(StartAt::Earliest),
        number().prop_map(StartAt::Since),
        text().prop_map(StartAt::Cursor),
    ];
    let snapshot = prop::sample::select(&SnapshotMode::ALL[..]);
    (any::<u32>(), text(), start, snapshot, option::of(text()), number()).prop_map(
        |(id, filter, start, snapshot, state, conflate_ms)| Subscribe {
            id,
            filter,
            start,
            snapshot,
            state,
            conflate_ms,
        },
    )
}

/// A value as JSON text, with blanks and doubled keys: what envelopes pass through.
fn json() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "null",
            "0",
            "-1.50e+3",
            r#""\u00e9\"x""#,
            "[ ]",
            r#"{ "a" : [ 1 , {} ] , "a" : true }"#,
            r#""\ud800""#,
        ][..],
    )
}

fn client_frame() -> impl Strategy<Value = ClientFrame<'static>> {
    let short = || "[a-z0-9/.\"\\\\ \u{e9}]{0,40}".prop_map(Cow::Owned);
    let hello = (text(), short(), short(), option::of(text()), prop::collection::vec(subscribe(), 0..4));
    prop_oneof![
        hello.prop_map(|(token, client_id, sdk, cursor, subscriptions)| {
            ClientFrame::Hello(Hello { token, client_id, sdk, cursor, subscriptions })
        }),
        subscribe().prop_map(ClientFrame::Subscribe),
        any::<u32>().prop_map(|id| ClientFrame::Unsubscribe { id }),
        json().prop_map(|envelope| ClientFrame::Publish { envelope }),
        text().prop_map(|token| ClientFrame::Authenticate(Token(token))),
        (any::<u32>(), number()).prop_map(|(id, ms)| ClientFrame::Conflate { id, ms }),
        any::<bool>().prop_map(ClientFrame::Hidden),
        Just(ClientFrame::Probe),
        Just(ClientFrame::Pong),
        Just(ClientFrame::Goodbye),
    ]
}

fn gap() -> impl Strategy<Value = Gap> {
    let reason = prop::sample::select(
        &[
            GapReason::Retention,
            GapReason::Corrupt,
            GapReason::Poisoned,
            GapReason::Reset,
            GapReason::Miscount,
            GapReason::Other,
        ][..],
    );
    (0..64u16, any::<u64>(), any::<u64>(), reason).prop_map(|(partition, after, before, reason)| Gap {
        partition,
        after: Offset(after),
        before: Offset(before),
        reason,
    })
}

fn server_frame() -> impl Strategy<Value = ServerFrame<'static>> {
    let code = || any::<u16>().prop_map(Code);
    let outcome = prop_oneof![
        Just(Outcome::Live),
        Just(Outcome::Resumed),
        gap().prop_map(Outcome::Gap),
        code().prop_map(Outcome::Reset),
    ];
    let welcome = (text(), cursor(), prop::array::uniform4(number()), prop::array::uniform4(number()));
    prop_oneof![
        welcome.prop_map(|(session, cursor, ms, limits)| ServerFrame::Welcome(Welcome {
            session,
            cursor,
            ping_interval_ms: ms[0],
            ping_grace_ms: ms[1],
            token_ttl_ms: ms[2],
            server_time_ms: ms[3],
            limits: Limits {
                frame_bytes: limits[0],
                subscriptions: limits[1],
                publishes_in_flight: limits[2],
                conflate_ms: limits[3],
            },
        })),
        (any::<u32>(), cursor(), outcome, option::of(snapshot())).prop_map(
            |(subscription, cursor, outcome, snapshot)| {
                ServerFrame::Subscribed { subscription, cursor, outcome, snapshot }
            }
        ),
        (position(), about(), json()).prop_map(|(position, about, envelope)| ServerFrame::Message {
            position,
            about,
            envelope
        }),
        json().prop_map(|envelope| ServerFrame::Transient { envelope }),
        cursor().prop_map(|cursor| ServerFrame::CaughtUp { cursor }),
        Just(ServerFrame::Incomplete),
        (gap(), any::<bool>()).prop_map(|(gap, values)| ServerFrame::Gap { gap, values }),
        (cursor(), number()).prop_map(|(cursor, delivered)| ServerFrame::Mark { cursor, delivered }),
        (text(), position(), any::<bool>()).prop_map(|(message_id, position, duplicate)| {
            ServerFrame::Published { message_id, position, duplicate }
        }),
        (code(), text(), option::of(number()), option::of(any::<u32>()), option::of(text())).prop_map(
            |(code, message, retry_after_ms, subscription, message_id)| {
                ServerFrame::Refused(Refused { code, message, retry_after_ms, subscription, message_id })
            }
        ),
        (any::<u32>(), cursor(), code()).prop_map(|(subscription, cursor, code)| ServerFrame::Revoked {
            subscription,
            cursor,
            code
        }),
        number().prop_map(|token_ttl_ms| ServerFrame::Authenticated { token_ttl_ms }),
        (any::<bool>(), text()).prop_map(|(up, message)| ServerFrame::Upstream { up, message }),
        (code(), number())
            .prop_map(|(code, reconnect_after_ms)| ServerFrame::GoAway { code, reconnect_after_ms }),
        Just(ServerFrame::Ping),
    ]
}

/// A metadata field of 1 to 256 bytes.
fn field() -> impl Strategy<Value = Cow<'static, str>> {
    "[\\x00-\\x1f\"\\\\a-z\u{e9}\u{1f321}]{1,40}".prop_map(Cow::Owned)
}

fn envelope() -> impl Strategy<Value = Envelope<'static>> {
    let kind = option::of(prop::sample::select(
        &[MessageType::Event, MessageType::Command, MessageType::Response, MessageType::Notification][..],
    ));
    let optional = || option::of(field());
    let unknown = prop::collection::btree_map("x[\"\\\\a-z\u{e9}]{0,8}", json(), 0..5);
    (optional(), optional(), optional(), optional(), kind, optional(), unknown, json()).prop_map(
        |(message_id, timestamp, source, correlation_id, message_type, version, unknown, payload)| Envelope {
            message_id,
            timestamp,
            topic: Some("a/b".into()),
            source,
            correlation_id,
            message_type,
            version,
            unknown: unknown.into_iter().map(|(key, value)| (Cow::Owned(key), value)).collect(),
            payload,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn client_frames(frame in client_frame()) {
        let text = frame.to_json();
        prop_assert_eq!(&ClientFrame::from_json(&text).expect(&text), &frame);
        serde_json::from_str::<&serde_json::value::RawValue>(&text).expect("JSON to others too");
    }

    #[test]
    fn server_frames(frame in server_frame()) {
        let text = frame.to_json();
        prop_assert_eq!(&ServerFrame::from_json(&text).expect(&text), &frame);
        serde_json::from_str::<&serde_json::value::RawValue>(&text).expect("JSON to others too");
    }

    #[test]
    fn cursors(cursor in cursor(), position in position()) {
        prop_assert_eq!(cursor.to_string().parse::<Cursor>().expect("a cursor"), cursor.clone());
        let mut moved = cursor.clone();
        prop_assert_eq!(moved.advance(position), !cursor.includes(position));
        prop_assert!(moved.includes(position));
        prop_assert_eq!(moved.to_string().parse::<Cursor>().expect("a cursor"), moved);
    }

    #[test]
    fn envelopes(envelope in envelope()) {
        let stamp = Stamp { message_id: "made", timestamp: "2026-01-01T00:00:00Z", source: "gateway" };
        let stored = envelope.complete("a/b", stamp);
        let read = Envelope::parse(&stored).expect(&stored);
        let expected = Envelope {
            message_id: envelope.message_id.clone().or(Some(stamp.message_id.into())),
            timestamp: envelope.timestamp.clone().or(Some(stamp.timestamp.into())),
            source: envelope.source.clone().or(Some(stamp.source.into())),
            message_type: envelope.message_type.or(Some(MessageType::Event)),
            version: envelope.version.clone().or(Some("1.0".into())),
            ..envelope.clone()
        };
        prop_assert_eq!(&read, &expected);
        let nothing = Stamp { message_id: "x", timestamp: "x", source: "x" };
        prop_assert_eq!(&read.complete("a/b", nothing), &stored, "what is complete stays as it is");
    }

    /// A publish as our clients write it is read in one pass; whatever else stands there is left to those who read any frame.
    #[test]
    fn publishes(
        envelope in prop_oneof![
            envelope().prop_map(|envelope| {
                envelope.complete("a/b", Stamp { message_id: "made", timestamp: "2026-01-01T00:00:00Z", source: "x" })
            }),
            json().prop_map(str::to_owned),
        ],
        behind in prop::sample::select(&["", "", " ", ",\"more\":1", ",\"envelope\":1", "}", ",", "x"][..]),
    ) {
        let frame = format!("{{\"type\":\"publish\",\"envelope\":{envelope}{behind}}}");
        let read = match ClientFrame::from_json(&frame) {
            Ok(ClientFrame::Publish { envelope }) => Envelope::parse(envelope).ok(),
            _ => None,
        };
        match published(&frame) {
            Some(at_once) => prop_assert_eq!(Some(at_once), read),
            None => prop_assert!(read.is_none() || !behind.is_empty()),
        }
    }
}
