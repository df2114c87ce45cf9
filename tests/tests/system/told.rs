//! Clients of the SDK that write down what their apps are told: messages, gaps and resets, and when.

use anabranch::{Client, Cursor, Event, Gap, GapReason, Outcome, Start};
use anabranch_protocol::cursor::{Offset, Position};
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use tokio::task::JoinHandle;

/// What an app was told so far.
#[derive(Default)]
pub struct Told {
    /// Where each message since the last reset stood.
    pub messages: Vec<Position>,
    pub gaps: Vec<Gap>,
    /// When it was told that the history has ended.
    pub resets: Vec<Instant>,
    /// Whether everything there was has been delivered.
    live: bool,
    cursor: Option<Cursor>,
}

impl Told {
    /// How many gaps and resets.
    pub fn losses(&self) -> (usize, usize) {
        (self.gaps.len(), self.resets.len())
    }

    pub fn offsets(&self) -> Vec<Offset> {
        self.messages.iter().map(|position| position.offset).collect()
    }
}

/// A client with one subscription to everything that is published here.
pub struct Listener {
    told: Arc<Mutex<Told>>,
    app: JoinHandle<()>,
    _client: Client,
}

impl Listener {
    /// Goes to a gateway, and begins there.
    pub fn start(url: &str, name: &str, start: Start) -> Listener {
        let builder = Client::builder(url).token(tokens::all("listeners")).client_id(name);
        let client = builder.build().expect("a client");
        let mut subscription = client.subscribe("plant/#").from(start).open().expect("a subscription");
        client.connect();
        let told = Arc::new(Mutex::new(Told::default()));
        let noting = Arc::clone(&told);
        let app = tokio::spawn(async move {
            while let Some(event) = subscription.next().await {
                let mut told = noting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                match event {
                    Event::Message(message) => told.messages.push(message.position()),
                    // A reset says by a gap too that everything before is void.
                    Event::Gap(gap) if gap.reason == GapReason::Reset => {}
                    Event::Gap(gap) => told.gaps.push(gap),
                    Event::Subscribed(Outcome::Reset(_)) => {
                        told.resets.push(Instant::now());
                        told.messages.clear();
                    }
                    Event::Live => told.live = true,
                    Event::Closed(_) => return,
                    _ => {}
                }
                told.cursor = subscription.cursor();
            }
        });
        Listener { told, app, _client: client }
    }

    /// As many, each live.
    pub async fn live(url: &str, count: usize) -> Vec<Listener> {
        let start = |n| Listener::start(url, &format!("live-{n}"), Start::Now);
        let listeners: Vec<Listener> = (0..count).map(start).collect();
        for listener in &listeners {
            listener.until("live", |told| told.live).await;
        }
        listeners
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits until the app was told this.
    pub async fn until(&self, what: &str, met: impl Fn(&Told) -> bool) {
        until(what, async || met(&self.told()).then_some(())).await;
    }

    /// Waits until everything there was has been delivered.
    pub async fn until_live(&self) {
        self.until("live", |told| told.live).await;
    }

    /// A cursor behind the message of this number.
    pub fn cursor_after(&self, number: usize) -> Cursor {
        let told = self.told();
        let mut cursor = told.cursor.clone().expect("a cursor");
        cursor.set(told.messages[number]);
        cursor
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.app.abort();
    }
}
