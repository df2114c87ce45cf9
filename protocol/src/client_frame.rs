//! What a client may say.

use crate::code::Code;
use crate::envelope::Envelope;
use crate::json::{JsonError, ObjectWriter, Scanner, write_number};
use crate::limits;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A client's number for one of its subscriptions, unique on its connection.
pub type SubscriptionId = u32;

/// Where the delivery of a subscription begins.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum StartAt<'a> {
    /// After the hello's cursor; in a `subscribe`, or without one, after the newest record at this moment.
    #[default]
    Default,
    /// After the newest record at this moment, whatever the hello's cursor says.
    Now,
    /// With the oldest record that the log still has.
    Earliest,
    /// With the records of the last so many milliseconds.
    Since(u64),
    /// After this cursor.
    Cursor(Cow<'a, str>),
}

/// Which newest values of state topics a subscription begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SnapshotMode {
    /// None: a subscription without a cursor is delivered what changes from now on.
    #[default]
    None,
    /// Every matching value, if it begins without a cursor; with one, those that have changed since.
    IfNew,
    /// Every matching value, whatever the cursor says.
    Always,
}

impl SnapshotMode {
    pub const ALL: [SnapshotMode; 3] = [SnapshotMode::None, SnapshotMode::IfNew, SnapshotMode::Always];

    pub const fn name(self) -> &'static str {
        match self {
            SnapshotMode::None => "none",
            SnapshotMode::IfNew => "if_new",
            SnapshotMode::Always => "always",
        }
    }
}

/// A filter to be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Subscribe<'a> {
    pub id: SubscriptionId,
    /// As the client wrote it; whether it is a filter is the gateway's to say, with a refusal for this item alone.
    pub filter: Cow<'a, str>,
    pub start: StartAt<'a>,
    pub snapshot: SnapshotMode,
    /// With a cursor: where a snapshot stood that was interrupted. As the client wrote it; one that is not a cursor counts as
    /// the beginning.
    pub state: Option<Cow<'a, str>>,
    /// Conflate its state topics on purpose: their newest values at most once in so many milliseconds. 0: each as it comes.
    pub conflate_ms: u64,
}

/// The first frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello<'a> {
    pub token: Cow<'a, str>,
    /// Names the client across reconnects, for logs and metrics only.
    pub client_id: Cow<'a, str>,
    /// Name and version of the SDK, for the operator.
    pub sdk: Cow<'a, str>,
    /// Where the client stands, for every subscription that does not say otherwise.
    /// As the client wrote it; one that is not a cursor makes a `reset`, not an error.
    pub cursor: Option<Cow<'a, str>>,
    pub subscriptions: Vec<Subscribe<'a>>,
}

impl fmt::Debug for Hello<'_> {
    /// Without the token, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("client_id", &self.client_id)
            .field("sdk", &self.sdk)
            .field("cursor", &self.cursor)
            .field("subscriptions", &self.subscriptions)
            .finish_non_exhaustive()
    }
}

/// One frame from a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    Hello(Hello<'a>),
    Subscribe(Subscribe<'a>),
    Unsubscribe {
        id: SubscriptionId,
    },
    /// The envelope as JSON text, to be read by [`Envelope::parse`](crate::envelope::Envelope::parse).
    Publish {
        envelope: &'a str,
    },
    Authenticate(Token<'a>),
    /// From now on, this subscription's state topics are told at most once in so many milliseconds; 0: each value as it comes.
    /// Not to be sent to a gateway whose `welcome` has no `conflateMs` among its limits.
    Conflate {
        id: SubscriptionId,
        ms: u64,
    },
    /// Whether nobody looks at the client now: everything may come a little later, and together. As for `Conflate`, not for a
    /// gateway that does not announce it.
    Hidden(bool),
    /// Asks for a `mark` at once: is this connection alive?
    Probe,
    /// The answer to `ping`.
    Pong,
    /// The client leaves on purpose.
    Goodbye,
}

/// How our clients begin a `publish`.
const PUBLISH: &str = r#"{"type":"publish","envelope":"#;

/// The envelope of a `publish` as our clients write it. `None` for any other text: it may be a good frame all the same, or a `publish` of which there is
/// something to say.
///
/// Frame and envelope are read in one pass. Most of what a gateway is sent is this; to read it as any frame, and the envelope in it again, costs 0.16 µs more.
pub fn published(text: &str) -> Option<Envelope<'_>> {
    let envelope = text.strip_prefix(PUBLISH)?.strip_suffix('}')?;
    Envelope::parse(envelope).ok()
}

/// A token that does not show itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<'a>(pub Cow<'a, str>);

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a text is not a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl FrameError {
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> FrameError {
        FrameError { code: Code::BAD_FRAME, message: message.into() }
    }

    pub(crate) fn missing(field: &str) -> FrameError {
        FrameError::new(["the field ", field, " is missing"].concat())
    }
}

impl From<JsonError> for FrameError {
    fn from(error: JsonError) -> FrameError {
        let mut message = String::from(error.what);
        message.push_str(" at byte ");
        write_number(&mut message, error.at as u64);
        FrameError::new(message)
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for FrameError {}

/// Every field that any client frame has. One flat record is smaller and plainer than a reader for each frame.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Cow<'a, str>>,
    token: Option<Cow<'a, str>>,
    client_id: Option<Cow<'a, str>>,
    sdk: Option<Cow<'a, str>>,
    cursor: Option<Cow<'a, str>>,
    subscriptions: Option<Vec<Subscribe<'a>>>,
    id: Option<u64>,
    filter: Option<Cow<'a, str>>,
    from: Option<Cow<'a, str>>,
    since: Option<u64>,
    snapshot: Option<Cow<'a, str>>,
    state: Option<Cow<'a, str>>,
    conflate: Option<u64>,
    hidden: Option<bool>,
    envelope: Option<&'a str>,
}

pub(crate) fn once<T>(slot: &mut Option<T>, value: T, field: &str) -> Result<(), FrameError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(FrameError::new(["the field ", field, " stands twice"].concat())),
    }
}

impl<'a> Fields<'a> {
    fn scan(scanner: &mut Scanner<'a>) -> Result<Fields<'a>, FrameError> {
        let mut fields = Fields::default();
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            match &*key {
                "type" => once(&mut fields.kind, scanner.string()?, "type")?,
                "token" => once(&mut fields.token, scanner.string()?, "token")?,
                "clientId" => once(&mut fields.client_id, scanner.string()?, "clientId")?,
                "sdk" => once(&mut fields.sdk, scanner.string()?, "sdk")?,
                "cursor" => once(&mut fields.cursor, scanner.string()?, "cursor")?,
                "id" => once(&mut fields.id, scanner.number()?, "id")?,
                "filter" => once(&mut fields.filter, scanner.string()?, "filter")?,
                "from" => once(&mut fields.from, scanner.string()?, "from")?,
                "sinceMs" => once(&mut fields.since, scanner.number()?, "sinceMs")?,
                "snapshot" => once(&mut fields.snapshot, scanner.string()?, "snapshot")?,
                "state" => once(&mut fields.state, scanner.string()?, "state")?,
                "conflateMs" => once(&mut fields.conflate, scanner.number()?, "conflateMs")?,
                "hidden" => once(&mut fields.hidden, scanner.boolean()?, "hidden")?,
                "envelope" => once(&mut fields.envelope, scanner.raw()?, "envelope")?,
                "subscriptions" => {
                    let mut list = Vec::new();
                    scanner.enter_array()?;
                    while scanner.next_item()? {
                        // A few more than allowed are read, so that each surplus one can be refused by its id.
                        if list.len() == 16 * limits::SUBSCRIPTIONS {
                            return Err(FrameError::new("far too many subscriptions in one frame"));
                        }
                        list.push(Fields::scan_subscription(scanner)?);
                    }
                    once(&mut fields.subscriptions, list, "subscriptions")?;
                }
                // A newer client may say more than we know.
                _ => drop(scanner.raw()?),
            }
        }
        Ok(fields)
    }

    fn scan_subscription(scanner: &mut Scanner<'a>) -> Result<Subscribe<'a>, FrameError> {
        let mut fields = Fields::default();
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            match &*key {
                "id" => once(&mut fields.id, scanner.number()?, "id")?,
                "filter" => once(&mut fields.filter, scanner.string()?, "filter")?,
                "cursor" => once(&mut fields.cursor, scanner.string()?, "cursor")?,
                "from" => once(&mut fields.from, scanner.string()?, "from")?,
                "sinceMs" => once(&mut fields.since, scanner.number()?, "sinceMs")?,
                "snapshot" => once(&mut fields.snapshot, scanner.string()?, "snapshot")?,
                "state" => once(&mut fields.state, scanner.string()?, "state")?,
                "conflateMs" => once(&mut fields.conflate, scanner.number()?, "conflateMs")?,
                _ => drop(scanner.raw()?),
            }
        }
        fields.subscribe()
    }

    fn id(&self) -> Result<SubscriptionId, FrameError> {
        let id = self.id.ok_or_else(|| FrameError::missing("id"))?;
        SubscriptionId::try_from(id).map_err(|_| FrameError::new("id is over 4294967295"))
    }

    fn subscribe(mut self) -> Result<Subscribe<'a>, FrameError> {
        let start = match (self.cursor.take(), self.from.as_deref(), self.since) {
            (None, None, None) => StartAt::Default,
            (Some(cursor), None, None) => StartAt::Cursor(cursor),
            (None, None, Some(ms)) => StartAt::Since(ms),
            (None, Some("now"), None) => StartAt::Now,
            (None, Some("earliest"), None) => StartAt::Earliest,
            (None, Some(_), None) => return Err(FrameError::new("from must be now or earliest")),
            _ => return Err(FrameError::new("only one of cursor, from and sinceMs may be given")),
        };
        let snapshot = match self.snapshot.as_deref() {
            None => SnapshotMode::default(),
            Some(name) => SnapshotMode::ALL
                .into_iter()
                .find(|mode| mode.name() == name)
                .ok_or_else(|| FrameError::new("snapshot must be none, if_new or always"))?,
        };
        let id = self.id()?;
        let filter = self.filter.ok_or_else(|| FrameError::missing("filter"))?;
        let conflate_ms = self.conflate.unwrap_or(0);
        Ok(Subscribe { id, filter, start, snapshot, state: self.state, conflate_ms })
    }

    fn take_token(&mut self) -> Result<Cow<'a, str>, FrameError> {
        let token = self.token.take().ok_or_else(|| FrameError::missing("token"))?;
        if token.len() > limits::TOKEN_BYTES {
            return Err(FrameError { code: Code::TOKEN_INVALID, message: "the token is over 16 KiB".into() });
        }
        Ok(token)
    }

    fn hello(mut self) -> Result<Hello<'a>, FrameError> {
        let named = |name: Option<Cow<'a, str>>, field: &str| match name {
            Some(name) if name.len() > limits::CLIENT_ID_BYTES => {
                Err(FrameError::new(format!("{field} is over 128 bytes")))
            }
            Some(name) => Ok(name),
            None => Ok(Cow::Borrowed("")),
        };
        Ok(Hello {
            token: self.take_token()?,
            cursor: self.cursor,
            client_id: named(self.client_id, "clientId")?,
            sdk: named(self.sdk, "sdk")?,
            subscriptions: self.subscriptions.unwrap_or_default(),
        })
    }
}

impl<'a> ClientFrame<'a> {
    /// Reads a frame from JSON. Unknown fields are skipped, an unknown type is an error.
    pub fn from_json(text: &'a str) -> Result<ClientFrame<'a>, FrameError> {
        let mut scanner = Scanner::new(text);
        let mut fields = Fields::scan(&mut scanner)?;
        scanner.end()?;
        let kind = fields.kind.take().ok_or_else(|| FrameError::missing("type"))?;
        Ok(match &*kind {
            "hello" => ClientFrame::Hello(fields.hello()?),
            "subscribe" => ClientFrame::Subscribe(fields.subscribe()?),
            "unsubscribe" => ClientFrame::Unsubscribe { id: fields.id()? },
            "publish" => ClientFrame::Publish {
                envelope: fields.envelope.ok_or_else(|| FrameError::missing("envelope"))?,
            },
            "authenticate" => ClientFrame::Authenticate(Token(fields.take_token()?)),
            "conflate" => ClientFrame::Conflate {
                id: fields.id()?,
                ms: fields.conflate.ok_or_else(|| FrameError::missing("conflateMs"))?,
            },
            "hidden" => ClientFrame::Hidden(fields.hidden.ok_or_else(|| FrameError::missing("hidden"))?),
            "probe" => ClientFrame::Probe,
            "pong" => ClientFrame::Pong,
            "goodbye" => ClientFrame::Goodbye,
            _ => {
                return Err(FrameError {
                    code: Code::UNKNOWN_FRAME,
                    message: "no client frame has this type".into(),
                });
            }
        })
    }

    /// Appends the frame as JSON.
    pub fn write_json(&self, out: &mut String) {
        let mut object = ObjectWriter::begin(out);
        match self {
            ClientFrame::Hello(hello) => {
                object.string("type", "hello").string("token", &hello.token);
                object.string("clientId", &hello.client_id).string("sdk", &hello.sdk);
                if let Some(cursor) = &hello.cursor {
                    object.string("cursor", cursor);
                }
                let list = object.key("subscriptions");
                list.push('[');
                for (i, subscribe) in hello.subscriptions.iter().enumerate() {
                    if i > 0 {
                        list.push(',');
                    }
                    let mut item = ObjectWriter::begin(list);
                    subscribe.write_fields(&mut item);
                    item.end();
                }
                list.push(']');
            }
            ClientFrame::Subscribe(subscribe) => {
                object.string("type", "subscribe");
                subscribe.write_fields(&mut object);
            }
            ClientFrame::Unsubscribe { id } => {
                object.string("type", "unsubscribe").number("id", u64::from(*id));
            }
            ClientFrame::Publish { envelope } => {
                object.string("type", "publish").raw("envelope", envelope);
            }
            ClientFrame::Authenticate(Token(token)) => {
                object.string("type", "authenticate").string("token", token);
            }
            ClientFrame::Conflate { id, ms } => {
                object.string("type", "conflate").number("id", u64::from(*id)).number("conflateMs", *ms);
            }
            ClientFrame::Hidden(hidden) => {
                object.string("type", "hidden").boolean("hidden", *hidden);
            }
            ClientFrame::Probe => drop(object.string("type", "probe")),
            ClientFrame::Pong => drop(object.string("type", "pong")),
            ClientFrame::Goodbye => drop(object.string("type", "goodbye")),
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

impl Subscribe<'_> {
    fn write_fields(&self, object: &mut ObjectWriter<'_>) {
        object.number("id", u64::from(self.id)).string("filter", &self.filter);
        match &self.start {
            StartAt::Default => {}
            StartAt::Now => drop(object.string("from", "now")),
            StartAt::Earliest => drop(object.string("from", "earliest")),
            StartAt::Since(ms) => drop(object.number("sinceMs", *ms)),
            StartAt::Cursor(cursor) => drop(object.string("cursor", cursor)),
        }
        if self.snapshot != SnapshotMode::default() {
            object.string("snapshot", self.snapshot.name());
        }
        if let Some(state) = &self.state {
            object.string("state", state);
        }
        if self.conflate_ms > 0 {
            object.number("conflateMs", self.conflate_ms);
        }
    }
}
