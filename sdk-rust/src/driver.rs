//! The one task in which socket, clock, token provider and the state machine meet.
//!
//! It decides nothing but how to read: while a subscription's queue is full, it takes no frame from the socket.

mod connection;
mod delivery;
mod dial;
mod provider;
#[cfg(feature = "tls")]
pub(crate) mod tls;

pub(crate) use dial::Dialer;
pub(crate) use provider::{Provider, fixed};

use crate::shared::Shared;
use anabranch_sdk_core::store::Write;
use anabranch_sdk_core::{Effect, Phase};
use connection::{Connection, Event};
use delivery::Delivery;
use provider::Request;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// While there is anything to wait for, the driver looks at the clock this often: the clock of timers stands still while the
/// machine sleeps, and only a look at both clocks shows it.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// With nothing to wait for, a timer is only there because `select!` wants one.
const NOTHING: Duration = Duration::from_secs(24 * 3600);

struct Driver {
    shared: Arc<Shared>,
    dialer: Dialer,
    provider: Provider,
    connection: Connection,
    request: Request,
    delivery: Delivery,
    /// Sockets that are being closed in good order.
    farewells: JoinSet<()>,
}

/// Drives a client until it is closed.
pub(crate) async fn run(shared: Arc<Shared>, dialer: Dialer, provider: Provider) {
    // Also when the runtime is shut down under the driver, nobody must wait for ever.
    let _end = End(shared.clone());
    let mut driver = Driver {
        delivery: Delivery::new(shared.clone()),
        shared,
        dialer,
        provider,
        connection: Connection::none(),
        request: Request::none(),
        farewells: JoinSet::new(),
    };
    driver.drive().await;
    // Goodbyes are short by themselves.
    while driver.farewells.join_next().await.is_some() {}
    // An error means that the store failed, which was said.
    let _ = driver.shared.keeper.flush().await;
}

struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Driver {
    async fn drive(&mut self) {
        let shared = self.shared.clone();
        let mut heartbeat = Instant::now();
        let mut timer = pin!(sleep_until(heartbeat));
        loop {
            self.delivery.relieve();
            let wanted = self.carry_out();
            if shared.is_closed() {
                return;
            }
            let deadline = match wanted {
                Some(wanted) => wanted.min(heartbeat).min(self.delivery.park_at().unwrap_or(heartbeat)),
                None => heartbeat + NOTHING,
            };
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            tokio::select! {
                event = self.connection.next(self.delivery.may_read() && shared.keeper.keeps_up()) => self.report(event),
                () = shared.keeper.progress(), if !shared.keeper.keeps_up() => {}
                () = shared.changed() => {}
                (request, answer) = self.request.answer() => self.report_token(request, answer),
                () = &mut timer => {
                    let now = Instant::now();
                    if heartbeat <= now {
                        heartbeat = now + HEARTBEAT;
                    }
                    self.delivery.park_if_due();
                    let mut locked = shared.lock();
                    locked.machine.handle_timer(shared.now());
                }
            }
            while self.farewells.try_join_next().is_some() {}
        }
    }

    fn report(&mut self, event: Event) {
        let (attempt, now) = (self.connection.attempt(), self.shared.now());
        let mut locked = self.shared.lock();
        match event {
            Event::Opened => locked.machine.handle_opened(now, attempt),
            Event::Text(text) => locked.machine.handle_frame(now, attempt, &text),
            Event::Closed { code, failure, retry_after } => {
                tracing::info!(client = self.shared.client_id(), attempt, code, "connection lost: {failure}");
                locked.last_failure = Some(failure);
                if let Some(after) = retry_after {
                    let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
                    locked.machine.handle_advice(now, after);
                }
                locked.machine.handle_closed(now, attempt, code);
            }
        }
    }

    fn report_token(&mut self, request: u32, answer: Result<String, String>) {
        let now = self.shared.now();
        let mut locked = self.shared.lock();
        match answer {
            Ok(token) => locked.machine.handle_token(now, request, &token),
            Err(failure) => {
                tracing::warn!(client = self.shared.client_id(), "no token: {failure}");
                locked.last_failure = Some(format!("no token: {failure}"));
                locked.machine.handle_token_failed(now, request);
            }
        }
    }

    /// Carries out all effects. Returns when the machine wants to look at the clock again.
    fn carry_out(&mut self) -> Option<Instant> {
        let shared = self.shared.clone();
        let (mut writes, mut done) = (Vec::new(), Vec::new());
        let mut locked = shared.lock();
        while let Some(effect) = locked.machine.poll_effect() {
            match effect {
                Effect::Keep(write) => {
                    if let Write::Enqueue { message_id, .. } = &write {
                        done.extend(locked.enqueued.remove(&**message_id).unwrap_or_default());
                    }
                    writes.push(write);
                }
                Effect::Open { attempt } => self.connection.dial(attempt, &self.dialer),
                Effect::Send { attempt, text } => self.connection.send(attempt, text),
                Effect::Close { attempt, code } => {
                    if let Some(farewell) = self.connection.close(attempt, code) {
                        self.farewells.spawn(farewell);
                    }
                }
                Effect::NeedToken { request, why } => self.request.start(request, (self.provider)(why)),
                Effect::State(state) => {
                    if matches!(state.phase, Phase::Syncing | Phase::Live) {
                        locked.last_failure = None;
                    }
                    tracing::debug!(client = shared.client_id(), phase = state.phase.name(), "state");
                }
                told => self.delivery.take(&mut locked, told),
            }
        }
        // Before the app can come to the messages: its cursor is written behind them.
        shared.keeper.write(writes, done);
        self.delivery.show();
        shared.tell_state(&locked);
        locked.machine.next_timer().map(|mono| shared.instant(mono))
    }
}
