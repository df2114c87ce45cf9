//! What one client is to be.

use crate::wire::{Dialect, frame, mqtt, nats};
use anabranch_protocol::SUBPROTOCOL;
use anabranch_protocol::client_frame::{ClientFrame, Hello, StartAt, Subscribe};
use rustls::ClientConfig;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

/// One client: what it says when it is connected, and what it is then to receive.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The request, if this is to be a WebSocket, and what is said once it was answered: uWebSockets drops what comes together with the request.
    pub request: Vec<u8>,
    pub greeting: Vec<u8>,
    /// The first message's number, and the distance to the next; a stride of 0 receives nothing.
    pub first: u64,
    pub stride: u64,
    pub publishes: bool,
    /// Bytes before, of, and after the envelope of each delivery, where frames do not tell.
    pub unit: (usize, usize, usize),
    /// Its latencies count apart, and its socket takes few bytes at a time.
    pub slow: bool,
    pub receive_buffer: Option<usize>,
    /// Whom it trusts, if it speaks TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Plan {
    /// A client of the gateway, or of whoever speaks its protocol. Without a filter it only publishes.
    pub fn anabranch(server: SocketAddr, token: &str, filter: Option<&str>, cursor: Option<&str>) -> Plan {
        let subscriptions = filter
            .map(|filter| {
                let start = if cursor.is_some() { StartAt::Default } else { StartAt::Now };
                vec![Subscribe { id: 1, filter: Cow::Borrowed(filter), start, ..Subscribe::default() }]
            })
            .unwrap_or_default();
        let hello = Hello {
            token: Cow::Borrowed(token),
            client_id: Cow::Borrowed("loadtest"),
            sdk: Cow::Borrowed("anabranch-loadtest"),
            cursor: cursor.map(Cow::Borrowed),
            subscriptions,
        };
        let mut greeting = Vec::new();
        frame::masked(&mut greeting, 1, ClientFrame::Hello(hello).to_json().as_bytes());
        let request = request(server, "/v1/ws", Some(SUBPROTOCOL));
        Plan {
            request,
            greeting,
            first: 0,
            stride: 1,
            publishes: filter.is_none(),
            unit: (0, 0, 0),
            ..Plan::default()
        }
    }

    /// A client of a peer. `envelope` is the length of every envelope, `topic` one of those that it will see.
    pub fn peer(
        server: SocketAddr,
        dialect: Dialect,
        number: usize,
        filter: Option<&str>,
        topic: &str,
        envelope: usize,
    ) -> Plan {
        let mut greeting = Vec::new();
        let (request, (before, after)) = match dialect {
            // Messages are posted to Nchan by HTTP.
            Dialect::Bare if filter.is_none() => (Vec::new(), (0, 0)),
            Dialect::Anabranch | Dialect::Bare => {
                let path = format!("/sub?id={}", filter.unwrap_or("nothing"));
                (request(server, &path, None), (0, 0))
            }
            Dialect::Nats => {
                frame::masked(&mut greeting, 2, &nats::subscribe(filter));
                (request(server, "/", None), nats::around(topic, envelope))
            }
            Dialect::Mqtt => {
                frame::masked(&mut greeting, 2, &mqtt::subscribe(&format!("load-{number}"), filter));
                (request(server, "/mqtt", Some("mqtt")), mqtt::around(topic, envelope))
            }
        };
        Plan {
            request,
            greeting,
            first: 0,
            stride: 1,
            publishes: filter.is_none(),
            unit: (before, envelope, after),
            ..Plan::default()
        }
    }

    /// A client that speaks TLS, if there is a configuration.
    pub fn through(self, tls: Option<&Arc<ClientConfig>>) -> Plan {
        Plan { tls: tls.cloned(), ..self }
    }

    /// The messages that it is to receive: numbers from `first` on, each `stride` after the other.
    pub fn receives(self, first: u64, stride: u64) -> Plan {
        Plan { first, stride, ..self }
    }

    /// One that is going to read slowly. Its kernel hides less of that than it would by itself.
    pub fn slow(self) -> Plan {
        Plan { slow: true, receive_buffer: Some(4096), ..self }
    }
}

/// A request for a WebSocket.
pub fn request(server: SocketAddr, path: &str, subprotocol: Option<&str>) -> Vec<u8> {
    let subprotocol =
        subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{subprotocol}\r\n"
    )
    .into_bytes()
}
