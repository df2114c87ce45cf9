//! What the gateway may say.

mod fields;

use crate::client_frame::{FrameError, SubscriptionId};
use crate::code::Code;
use crate::cursor::{Cursor, Offset, Partition, Position};
use crate::json::{ObjectWriter, Scanner};
use alloc::borrow::Cow;
use alloc::string::String;
use fields::Fields;

/// How the delivery of a subscription begins: the verdict on the cursor that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// From now on; no cursor was given.
    Live,
    /// After the given cursor or start: nothing that the log still had to have is missing.
    Resumed,
    /// After a gap, which is described: records after the given cursor are gone.
    Gap(Gap),
    /// Another history: the given cursor means nothing here. The code says why.
    Reset(Code),
}

/// The newest values of state topics with which the delivery of a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every matching value comes: topics that it does not name until the next `caught_up` have none.
    pub whole: bool,
    /// Values after this place come. Before the cursor of `subscribed`, unless nothing is missing.
    pub state: Cursor,
}

/// What the payload of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct About {
    /// The whole newest value of its topic. Older ones may have been left out.
    pub snapshot: bool,
    /// Of such a value: a newer one may have been lost.
    pub stale: bool,
    /// A merge patch (RFC 7396) of the value before.
    pub patch: bool,
}

/// Records that are gone: in `partition`, strictly after `after` and strictly before `before`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which of the log's sequences.
    pub partition: Partition,
    /// The last record before the hole.
    pub after: Offset,
    /// The first record behind it.
    pub before: Offset,
    /// Why they are gone.
    pub reason: GapReason,
}

/// Why records are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The log's retention dropped them.
    Retention,
    /// They cannot be read from the disk any more.
    Corrupt,
    /// They made the broker fail, and were stepped over.
    Poisoned,
    /// The log's history was replaced.
    Reset,
    /// The gateway's count of delivered messages and the client's do not agree. Made by clients.
    Miscount,
    /// A reason from a newer gateway.
    Other,
}

impl GapReason {
    const ALL: [GapReason; 6] = [
        GapReason::Retention,
        GapReason::Corrupt,
        GapReason::Poisoned,
        GapReason::Reset,
        GapReason::Miscount,
        GapReason::Other,
    ];

    /// Its name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            GapReason::Retention => "retention",
            GapReason::Corrupt => "corrupt",
            GapReason::Poisoned => "poisoned",
            GapReason::Reset => "reset",
            GapReason::Miscount => "miscount",
            GapReason::Other => "other",
        }
    }

    fn from_name(name: &str) -> GapReason {
        GapReason::ALL.into_iter().find(|reason| reason.name() == name).unwrap_or(GapReason::Other)
    }
}

/// What this gateway allows on this connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub frame_bytes: u64,
    pub subscriptions: u64,
    pub publishes_in_flight: u64,
    /// The longest `conflateMs`; 0 of a gateway that knows neither `conflate` nor `hidden`.
    pub conflate_ms: u64,
}

/// The answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// Names this connection in the gateway's logs.
    pub session: Cow<'a, str>,
    /// The newest record at this moment. A client that subscribes to nothing yet keeps it.
    pub cursor: Cursor,
    /// How often the gateway pings.
    pub ping_interval_ms: u64,
    /// How long after a missed ping the connection counts as dead, for both sides.
    pub ping_grace_ms: u64,
    /// How long the token is still good, from now.
    pub token_ttl_ms: u64,
    /// The gateway's clock, in milliseconds since 1970. For display only.
    pub server_time_ms: u64,
    pub limits: Limits,
}

/// A refusal: of one item, or, before a close, of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused<'a> {
    pub code: Code,
    /// What happened, for people. The remedy follows from the code.
    pub message: Cow<'a, str>,
    /// Not before so many milliseconds.
    pub retry_after_ms: Option<u64>,
    pub subscription: Option<SubscriptionId>,
    pub message_id: Option<Cow<'a, str>>,
}

/// One frame from the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame<'a> {
    Welcome(Welcome<'a>),
    /// Delivery of this subscription begins after `cursor`.
    Subscribed {
        subscription: SubscriptionId,
        cursor: Cursor,
        outcome: Outcome,
        /// Which newest values come. `None` if none were asked for, or none lie before the cursor.
        snapshot: Option<Snapshot>,
    },
    /// One record. The envelope is JSON text, the same bytes for every subscriber.
    Message {
        position: Position,
        about: About,
        envelope: &'a str,
    },
    /// A message that no log keeps: it has no position, no cursor covers it, no mark counts it, and whoever is not there misses
    /// it.
    Transient {
        envelope: &'a str,
    },
    /// Every subscription has everything up to `cursor`, the newest record; what follows is live. Every snapshot that was
    /// under way ends, and is as of `cursor`.
    CaughtUp {
        cursor: Cursor,
    },
    /// Values are not known here that the snapshots under way should have: none of these is complete, whoever ends it. Said
    /// before any value behind the missing ones, so a client that has not heard it lacks nothing of what it has.
    Incomplete,
    /// Records are gone that this connection should have had. `values`: the newest values of the state topics among them follow.
    Gap {
        gap: Gap,
        values: bool,
    },
    /// Every subscription has everything up to `cursor`, and `delivered` messages were sent on this connection.
    Mark {
        cursor: Cursor,
        delivered: u64,
    },
    Published {
        message_id: Cow<'a, str>,
        position: Position,
        duplicate: bool,
    },
    Refused(Refused<'a>),
    /// The token no longer grants this subscription: nothing after `cursor` is delivered for it.
    Revoked {
        subscription: SubscriptionId,
        cursor: Cursor,
        code: Code,
    },
    /// The fresh token is accepted.
    Authenticated {
        token_ttl_ms: u64,
    },
    /// The log's state changed. While it is down, nothing new arrives and publishes are refused.
    Upstream {
        up: bool,
        message: Cow<'a, str>,
    },
    /// This node ends. Reconnect after so many milliseconds: the slot is this client's own.
    GoAway {
        code: Code,
        reconnect_after_ms: u64,
    },
    /// Answer with `pong`.
    Ping,
    /// A frame of a newer version: to be ignored.
    Unknown,
}

impl ServerFrame<'_> {
    /// Appends the frame as JSON.
    pub fn write_json(&self, out: &mut String) {
        let mut object = ObjectWriter::begin(out);
        match self {
            ServerFrame::Welcome(welcome) => {
                object.string("type", "welcome").string("session", &welcome.session);
                object.plain("cursor", &welcome.cursor);
                object.number("pingIntervalMs", welcome.ping_interval_ms);
                object.number("pingGraceMs", welcome.ping_grace_ms);
                object.number("tokenTtlMs", welcome.token_ttl_ms);
                object.number("serverTimeMs", welcome.server_time_ms);
                let mut limits = ObjectWriter::begin(object.key("limits"));
                limits.number("frameBytes", welcome.limits.frame_bytes);
                limits.number("subscriptions", welcome.limits.subscriptions);
                limits.number("publishesInFlight", welcome.limits.publishes_in_flight);
                if welcome.limits.conflate_ms > 0 {
                    limits.number("conflateMs", welcome.limits.conflate_ms);
                }
                limits.end();
            }
            ServerFrame::Subscribed { subscription, cursor, outcome, snapshot } => {
                object.string("type", "subscribed").number("subscription", u64::from(*subscription));
                object.plain("cursor", cursor);
                match outcome {
                    Outcome::Live => drop(object.string("outcome", "live")),
                    Outcome::Resumed => drop(object.string("outcome", "resumed")),
                    Outcome::Gap(gap) => {
                        object.string("outcome", "gap");
                        gap.write_fields(&mut object);
                    }
                    Outcome::Reset(code) => {
                        object.string("outcome", "reset").number("code", u64::from(code.0));
                    }
                }
                if let Some(Snapshot { whole, state }) = snapshot {
                    object.string("snapshot", if *whole { "whole" } else { "since" });
                    object.plain("state", state);
                }
            }
            ServerFrame::Message { position, about, envelope } => {
                object.string("type", "message").plain("position", position);
                about.write_fields(&mut object);
                object.raw("envelope", envelope);
            }
            ServerFrame::Transient { envelope } => {
                object.string("type", "transient").raw("envelope", envelope);
            }
            ServerFrame::CaughtUp { cursor } => {
                object.string("type", "caught_up").plain("cursor", cursor);
            }
            ServerFrame::Incomplete => drop(object.string("type", "incomplete")),
            ServerFrame::Gap { gap, values } => {
                object.string("type", "gap");
                gap.write_fields(&mut object);
                if *values {
                    object.boolean("values", true);
                }
            }
            ServerFrame::Mark { cursor, delivered } => {
                object.string("type", "mark").plain("cursor", cursor).number("delivered", *delivered);
            }
            ServerFrame::Published { message_id, position, duplicate } => {
                object.string("type", "published").string("messageId", message_id);
                object.plain("position", position);
                if *duplicate {
                    object.boolean("duplicate", true);
                }
            }
            ServerFrame::Refused(refused) => {
                object.string("type", "refused").number("code", u64::from(refused.code.0));
                object.string("remedy", refused.code.remedy().name()).string("message", &refused.message);
                if let Some(ms) = refused.retry_after_ms {
                    object.number("retryAfterMs", ms);
                }
                if let Some(id) = refused.subscription {
                    object.number("subscription", u64::from(id));
                }
                if let Some(id) = &refused.message_id {
                    object.string("messageId", id);
                }
            }
            ServerFrame::Revoked { subscription, cursor, code } => {
                object.string("type", "revoked").number("subscription", u64::from(*subscription));
                object.plain("cursor", cursor).number("code", u64::from(code.0));
            }
            ServerFrame::Authenticated { token_ttl_ms } => {
                object.string("type", "authenticated").number("tokenTtlMs", *token_ttl_ms);
            }
            ServerFrame::Upstream { up, message } => {
                object.string("type", "upstream").boolean("up", *up).string("message", message);
            }
            ServerFrame::GoAway { code, reconnect_after_ms } => {
                object.string("type", "go_away").number("code", u64::from(code.0));
                object.number("reconnectAfterMs", *reconnect_after_ms);
            }
            ServerFrame::Ping => drop(object.string("type", "ping")),
            ServerFrame::Unknown => drop(object.string("type", "unknown")),
        }
        object.end();
    }

    /// The frame as JSON.
    pub fn to_json(&self) -> String {
        // What a confirm needs, the most frequent by far: grown byte by byte, a text moves five times.
        let mut out = String::with_capacity(128);
        self.write_json(&mut out);
        out
    }
}

impl About {
    fn write_fields(self, object: &mut ObjectWriter<'_>) {
        for (name, is) in [("snapshot", self.snapshot), ("stale", self.stale), ("patch", self.patch)] {
            if is {
                object.boolean(name, true);
            }
        }
    }
}

impl Gap {
    fn write_fields(&self, object: &mut ObjectWriter<'_>) {
        object.number("partition", u64::from(self.partition));
        // Offsets are strings on the wire: JavaScript's numbers end at 2^53.
        object.plain("after", self.after).plain("before", self.before).string("reason", self.reason.name());
    }
}

impl<'a> ServerFrame<'a> {
    /// Reads a frame from JSON. Unknown fields are skipped; a frame of unknown type is [`ServerFrame::Unknown`].
    pub fn from_json(text: &'a str) -> Result<ServerFrame<'a>, FrameError> {
        let mut scanner = Scanner::new(text);
        let mut fields = match Fields::scan(&mut scanner) {
            Ok(fields) => fields,
            // A newer frame may use a name that we know for something else.
            Err(_) if is_of_unknown_type(text) => return Ok(ServerFrame::Unknown),
            Err(error) => return Err(error),
        };
        scanner.end()?;
        let kind = fields.kind.take().ok_or_else(|| FrameError::missing("type"))?;
        Ok(match &*kind {
            "message" => ServerFrame::Message {
                position: Fields::parsed(&fields.position, "position")?,
                about: About {
                    snapshot: fields.boolean("snapshot").unwrap_or(false),
                    stale: fields.boolean("stale").unwrap_or(false),
                    patch: fields.boolean("patch").unwrap_or(false),
                },
                envelope: fields.envelope.ok_or_else(|| FrameError::missing("envelope"))?,
            },
            "transient" => ServerFrame::Transient {
                envelope: fields.envelope.ok_or_else(|| FrameError::missing("envelope"))?,
            },
            "mark" => ServerFrame::Mark { cursor: fields.cursor()?, delivered: fields.number("delivered")? },
            "ping" => ServerFrame::Ping,
            "caught_up" => ServerFrame::CaughtUp { cursor: fields.cursor()? },
            "incomplete" => ServerFrame::Incomplete,
            "gap" => {
                ServerFrame::Gap { gap: fields.gap()?, values: fields.boolean("values").unwrap_or(false) }
            }
            "subscribed" => ServerFrame::Subscribed {
                subscription: fields.subscription()?,
                cursor: fields.cursor()?,
                outcome: fields.outcome()?,
                snapshot: fields.snapshot()?,
            },
            "published" => ServerFrame::Published {
                position: Fields::parsed(&fields.position, "position")?,
                duplicate: fields.boolean("duplicate").unwrap_or(false),
                message_id: fields.message_id.ok_or_else(|| FrameError::missing("messageId"))?,
            },
            "refused" => ServerFrame::Refused(Refused {
                code: fields.code()?,
                retry_after_ms: fields.optional("retryAfterMs"),
                subscription: fields.optional("subscription").map(|_| fields.subscription()).transpose()?,
                message: fields.message.unwrap_or_default(),
                message_id: fields.message_id,
            }),
            "revoked" => ServerFrame::Revoked {
                subscription: fields.subscription()?,
                cursor: fields.cursor()?,
                code: fields.code()?,
            },
            "authenticated" => ServerFrame::Authenticated { token_ttl_ms: fields.number("tokenTtlMs")? },
            "upstream" => ServerFrame::Upstream {
                up: fields.boolean("up").ok_or_else(|| FrameError::missing("up"))?,
                message: fields.message.unwrap_or_default(),
            },
            "go_away" => ServerFrame::GoAway {
                code: fields.code()?,
                reconnect_after_ms: fields.number("reconnectAfterMs")?,
            },
            "welcome" => ServerFrame::Welcome(Welcome {
                cursor: fields.cursor()?,
                ping_interval_ms: fields.number("pingIntervalMs")?,
                ping_grace_ms: fields.number("pingGraceMs")?,
                token_ttl_ms: fields.number("tokenTtlMs")?,
                server_time_ms: fields.number("serverTimeMs")?,
                limits: Limits {
                    frame_bytes: fields.limit(0)?,
                    subscriptions: fields.limit(1)?,
                    publishes_in_flight: fields.limit(2)?,
                    conflate_ms: fields.limits[3].unwrap_or(0),
                },
                session: fields.session.ok_or_else(|| FrameError::missing("session"))?,
            }),
            _ => ServerFrame::Unknown,
        })
    }
}

/// The types that this version reads.
const TYPES: [&str; 15] = [
    "welcome",
    "subscribed",
    "message",
    "transient",
    "caught_up",
    "incomplete",
    "gap",
    "mark",
    "published",
    "refused",
    "revoked",
    "authenticated",
    "upstream",
    "go_away",
    "ping",
];

/// Whether a text is an object with a `type` that this version does not know.
fn is_of_unknown_type(text: &str) -> bool {
    let look = || {
        let mut scanner = Scanner::new(text);
        let mut unknown = false;
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            if key == "type" {
                unknown = !TYPES.contains(&&*scanner.string()?);
            } else {
                scanner.raw()?;
            }
        }
        scanner.end()?;
        Ok::<bool, FrameError>(unknown)
    };
    look().unwrap_or(false)
}
