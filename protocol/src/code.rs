//! Every refusal and every close, numbered so that the number alone says what to do.
//!
//! | range | remedy |
//! |---|---|
//! | 4100–4199 | retry: the same thing may work later |
//! | 4200–4299 | authenticate: get a fresh token, then try again |
//! | 4300–4399 | start anew: drop the cursor, take a new snapshot, go on from now |
//! | 4400–4499 | drop the item: this subscription or publish will never work as it is, the connection is fine |
//! | 4500–4599 | stop: this client cannot talk to this gateway |
//!
//! A client obeys the range of a code that it has never seen. The numbers are WebSocket close codes as they are.

use core::fmt;

/// What a client does about a code. Derived from the code's range, see the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// Try again later, with backoff or after the advised time.
    Retry,
    /// Get a fresh token, then try again.
    Authenticate,
    /// Forget the cursor, take a new snapshot and go on from now.
    StartAnew,
    /// Give up on this subscription or publish; the connection goes on.
    DropItem,
    /// Do not come back.
    Stop,
}

impl Remedy {
    /// The word for it on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Remedy::Retry => "retry",
            Remedy::Authenticate => "authenticate",
            Remedy::StartAnew => "start_anew",
            Remedy::DropItem => "drop_item",
            Remedy::Stop => "stop",
        }
    }
}

/// A numbered reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u16);

impl Code {
    /// What to do about it. A number outside every range, such as WebSocket's own 1006, means retry.
    pub const fn remedy(self) -> Remedy {
        match self.0 {
            4200..=4299 => Remedy::Authenticate,
            4300..=4399 => Remedy::StartAnew,
            4400..=4499 => Remedy::DropItem,
            4500..=4599 => Remedy::Stop,
            _ => Remedy::Retry,
        }
    }

    /// The HTTP status of an answer that is refused with this code.
    pub const fn http_status(self) -> u16 {
        match self {
            Code::TOO_MANY_IN_FLIGHT | Code::TOO_MANY_CONNECTIONS | Code::SHADOW_TOO_FAST => 429,
            Code::NOT_ALLOWED | Code::ORIGIN_REFUSED | Code::RESERVED_TOPIC => 403,
            Code::TOO_LARGE | Code::SHADOW_TOO_LARGE => 413,
            Code::SHADOW_CONFLICT => 409,
            Code::SHADOW_NOT_FOUND => 404,
            Code::LOG_FULL => 507,
            _ => match self.remedy() {
                Remedy::Retry => 503,
                Remedy::Authenticate => 401,
                Remedy::StartAnew => 409,
                Remedy::DropItem | Remedy::Stop => 400,
            },
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Writes the constants and the table from one list, so that they cannot disagree.
macro_rules! codes {
    ($($number:literal $constant:ident $name:literal: $advice:literal;)*) => {
        impl Code {
            $(#[doc = $advice] pub const $constant: Code = Code($number);)*

            /// Every code that this version knows, in order.
            pub const ALL: &[Code] = &[$(Code::$constant),*];

            /// Its name in lower case with underscores; `unknown` for a number that this version does not know.
            pub const fn name(self) -> &'static str {
                match self.0 { $($number => $name,)* _ => "unknown" }
            }

            /// What happened and what to do, for the person who meets it.
            pub const fn advice(self) -> &'static str {
                match self.0 { $($number => $advice,)* _ => "A code from a newer gateway: follow its range." }
            }
        }
    };
}

codes! {
    4100 GOING_AWAY "going_away": "The node is being drained. Reconnect after the advised time.";
    4101 OVERLOADED "overloaded": "The node is at its limit. Reconnect after the advised time.";
    4102 UPSTREAM_DOWN "upstream_down": "The log cannot be reached. Retry under the same messageId.";
    4103 LOG_FULL "log_full": "The log has no room. Retry later under the same messageId; tell the operator.";
    4104 UNCONFIRMED "unconfirmed": "The log did not confirm in time; it may have stored the message. Retry under the same messageId.";
    4105 TOO_MANY_IN_FLIGHT "too_many_in_flight": "Too many publishes wait for their confirm. Wait for some, then retry.";
    4106 TOO_MANY_CONNECTIONS "too_many_connections": "This address or subject has too many connections. Close some, or retry later.";
    4107 UNRESPONSIVE "unresponsive": "Nothing was heard from this client within the ping deadline. Reconnect and resume.";
    4108 HELLO_TIMEOUT "hello_timeout": "No hello came in time. Send it right after the socket opens.";
    4109 INTERNAL "internal": "The gateway failed at this. Retry; if it stays, report the message to the operator.";
    4110 SHADOW_TOO_FAST "shadow_too_fast": "The device's shadow is updated too often. Retry later, or put several changes into one update.";

    4200 TOKEN_EXPIRED "token_expired": "The token has expired. Get a fresh one and authenticate.";
    4201 TOKEN_INVALID "token_invalid": "The token is not acceptable here. Get one from this platform's issuer.";
    4202 TOKEN_NOT_YET_VALID "token_not_yet_valid": "The token is not valid yet. Check the issuer's clock, or wait.";

    4300 CURSOR_OTHER_LOG "cursor_other_log": "The cursor belongs to another log. Start anew from the cursor given here.";
    4301 CURSOR_DIVERGED "cursor_diverged": "The log's history was rewritten since this cursor. Start anew from the cursor given here.";
    4302 CURSOR_AHEAD "cursor_ahead": "The cursor lies beyond the end of the log. Start anew from the cursor given here.";
    4303 CURSOR_MALFORMED "cursor_malformed": "The text is not a cursor. Send back a cursor exactly as it was received, or none.";

    4400 NOT_ALLOWED "not_allowed": "The token does not grant this. Ask for a grant that covers it, or ask for less.";
    4401 BAD_TOPIC "bad_topic": "The topic is not valid. At most 255 bytes and 32 levels, no wildcards, no control characters.";
    4402 BAD_FILTER "bad_filter": "The filter is not valid. + and # fill a whole level, # stands last.";
    4403 EXPIRED "expired": "Its time to live ended before it could be sent. Publish it anew if it still matters.";
    4404 BAD_ENVELOPE "bad_envelope": "The envelope is not valid: {\"metadata\":{\"topic\":…},\"payload\":…}.";
    4405 TOO_LARGE "too_large": "The message is over the size limit in welcome, or over the one of its topic. Send less.";
    4406 TOO_MANY_SUBSCRIPTIONS "too_many_subscriptions": "The connection has as many subscriptions as are allowed. Use a wildcard, or unsubscribe from some.";
    4407 SUBSCRIPTION_IN_USE "subscription_in_use": "This subscription id is in use. Choose another, or unsubscribe first.";
    4408 UNKNOWN_SUBSCRIPTION "unknown_subscription": "There is no subscription with this id.";
    4409 RESERVED_TOPIC "reserved_topic": "The gateway alone writes this topic. Shadows are changed through shadow/desired, shadow/reported, shadow/update and shadow/delete.";
    4410 SHADOW_CONFLICT "shadow_conflict": "The shadow has another version or incarnation than the update expects. Look at the current one, then decide anew.";
    4411 SHADOW_BAD_UPDATE "shadow_bad_update": "The payload is no update of a shadow. See docs/PROTOCOL.md, Shadows.";
    4412 SHADOW_NOT_FOUND "shadow_not_found": "The device has no shadow. The first update makes one.";
    4413 SHADOW_TOO_LARGE "shadow_too_large": "The shadow would be larger than allowed. Remove fields (null), or keep less in it.";
    4414 SHADOW_TOO_DEEP "shadow_too_deep": "The update nests more deeply than allowed. Make the state flatter.";

    4500 BAD_FRAME "bad_frame": "The frame is not valid JSON of a known shape. See docs/PROTOCOL.md.";
    4501 UNKNOWN_FRAME "unknown_frame": "The frame's type is not known to this version. See docs/PROTOCOL.md.";
    4502 UNEXPECTED_FRAME "unexpected_frame": "This frame may not come now: the first frame is hello, and only the first.";
    4503 FRAME_TOO_LARGE "frame_too_large": "The frame is over the size limit in welcome.";
    4504 BAD_WEBSOCKET "bad_websocket": "The bytes are not WebSocket as in RFC 6455.";
    4505 UNSUPPORTED_VERSION "unsupported_version": "No common protocol version. Offer the subprotocol anabranch.v1.json.";
    4506 ORIGIN_REFUSED "origin_refused": "Pages of this origin may not connect. Ask the operator to allow it.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_lie_in_a_range() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0] < pair[1], "{:?} and {:?} are out of order", pair[0], pair[1]);
        }
        for code in Code::ALL {
            assert!((4100..=4599).contains(&code.0), "{code:?} lies in no range");
            assert!(code.advice().ends_with('.'), "{code:?} needs whole sentences");
        }
    }

    #[test]
    fn an_unknown_code_is_obeyed_by_its_range() {
        assert_eq!(Code(4299).remedy(), Remedy::Authenticate);
        assert_eq!(Code(4299).name(), "unknown");
        assert_eq!(Code(1006).remedy(), Remedy::Retry);
    }
}
