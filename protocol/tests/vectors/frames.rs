//! Client and server frames: text to fields, fields to text.

use crate::{each, pieces, text};
use anabranch_protocol::client_frame::{ClientFrame, SnapshotMode, StartAt, Subscribe, Token};
use anabranch_protocol::server_frame::{Gap, Outcome, ServerFrame};
use serde_json::{Value, json};

pub(crate) const CLIENT_KINDS: &[&str] = &["valid", "refused"];
pub(crate) const SERVER_KINDS: &[&str] = &["valid", "unknown", "refused"];

/// What our writer makes of a case.
fn written(case: &Value) -> &str {
    case["writes"].as_str().unwrap_or_else(|| text(case, "text"))
}

#[test]
fn client_frames() {
    each("client_frames.json", "valid", |case| {
        let frame = ClientFrame::from_json(text(case, "text")).expect("a frame");
        assert_eq!(client_fields(&frame), case["fields"]);
        assert_eq!(frame.to_json(), written(case));
        assert_eq!(ClientFrame::from_json(written(case)).expect("what we write"), frame);
    });
    each("client_frames.json", "refused", |case| {
        let text = pieces(&case["text"]);
        let error = ClientFrame::from_json(&text).expect_err("refused");
        assert_eq!(u64::from(error.code.0), case["code"], "{error}");
    });
}

#[test]
fn server_frames() {
    each("server_frames.json", "valid", |case| {
        let frame = ServerFrame::from_json(text(case, "text")).expect("a frame");
        assert_eq!(server_fields(&frame), case["fields"]);
        assert_eq!(frame.to_json(), written(case));
        assert_eq!(ServerFrame::from_json(written(case)).expect("what we write"), frame);
    });
    each("server_frames.json", "unknown", |case| {
        assert_eq!(ServerFrame::from_json(text(case, "text")), Ok(ServerFrame::Unknown));
    });
    each("server_frames.json", "refused", |case| {
        assert!(ServerFrame::from_json(text(case, "text")).is_err());
    });
}

fn client_fields(frame: &ClientFrame<'_>) -> Value {
    match frame {
        ClientFrame::Hello(hello) => json!({
            "type": "hello", "token": hello.token, "clientId": hello.client_id, "sdk": hello.sdk, "cursor": hello.cursor,
            "subscriptions": hello.subscriptions.iter().map(subscription).collect::<Vec<_>>(),
        }),
        ClientFrame::Subscribe(subscribe) => {
            let mut fields = subscription(subscribe);
            fields["type"] = "subscribe".into();
            fields
        }
        ClientFrame::Unsubscribe { id } => json!({ "type": "unsubscribe", "id": id }),
        ClientFrame::Publish { envelope } => json!({ "type": "publish", "envelope": envelope }),
        ClientFrame::Authenticate(Token(token)) => json!({ "type": "authenticate", "token": token }),
        ClientFrame::Conflate { id, ms } => json!({ "type": "conflate", "id": id, "conflateMs": ms }),
        ClientFrame::Hidden(hidden) => json!({ "type": "hidden", "hidden": hidden }),
        ClientFrame::Probe => json!({ "type": "probe" }),
        ClientFrame::Pong => json!({ "type": "pong" }),
        ClientFrame::Goodbye => json!({ "type": "goodbye" }),
    }
}

fn subscription(subscribe: &Subscribe<'_>) -> Value {
    let start = match &subscribe.start {
        StartAt::Default => json!({ "kind": "default" }),
        StartAt::Now => json!({ "kind": "now" }),
        StartAt::Earliest => json!({ "kind": "earliest" }),
        StartAt::Since(ms) => json!({ "kind": "since", "ms": ms }),
        StartAt::Cursor(cursor) => json!({ "kind": "cursor", "cursor": cursor }),
    };
    let mut fields = json!({ "id": subscribe.id, "filter": subscribe.filter, "start": start });
    if subscribe.snapshot != SnapshotMode::None {
        fields["snapshot"] = subscribe.snapshot.name().into();
    }
    if let Some(state) = &subscribe.state {
        fields["state"] = state.clone().into();
    }
    if subscribe.conflate_ms > 0 {
        fields["conflateMs"] = subscribe.conflate_ms.into();
    }
    fields
}

fn server_fields(frame: &ServerFrame<'_>) -> Value {
    match frame {
        ServerFrame::Welcome(welcome) => {
            let mut limits = json!({
                "frameBytes": welcome.limits.frame_bytes, "subscriptions": welcome.limits.subscriptions,
                "publishesInFlight": welcome.limits.publishes_in_flight,
            });
            if welcome.limits.conflate_ms > 0 {
                limits["conflateMs"] = welcome.limits.conflate_ms.into();
            }
            json!({
                "type": "welcome", "session": welcome.session, "cursor": welcome.cursor.to_string(),
                "pingIntervalMs": welcome.ping_interval_ms, "pingGraceMs": welcome.ping_grace_ms,
                "tokenTtlMs": welcome.token_ttl_ms, "serverTimeMs": welcome.server_time_ms, "limits": limits,
            })
        }
        ServerFrame::Subscribed { subscription, cursor, outcome, snapshot } => {
            let mut fields =
                json!({ "type": "subscribed", "subscription": subscription, "cursor": cursor.to_string() });
            match outcome {
                Outcome::Live => fields["outcome"] = "live".into(),
                Outcome::Resumed => fields["outcome"] = "resumed".into(),
                Outcome::Gap(gap) => {
                    fields["outcome"] = "gap".into();
                    put_gap(&mut fields, gap);
                }
                Outcome::Reset(code) => {
                    fields["outcome"] = "reset".into();
                    fields["code"] = code.0.into();
                }
            }
            if let Some(snapshot) = snapshot {
                fields["snapshot"] = if snapshot.whole { "whole" } else { "since" }.into();
                fields["state"] = snapshot.state.to_string().into();
            }
            fields
        }
        ServerFrame::Message { position, about, envelope } => {
            let mut fields =
                json!({ "type": "message", "position": position.to_string(), "envelope": envelope });
            let kinds = [("snapshot", about.snapshot), ("stale", about.stale), ("patch", about.patch)];
            kinds.iter().filter(|(_, is)| *is).for_each(|(name, _)| fields[*name] = true.into());
            fields
        }
        ServerFrame::Transient { envelope } => json!({ "type": "transient", "envelope": envelope }),
        ServerFrame::CaughtUp { cursor } => json!({ "type": "caught_up", "cursor": cursor.to_string() }),
        ServerFrame::Incomplete => json!({ "type": "incomplete" }),
        ServerFrame::Gap { gap, values } => {
            let mut fields = json!({ "type": "gap" });
            put_gap(&mut fields, gap);
            if *values {
                fields["values"] = true.into();
            }
            fields
        }
        ServerFrame::Mark { cursor, delivered } => {
            json!({ "type": "mark", "cursor": cursor.to_string(), "delivered": delivered })
        }
        ServerFrame::Published { message_id, position, duplicate } => json!({
            "type": "published", "messageId": message_id, "position": position.to_string(), "duplicate": duplicate,
        }),
        ServerFrame::Refused(refused) => json!({
            "type": "refused", "code": refused.code.0, "remedy": refused.code.remedy().name(),
            "message": refused.message, "retryAfterMs": refused.retry_after_ms,
            "subscription": refused.subscription, "messageId": refused.message_id,
        }),
        ServerFrame::Revoked { subscription, cursor, code } => json!({
            "type": "revoked", "subscription": subscription, "cursor": cursor.to_string(), "code": code.0,
        }),
        ServerFrame::Authenticated { token_ttl_ms } => {
            json!({ "type": "authenticated", "tokenTtlMs": token_ttl_ms })
        }
        ServerFrame::Upstream { up, message } => json!({ "type": "upstream", "up": up, "message": message }),
        ServerFrame::GoAway { code, reconnect_after_ms } => {
            json!({ "type": "go_away", "code": code.0, "reconnectAfterMs": reconnect_after_ms })
        }
        ServerFrame::Ping => json!({ "type": "ping" }),
        ServerFrame::Unknown => json!({ "type": "unknown" }),
    }
}

fn put_gap(fields: &mut Value, gap: &Gap) {
    fields["partition"] = gap.partition.into();
    fields["after"] = gap.after.to_string().into();
    fields["before"] = gap.before.to_string().into();
    fields["reason"] = gap.reason.name().into();
}
