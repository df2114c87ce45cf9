//! What the gateway may say.

use crate::client_frame::{FrameError, SubscriptionId, once};
use crate::code::Code;
use crate::cursor::{Cursor, Offset, Partition, Position};
use crate::json::{ObjectWriter, Scanner};
use crate::limits;
use std::borrow::Cow;

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
    pub partition: Partition,
    pub after: Offset,
    pub before: Offset,
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
    /// under way is whole as of `cursor`, if it is `complete`; else the gateway does not know every value.
    CaughtUp {
        cursor: Cursor,
        complete: bool,
    },
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
                object.display("cursor", &welcome.cursor);
                object.number("pingIntervalMs", welcome.ping_interval_ms);
                object.number("pingGraceMs", welcome.ping_grace_ms);
                object.number("tokenTtlMs", welcome.token_ttl_ms);
                object.number("serverTimeMs", welcome.server_time_ms);
                let mut limits = ObjectWriter::begin(object.key("limits"));
                limits.number("frameBytes", welcome.limits.frame_bytes);
                limits.number("subscriptions", welcome.limits.subscriptions);
                limits.number("publishesInFlight", welcome.limits.publishes_in_flight).end();
            }
            ServerFrame::Subscribed { subscription, cursor, outcome, snapshot } => {
                object.string("type", "subscribed").number("subscription", u64::from(*subscription));
                object.display("cursor", cursor);
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
                    object.display("state", state);
                }
            }
            ServerFrame::Message { position, about, envelope } => {
                object.string("type", "message").display("position", position);
                about.write_fields(&mut object);
                object.raw("envelope", envelope);
            }
            ServerFrame::Transient { envelope } => {
                object.string("type", "transient").raw("envelope", envelope);
            }
            ServerFrame::CaughtUp { cursor, complete } => {
                object.string("type", "caught_up").display("cursor", cursor);
                if !complete {
                    object.boolean("complete", false);
                }
            }
            ServerFrame::Gap { gap, values } => {
                object.string("type", "gap");
                gap.write_fields(&mut object);
                if *values {
                    object.boolean("values", true);
                }
            }
            ServerFrame::Mark { cursor, delivered } => {
                object.string("type", "mark").display("cursor", cursor).number("delivered", *delivered);
            }
            ServerFrame::Published { message_id, position, duplicate } => {
                object.string("type", "published").string("messageId", message_id);
                object.display("position", position);
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
                object.display("cursor", cursor).number("code", u64::from(code.0));
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
        let mut out = String::new();
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
        object
            .display("after", self.after)
            .display("before", self.before)
            .string("reason", self.reason.name());
    }
}

/// Every field that any server frame has.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Cow<'a, str>>,
    session: Option<Cow<'a, str>>,
    cursor: Option<Cow<'a, str>>,
    position: Option<Cow<'a, str>>,
    envelope: Option<&'a str>,
    outcome: Option<Cow<'a, str>>,
    after: Option<Cow<'a, str>>,
    before: Option<Cow<'a, str>>,
    reason: Option<Cow<'a, str>>,
    message: Option<Cow<'a, str>>,
    message_id: Option<Cow<'a, str>>,
    numbers: [Option<u64>; NUMBERS.len()],
    limits: [Option<u64>; LIMITS.len()],
    /// Of `subscribed`, a text; of `message`, a boolean.
    snapshot: Option<Cow<'a, str>>,
    state: Option<Cow<'a, str>>,
    booleans: [Option<bool>; BOOLEANS.len()],
}

/// Fields that are numbers, by their index in [`Fields::numbers`].
const NUMBERS: [&str; 10] = [
    "pingIntervalMs",
    "pingGraceMs",
    "tokenTtlMs",
    "serverTimeMs",
    "subscription",
    "code",
    "partition",
    "delivered",
    "retryAfterMs",
    "reconnectAfterMs",
];
/// Fields that are booleans, by their index in [`Fields::booleans`].
const BOOLEANS: [&str; 7] = ["duplicate", "up", "complete", "stale", "patch", "values", "snapshot"];
const LIMITS: [&str; 3] = ["frameBytes", "subscriptions", "publishesInFlight"];

impl<'a> Fields<'a> {
    fn scan(scanner: &mut Scanner<'a>) -> Result<Fields<'a>, FrameError> {
        let mut fields = Fields::default();
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            let slot = match &*key {
                "type" => &mut fields.kind,
                "session" => &mut fields.session,
                "cursor" => &mut fields.cursor,
                "position" => &mut fields.position,
                "outcome" => &mut fields.outcome,
                "after" => &mut fields.after,
                "before" => &mut fields.before,
                "reason" => &mut fields.reason,
                "message" => &mut fields.message,
                "messageId" => &mut fields.message_id,
                "envelope" => {
                    once(&mut fields.envelope, scanner.raw()?, "envelope")?;
                    continue;
                }
                "state" => &mut fields.state,
                "snapshot" => {
                    let value = scanner.raw()?;
                    if value.starts_with('"') {
                        once(&mut fields.snapshot, Scanner::new(value).string()?, "snapshot")?;
                    } else {
                        once(&mut fields.booleans[6], Scanner::new(value).boolean()?, "snapshot")?;
                    }
                    continue;
                }
                "limits" => {
                    scanner.enter_object()?;
                    while let Some(key) = scanner.next_key()? {
                        match LIMITS.iter().position(|name| *name == key) {
                            Some(at) => once(&mut fields.limits[at], scanner.number()?, &key)?,
                            None => drop(scanner.raw()?),
                        }
                    }
                    continue;
                }
                name => {
                    if let Some(at) = BOOLEANS.iter().position(|known| *known == name) {
                        once(&mut fields.booleans[at], scanner.boolean()?, name)?;
                        continue;
                    }
                    match NUMBERS.iter().position(|known| *known == name) {
                        Some(at) => once(&mut fields.numbers[at], scanner.number()?, name)?,
                        // A newer gateway may say more than we know.
                        None => drop(scanner.raw()?),
                    }
                    continue;
                }
            };
            once(slot, scanner.string()?, &key)?;
        }
        Ok(fields)
    }

    fn number(&self, name: &str) -> Result<u64, FrameError> {
        self.optional(name).ok_or_else(|| FrameError::missing(name))
    }

    fn optional(&self, name: &str) -> Option<u64> {
        NUMBERS.iter().position(|known| *known == name).and_then(|at| self.numbers[at])
    }

    fn limit(&self, at: usize) -> Result<u64, FrameError> {
        self.limits[at].ok_or_else(|| FrameError::missing(LIMITS[at]))
    }

    fn subscription(&self) -> Result<SubscriptionId, FrameError> {
        SubscriptionId::try_from(self.number("subscription")?)
            .map_err(|_| FrameError::new("subscription is too large"))
    }

    fn code(&self) -> Result<Code, FrameError> {
        u16::try_from(self.number("code")?).map(Code).map_err(|_| FrameError::new("code is too large"))
    }

    fn parsed<T: std::str::FromStr>(
        text: &Option<Cow<'a, str>>,
        name: &'static str,
    ) -> Result<T, FrameError> {
        let text = text.as_deref().ok_or_else(|| FrameError::missing(name))?;
        text.parse().map_err(|_| FrameError::new([name, " cannot be read"].concat()))
    }

    fn boolean(&self, name: &str) -> Option<bool> {
        BOOLEANS.iter().position(|known| *known == name).and_then(|at| self.booleans[at])
    }

    fn cursor(&self) -> Result<Cursor, FrameError> {
        Self::parsed(&self.cursor, "cursor")
    }

    fn snapshot(&self) -> Result<Option<Snapshot>, FrameError> {
        let whole = match self.snapshot.as_deref() {
            Some("whole") => true,
            Some("since") => false,
            // A newer kind is no less than nothing.
            _ => return Ok(None),
        };
        Ok(Some(Snapshot { whole, state: Self::parsed(&self.state, "state")? }))
    }

    fn gap(&self) -> Result<Gap, FrameError> {
        Ok(Gap {
            partition: Partition::try_from(self.number("partition")?)
                .ok()
                .filter(|partition| usize::from(*partition) < limits::PARTITIONS)
                .ok_or_else(|| FrameError::new("partition is too large"))?,
            after: Self::parsed(&self.after, "after")?,
            before: Self::parsed(&self.before, "before")?,
            reason: self.reason.as_deref().map_or(GapReason::Other, GapReason::from_name),
        })
    }

    fn outcome(&self) -> Result<Outcome, FrameError> {
        Ok(match self.outcome.as_deref() {
            Some("live") => Outcome::Live,
            Some("resumed") => Outcome::Resumed,
            Some("gap") => Outcome::Gap(self.gap()?),
            Some("reset") => Outcome::Reset(self.code()?),
            _ => return Err(FrameError::new("outcome must be live, resumed, gap or reset")),
        })
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
            "caught_up" => ServerFrame::CaughtUp {
                cursor: fields.cursor()?,
                complete: fields.boolean("complete").unwrap_or(true),
            },
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
                },
                session: fields.session.ok_or_else(|| FrameError::missing("session"))?,
            }),
            _ => ServerFrame::Unknown,
        })
    }
}

/// The types that this version reads.
const TYPES: [&str; 14] = [
    "welcome",
    "subscribed",
    "message",
    "transient",
    "caught_up",
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
