//! The socket of the current attempt: being opened, open, or none.

use super::dial::{DialError, Dialer, WebSocket};
use anabranch_protocol::code::Code;
use futures_util::future::BoxFuture;
use futures_util::{Sink, Stream, StreamExt};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

/// How long a goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);
/// WebSocket's code for a connection that ended without one.
const ABNORMAL: u16 = 1006;

/// The socket of the current attempt. All others have been forgotten.
pub(crate) struct Connection {
    attempt: u32,
    socket: Socket,
}

enum Socket {
    None,
    Dialing(BoxFuture<'static, Result<WebSocket, DialError>>),
    Open(Box<Open>),
}

struct Open {
    socket: WebSocket,
    /// Bounded by what the machine has in flight.
    outgoing: VecDeque<String>,
    /// Something was handed to the socket that may not have left it.
    unflushed: bool,
}

/// What happened on the current attempt.
#[derive(Debug)]
pub(crate) enum Event {
    Opened,
    Text(Utf8Bytes),
    /// The socket is gone. `failure` says why, for people.
    Closed {
        code: u16,
        failure: String,
        retry_after: Option<Duration>,
    },
}

impl Event {
    fn lost(failure: String) -> Event {
        Event::Closed { code: ABNORMAL, failure, retry_after: None }
    }
}

impl Connection {
    pub(crate) fn none() -> Connection {
        Connection { attempt: 0, socket: Socket::None }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(crate) fn dial(&mut self, attempt: u32, dialer: &Dialer) {
        *self = Connection { attempt, socket: Socket::Dialing(dialer.dial()) };
    }

    pub(crate) fn send(&mut self, attempt: u32, text: String) {
        if let Socket::Open(open) = &mut self.socket
            && self.attempt == attempt
        {
            open.outgoing.push_back(text);
        }
    }

    /// Gives the socket up. What is to be sent still goes out, in the future that is returned: it takes at most a second,
    /// and nobody needs to wait for it.
    pub(crate) fn close(
        &mut self,
        attempt: u32,
        code: u16,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.attempt != attempt {
            return None;
        }
        match std::mem::replace(&mut self.socket, Socket::None) {
            Socket::Open(open) => Some(async move {
                // A peer that does not play along is left alone; there is nothing to be done about it.
                let _ = timeout(FAREWELL, farewell(open, code)).await;
            }),
            _ => None,
        }
    }

    /// What happens next. Sends what is to be sent; with `read` false, takes nothing from the socket. Cancel safe.
    pub(crate) async fn next(&mut self, read: bool) -> Event {
        poll_fn(|context| self.poll(context, read)).await
    }

    fn poll(&mut self, context: &mut Context<'_>, read: bool) -> Poll<Event> {
        let event = match &mut self.socket {
            Socket::None => return Poll::Pending,
            Socket::Dialing(dialing) => match ready!(dialing.as_mut().poll(context)) {
                Ok(socket) => {
                    let open = Open { socket, outgoing: VecDeque::new(), unflushed: false };
                    self.socket = Socket::Open(Box::new(open));
                    return Poll::Ready(Event::Opened);
                }
                Err(error) => {
                    let (code, retry_after) = match &error {
                        DialError::Http { code, retry_after, .. } => (*code, *retry_after),
                        _ => (None, None),
                    };
                    Event::Closed { code: code.unwrap_or(ABNORMAL), failure: error.to_string(), retry_after }
                }
            },
            Socket::Open(open) => match open.poll(context, read) {
                Poll::Ready(Event::Text(text)) => return Poll::Ready(Event::Text(text)),
                Poll::Ready(event) => event,
                Poll::Pending => return Poll::Pending,
            },
        };
        self.socket = Socket::None;
        Poll::Ready(event)
    }
}

impl Open {
    fn poll(&mut self, context: &mut Context<'_>, read: bool) -> Poll<Event> {
        // Writing never holds up reading: a peer that waits for us to read would otherwise wait for ever.
        if let Poll::Ready(Err(error)) = self.poll_write(context) {
            return Poll::Ready(Event::lost(error.to_string()));
        }
        if !read {
            return Poll::Pending;
        }
        loop {
            let message = match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Event::lost(error.to_string())),
                None => return Poll::Ready(Event::lost("the connection ended".into())),
            };
            return Poll::Ready(match message {
                Message::Text(text) => Event::Text(text),
                Message::Close(frame) => closed(frame),
                // The library has queued the pong; it leaves with the next write.
                Message::Ping(_) | Message::Pong(_) => {
                    self.unflushed = true;
                    let _ = self.poll_write(context);
                    continue;
                }
                Message::Binary(_) | Message::Frame(_) => {
                    Event::lost("the gateway sent a binary frame, which this version has none of".into())
                }
            });
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        let mut socket = Pin::new(&mut self.socket);
        while !self.outgoing.is_empty() {
            ready!(socket.as_mut().poll_ready(context))?;
            if let Some(text) = self.outgoing.pop_front() {
                socket.as_mut().start_send(Message::Text(text.into()))?;
                self.unflushed = true;
            }
        }
        if self.unflushed {
            ready!(socket.as_mut().poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn closed(frame: Option<CloseFrame>) -> Event {
    match frame {
        Some(CloseFrame { code, reason }) => {
            let code = u16::from(code);
            let name = Code(code).name();
            Event::Closed {
                code,
                failure: format!("closed by the gateway: {code} {name} {reason}"),
                retry_after: None,
            }
        }
        None => Event::lost("closed by the gateway without a code".into()),
    }
}

/// Sends what is left and closes in good order.
async fn farewell(mut open: Box<Open>, code: u16) -> Result<(), tungstenite::Error> {
    poll_fn(|context| open.poll_write(context)).await?;
    open.socket.close(Some(CloseFrame { code: code.into(), reason: Utf8Bytes::default() })).await?;
    // The peer's answer, or whatever it had still to say.
    while let Some(message) = open.socket.next().await {
        message?;
    }
    Ok(())
}
