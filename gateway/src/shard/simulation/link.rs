//! A client's socket: frames become bytes, of which any number is under way, and it may break between any two.

use super::app::filter;
use super::{ALL, Grants};
use crate::socket::pipe::{Pipe, client_frame, take_server_frame};
use anabranch_protocol::client_frame::{ClientFrame, Subscribe, SubscriptionId, Token};
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::filter::Filter;
use anabranch_protocol::server_frame::{Refused, ServerFrame};
use std::collections::{BTreeMap, VecDeque};

/// Frames that say the same when they come twice. (A `subscribed` is the answer to one question.)
const MAY_COME_TWICE: [&str; 6] = [
    r#"{"type":"message""#,
    r#"{"type":"mark""#,
    r#"{"type":"caught_up""#,
    r#"{"type":"gap""#,
    r#"{"type":"published""#,
    r#"{"type":"ping""#,
];

pub struct Link {
    pub attempt: u32,
    pipe: Pipe,
    /// Sent by the client, and not on its way.
    outgoing: Vec<u8>,
    /// Part of a frame.
    inbound: Vec<u8>,
    /// What the gateway may deliver, by its subscriptions.
    asked: BTreeMap<SubscriptionId, Filter>,
    /// What the tokens grant that were sent: the one in force, and those that have not been answered.
    grants: VecDeque<Grants>,
    /// The next frame of either direction comes twice.
    pub twice: [bool; 2],
    /// Whether some message has come twice: then the counts differ, and a gap may be told.
    pub doubled: bool,
}

/// What comes out of a socket.
pub enum Heard {
    Text(String),
    /// It has ended, with this code.
    Closed(u16),
}

impl Link {
    pub fn new(attempt: u32, pipe: Pipe) -> Link {
        Link {
            attempt,
            pipe,
            outgoing: Vec::new(),
            inbound: Vec::new(),
            asked: BTreeMap::new(),
            grants: VecDeque::new(),
            twice: [false; 2],
            doubled: false,
        }
    }

    /// The client sends a frame. Of a publish, a client that lost count might send two.
    pub fn send(&mut self, text: &str, tokens: &BTreeMap<String, Grants>) {
        let grants = |token: &str| tokens.get(token).copied().unwrap_or(ALL);
        let mut note = |subscribe: &Subscribe<'_>| {
            self.asked.insert(subscribe.id, Filter::new(&subscribe.filter).expect("a filter"));
        };
        let mut copies = 1;
        match ClientFrame::from_json(text).expect("the client speaks the protocol") {
            ClientFrame::Hello(hello) => {
                self.grants.push_back(grants(&hello.token));
                hello.subscriptions.iter().for_each(note);
            }
            ClientFrame::Authenticate(Token(token)) => self.grants.push_back(grants(&token)),
            ClientFrame::Subscribe(subscribe) => note(&subscribe),
            ClientFrame::Publish { .. } if std::mem::take(&mut self.twice[0]) => copies = 2,
            _ => {}
        }
        for _ in 0..copies {
            self.outgoing.extend(client_frame(text));
        }
    }

    /// So many bytes of what was sent arrive. Says whether there were any.
    pub fn push(&mut self, max: usize) -> bool {
        let count = max.min(self.outgoing.len());
        if count > 0 {
            let bytes: Vec<u8> = self.outgoing.drain(..count).collect();
            self.pipe.send(&bytes);
        }
        count > 0
    }

    /// The client reads at most so many bytes: the frames that they complete.
    pub fn receive(&mut self, max: usize) -> Vec<Heard> {
        self.inbound.extend(self.pipe.receive(max));
        let mut heard = Vec::new();
        while let Some((opcode, payload)) = take_server_frame(&mut self.inbound) {
            if opcode == 8 {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                heard.push(Heard::Closed(code));
                return heard;
            }
            let text = String::from_utf8(payload).expect("text");
            let twice = self.twice[1] && MAY_COME_TWICE.iter().any(|kind| text.starts_with(kind));
            let again = twice.then(|| text.clone());
            self.twice[1] &= !twice;
            self.doubled |= twice && text.starts_with(MAY_COME_TWICE[0]);
            heard.extend([Some(text), again].into_iter().flatten().map(Heard::Text));
        }
        if self.pipe.is_at_end() {
            heard.push(Heard::Closed(1006));
        }
        heard
    }

    /// I10: nothing comes that was not asked for, or was taken away. To be called for each frame.
    pub fn check(&mut self, frame: &ServerFrame<'_>) {
        match frame {
            ServerFrame::Revoked { subscription, .. } => _ = self.asked.remove(subscription),
            // It counts from here on: what it does not grant any more ends before the next message.
            ServerFrame::Authenticated { .. } => _ = self.grants.pop_front(),
            ServerFrame::Refused(Refused { subscription: None, message_id: None, .. }) => {
                self.grants.remove(1);
            }
            ServerFrame::Message { envelope, .. } => {
                let topic = Envelope::parse(envelope).expect("an envelope").topic.expect("a topic");
                let asked = self.asked.values().any(|filter| filter.matches(&topic));
                assert!(asked, "I10: {topic} was not asked for, or was revoked");
                let granted = self.grants[0].0.iter().any(|read| filter(read).matches(&topic));
                assert!(granted, "I10: the token does not grant {topic}");
            }
            _ => {}
        }
    }

    /// It breaks, so many bytes later; with a reset, the gateway does not read what is under way.
    pub fn end(mut self, after: usize, reset: bool) {
        self.push(after);
        self.pipe.end(reset);
    }
}
