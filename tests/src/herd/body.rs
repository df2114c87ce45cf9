//! The least of a body around the core: one socket, one timer, and a diary.

use super::{Clock, Diary, Note};
use anabranch::{Event, Phase};
use anabranch_protocol::SUBPROTOCOL;
use anabranch_protocol::server_frame::ServerFrame;
use anabranch_sdk_core::{Effect, Machine, Now, Start, Wish};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// How long opening a socket may take.
const CONNECT: Duration = Duration::from_secs(10);
/// WebSocket's code for a connection that ended without one.
const ABNORMAL: u16 = 1006;
/// The one subscription.
const SUBSCRIPTION: u32 = 1;
/// Thousands of sockets, small frames.
const BUFFER: usize = 4 * 1024;

pub(super) struct Body {
    machine: Machine,
    clock: Clock,
    /// When the input came whose effects are carried out: when the core decided.
    now: Now,
    door: SocketAddr,
    token: String,
    diary: Arc<Mutex<Diary>>,
    restless: bool,
    socket: Option<(u32, WebSocketStream<TcpStream>)>,
}

/// What happened next.
enum Input {
    Frame(u32, Utf8Bytes),
    Closed(u32, u16),
    Time,
}

/// What publishers put into payloads, and what stands around it.
#[derive(Deserialize)]
struct Envelope {
    payload: Numbered,
}

#[derive(Deserialize)]
struct Numbered {
    n: u32,
}

impl Body {
    pub(super) fn new(
        machine: Machine,
        clock: Clock,
        door: SocketAddr,
        token: String,
        diary: Arc<Mutex<Diary>>,
        restless: bool,
    ) -> Body {
        Body { machine, clock, now: clock.now(), door, token, diary, restless, socket: None }
    }

    pub(super) async fn run(mut self, filter: &'static str) {
        let wished = self.machine.subscribe(self.now, SUBSCRIPTION, filter, Start::Now, Wish::default());
        wished.expect("a filter");
        self.machine.connect(self.now);
        loop {
            self.carry_out().await;
            let input = self.next().await;
            self.now = self.clock.now();
            match input {
                Input::Frame(attempt, text) => self.frame(attempt, &text),
                Input::Closed(attempt, code) => {
                    self.socket = None;
                    self.machine.handle_closed(self.now, attempt, code);
                }
                Input::Time => self.machine.handle_timer(self.now),
            }
        }
    }

    fn diary(&self) -> MutexGuard<'_, Diary> {
        self.diary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: Note) {
        self.diary().notes.push(note);
    }

    async fn next(&mut self) -> Input {
        let deadline = self.machine.next_timer().map(|mono| self.clock.instant(mono));
        let time = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            input = heard(&mut self.socket) => input,
            () = time => Input::Time,
        }
    }

    fn frame(&mut self, attempt: u32, text: &str) {
        self.machine.handle_frame(self.now, attempt, text);
        // What it says is read off the wire, not asked of the core.
        if text.contains(r#""go_away""#)
            && let Ok(ServerFrame::GoAway { reconnect_after_ms: after, .. }) = ServerFrame::from_json(text)
        {
            // Nothing else is due before the next ping.
            let until = self.machine.next_timer().unwrap_or(u64::MAX);
            self.note(Note::Slot { at: self.now.mono, after, until });
            if self.restless {
                self.machine.pause(self.now, "radio");
                self.machine.resume(self.now, "radio");
            }
        }
    }

    async fn carry_out(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Open { attempt } => self.dial(attempt).await,
                Effect::Send { attempt, text } => self.send(attempt, text).await,
                Effect::Close { attempt, code } => self.close(attempt, code).await,
                Effect::NeedToken { request, .. } => {
                    self.machine.handle_token(self.now, request, &self.token)
                }
                Effect::Deliver { position, envelope, .. } => {
                    let Envelope { payload } =
                        serde_json::from_str(&envelope).expect("a payload with its number");
                    self.diary().witness.message(payload.n, position);
                }
                Effect::Gap { gap, .. } => self.diary().witness.gap(&gap),
                Effect::Subscribed { outcome, .. } => self.diary().witness.event(&Event::Subscribed(outcome)),
                Effect::Refused { code, .. } => self.note(Note::Refused(code)),
                Effect::State(state) => {
                    let at = self.now.mono;
                    match (state.phase, state.retry_in_ms) {
                        (Phase::Offline, Some(ms)) => {
                            self.note(Note::Wait { at, ms, attempts: state.attempt })
                        }
                        (Phase::Live, _) => self.note(Note::Live { at }),
                        _ => {}
                    }
                    self.diary().phase = state.phase;
                }
                _ => {}
            }
        }
    }

    async fn dial(&mut self, attempt: u32) {
        self.note(Note::Dial { at: self.now.mono });
        let dialed = timeout(CONNECT, open(self.door)).await;
        self.now = self.clock.now();
        match dialed {
            Ok(Ok(socket)) => {
                self.note(Note::Open { at: self.now.mono });
                self.socket = Some((attempt, socket));
                self.machine.handle_opened(self.now, attempt);
            }
            Ok(Err(error)) => {
                if let Some(after) = retry_after(&error) {
                    self.note(Note::Advice { at: self.now.mono, after });
                    self.machine.handle_advice(self.now, after);
                }
                self.machine.handle_closed(self.now, attempt, ABNORMAL);
            }
            Err(_) => self.machine.handle_closed(self.now, attempt, ABNORMAL),
        }
    }

    async fn send(&mut self, attempt: u32, text: String) {
        if let Some((current, socket)) = &mut self.socket
            && *current == attempt
            && socket.send(Message::Text(text.into())).await.is_err()
        {
            self.socket = None;
            self.now = self.clock.now();
            self.machine.handle_closed(self.now, attempt, ABNORMAL);
        }
    }

    async fn close(&mut self, attempt: u32, code: u16) {
        if let Some((_, mut socket)) = self.socket.take_if(|(current, _)| *current == attempt) {
            // The gateway may be gone; nothing depends on it.
            let _ = socket.close(Some(CloseFrame { code: code.into(), reason: Utf8Bytes::default() })).await;
        }
    }
}

async fn heard(socket: &mut Option<(u32, WebSocketStream<TcpStream>)>) -> Input {
    let Some((attempt, socket)) = socket else { return pending().await };
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Input::Frame(*attempt, text),
            Some(Ok(Message::Close(frame))) => {
                return Input::Closed(*attempt, frame.map_or(ABNORMAL, |frame| frame.code.into()));
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Input::Closed(*attempt, ABNORMAL),
        }
    }
}

async fn open(door: SocketAddr) -> Result<WebSocketStream<TcpStream>, Error> {
    let tcp = TcpStream::connect(door).await?;
    tcp.set_nodelay(true)?;
    let mut request = format!("ws://{door}/v1/ws").into_client_request()?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let config = WebSocketConfig::default().read_buffer_size(BUFFER).write_buffer_size(BUFFER);
    let (socket, _response) = client_async_with_config(request, tcp, Some(config)).await?;
    Ok(socket)
}

/// What an HTTP answer asks for instead of an upgrade, in milliseconds.
fn retry_after(error: &Error) -> Option<u64> {
    let Error::Http(response) = error else { return None };
    let seconds: u64 = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(seconds * 1_000)
}
