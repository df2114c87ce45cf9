//! What the machine asks its body to do, and what it tells the app.

use crate::store::Write;
use crate::token::TokenWhy;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use anabranch_protocol::client_frame::SubscriptionId;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Cursor, Position};
use anabranch_protocol::server_frame::{About, Gap, Outcome};

/// One thing to do. Effects are carried out in the order in which they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Open a socket. Whatever is later heard of it is reported with this number.
    Open { attempt: u32 },
    /// Send a text frame on the socket of this attempt. Frames may carry tokens: never log them.
    Send { attempt: u32, text: String },
    /// Close the socket of this attempt with this code, and forget it. Nothing needs to be reported.
    Close { attempt: u32, code: u16 },
    /// Ask the app's provider for a token; answer with [`Machine::handle_token`](crate::Machine::handle_token).
    NeedToken { request: u32, why: TokenWhy },
    /// One message for these subscriptions, never empty. The envelope is JSON text.
    Deliver { subscriptions: Vec<SubscriptionId>, position: Position, about: About, envelope: Arc<str> },
    /// One message that no log keeps, for these subscriptions, never empty. It moves no cursor, and the cache does not hold it.
    Transient { subscriptions: Vec<SubscriptionId>, envelope: Arc<str> },
    /// Records are gone that these subscriptions have not seen. Comes before their next message.
    Gap { subscriptions: Vec<SubscriptionId>, gap: Gap },
    /// These subscriptions have everything up to the newest record; what follows comes as it happens.
    Live { subscriptions: Vec<SubscriptionId> },
    /// Delivery begins, or goes on after a reconnect.
    Subscribed { subscription: SubscriptionId, outcome: Outcome },
    /// Every value that its state topics have comes from here on, until [`Effect::SnapshotEnds`]: topics that do not come have none.
    /// Comes again if it has to begin once more.
    SnapshotBegins { subscription: SubscriptionId },
    /// The snapshot is whole; `complete` unless a gateway that told a part of it did not know every value.
    SnapshotEnds { subscription: SubscriptionId, complete: bool },
    /// The gateway refused a subscription for good (it is gone), or, without a subscription, the connection.
    Refused { subscription: Option<SubscriptionId>, code: Code, message: String },
    /// The token no longer grants this subscription. It is gone, and the cache holds nothing of it.
    Revoked { subscription: SubscriptionId, code: Code },
    /// Where this subscription stands after everything delivered so far. At most one for each subscription and input.
    Cursor { subscription: SubscriptionId, cursor: Cursor },
    /// The log has it.
    Published { message_id: String, position: Position, duplicate: bool },
    /// A publish that is kept, or has a time to live, has left this client for the first time.
    Sent { message_id: String },
    /// The gateway refused a kept publish for good: it waits until the app tries it again or withdraws it, and others of its topic behind it.
    Wedged { message_id: String, code: Code, message: String },
    /// It will not be published. `retryable`: the same thing may work later, under the same message id.
    Failed { message_id: String, code: Code, message: String, retryable: bool },
    /// Write this to the store, in the order of the effects; what comes until [`poll_effect`](crate::Machine::poll_effect) has no more belongs together. Only
    /// after [`restore`](crate::Machine::restore).
    Keep(Write),
    /// The connection's state changed.
    State(State),
}

/// Where the connection stands, for the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What most apps show.
    pub phase: Phase,
    /// How many attempts since the connection was last healthy. 0 before the first.
    pub attempt: u32,
    /// When offline: milliseconds until the next attempt.
    pub retry_in_ms: Option<u64>,
    /// The wall clock (milliseconds since 1970) when this phase began; while connecting or offline, when the connection was lost.
    pub since: u64,
    /// Why the last connection ended or this phase was entered, if the gateway said so.
    pub code: Option<Code>,
    /// Whether the gateway reaches its log. While it does not, nothing new arrives and publishes wait.
    pub upstream: bool,
}

impl State {
    /// Before the first `connect`.
    pub fn idle() -> State {
        State { phase: Phase::Idle, attempt: 0, retry_in_ms: None, since: 0, code: None, upstream: true }
    }
}

/// The part of [`State`] that most apps show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not wanted: before `connect`, or after `disconnect`.
    Idle,
    /// Getting a token, dialing, greeting.
    Connecting,
    /// Connected; what was missed is on its way.
    Syncing,
    /// Connected, and everything is here.
    Live,
    /// Waiting for the next attempt.
    Offline,
    /// The app has paused it; see `pause`.
    Paused,
    /// The gateway refuses the tokens it is given. `connect` tries again.
    NeedsAuth,
    /// Closed by the app for good, or told to stop by the gateway (then `connect` tries again).
    Closed,
}

impl Phase {
    /// Its name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Phase::Idle => "idle",
            Phase::Connecting => "connecting",
            Phase::Syncing => "syncing",
            Phase::Live => "live",
            Phase::Offline => "offline",
            Phase::Paused => "paused",
            Phase::NeedsAuth => "needs_auth",
            Phase::Closed => "closed",
        }
    }
}
