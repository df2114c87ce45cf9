//! The client behind a foreign function interface. There is no callback in it: whatever happens is asked for, by futures that the other language awaits and may give
//! up, and type parameters have become JSON text. UniFFI polls these futures on threads of the other language, which have no tokio runtime and need none.

use anabranch::{SubscriptionHandle, TokenRequest, TokenRequests};
use serde_json::Value;
use std::error::Error;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Mutex as AsyncMutex;

uniffi::setup_scaffolding!();

/// What went wrong, for people, and whether the same thing may work later.
#[derive(Debug, thiserror::Error, uniffi::Error)]
#[uniffi(flat_error)]
pub enum Failure {
    #[error("{0}")]
    Later(String),
    #[error("{0}")]
    Never(String),
}

fn failure(error: &dyn Error, retryable: bool) -> Failure {
    if retryable { Failure::Later(error.to_string()) } else { Failure::Never(error.to_string()) }
}

/// From an error of the client, each of which says whether it is retryable.
macro_rules! failures {
    ($($name:ident)*) => {
        $(impl From<anabranch::$name> for Failure {
            fn from(error: anabranch::$name) -> Failure {
                failure(&error, error.is_retryable())
            }
        })*
    };
}

failures! { BuildError WaitError SubscribeError PublishError CommandError ServeError }

fn json(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| failure(&error, false))
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// Where the clients of this library live.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("threads and timers"))
}

#[derive(uniffi::Object)]
pub struct Client {
    inner: anabranch::Client,
    requests: AsyncMutex<TokenRequests>,
    asked: Mutex<Option<TokenRequest>>,
}

#[uniffi::export]
impl Client {
    #[uniffi::constructor]
    pub fn new(url: String) -> Result<Client, Failure> {
        let (builder, requests) = anabranch::Client::builder(url).token_requests();
        let inner = builder.runtime(runtime().handle().clone()).build()?;
        Ok(Client { inner, requests: AsyncMutex::new(requests), asked: Mutex::default() })
    }

    /// Why a token is needed, as soon as one is: then `answer_token`.
    pub async fn next_token_request(&self) -> Option<String> {
        let request = self.requests.lock().await.next().await?;
        let why = request.why().name().to_owned();
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
        Some(why)
    }

    pub fn answer_token(&self, token: String) {
        if let Some(request) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).take() {
            request.answer(token);
        }
    }

    pub fn connect(&self) {
        self.inner.connect();
    }

    pub async fn wait_live(&self, patience: u32) -> Result<(), Failure> {
        Ok(self.inner.wait_live(seconds(patience)).await?)
    }

    pub fn phase(&self) -> String {
        self.inner.state().phase.name().to_owned()
    }

    pub fn subscribe(&self, filter: String) -> Result<Subscription, Failure> {
        let events = self.inner.subscribe(&filter).open()?;
        Ok(Subscription { handle: events.handle(), events: AsyncMutex::new(events) })
    }

    /// Where the log has it.
    pub async fn publish(&self, topic: String, payload: String) -> Result<String, Failure> {
        Ok(self.inner.publish(&topic).payload_text(payload).send().await?.position.to_string())
    }

    pub fn shadow(&self, device: String) -> Result<Shadow, Failure> {
        Ok(Shadow { inner: self.inner.shadow(&device).open()? })
    }

    pub fn commands(&self, subject: String) -> Result<Commands, Failure> {
        Ok(Commands { inner: self.inner.commands("iotsphere", &subject)? })
    }

    pub fn serve_commands(&self, device: String) -> Result<Device, Failure> {
        Ok(Device { serving: AsyncMutex::new(self.inner.serve_commands("iotsphere", &device).open()?) })
    }

    pub async fn close(&self) {
        self.inner.close().await;
    }
}

#[derive(uniffi::Enum)]
pub enum Event {
    Message { topic: String, payload: String },
    Gap { after: u64, before: u64, reason: String },
    Live,
    Closed { why: String },
    Other,
}

impl From<anabranch::Event> for Event {
    fn from(event: anabranch::Event) -> Event {
        match event {
            anabranch::Event::Message(message) => {
                Event::Message { topic: message.topic().into(), payload: message.payload_text().into() }
            }
            anabranch::Event::Gap(gap) => {
                Event::Gap { after: gap.after.0, before: gap.before.0, reason: gap.reason.name().into() }
            }
            anabranch::Event::Live => Event::Live,
            anabranch::Event::Closed(why) => Event::Closed { why: format!("{why:?}") },
            _ => Event::Other,
        }
    }
}

#[derive(uniffi::Object)]
pub struct Subscription {
    events: AsyncMutex<anabranch::Subscription>,
    handle: SubscriptionHandle,
}

#[uniffi::export]
impl Subscription {
    pub async fn next_event(&self) -> Option<Event> {
        self.events.lock().await.next_event().await.map(Event::from)
    }

    pub fn cursor(&self) -> Option<String> {
        self.handle.cursor().map(|cursor| cursor.to_string())
    }

    /// Also while `next_event` waits, which then has nothing.
    pub fn close(&self) {
        self.handle.close();
    }
}

#[derive(uniffi::Object)]
pub struct Shadow {
    inner: anabranch::Shadow,
}

#[uniffi::export]
impl Shadow {
    pub async fn ready(&self) {
        self.inner.ready().await;
    }

    pub fn reported(&self) -> String {
        self.inner.view().reported_text().to_owned()
    }

    pub fn desired(&self) -> String {
        self.inner.view().desired_text().to_owned()
    }

    pub async fn report(&self, patch: String) -> Result<(), Failure> {
        self.inner.report(&json(&patch)?).await?;
        Ok(())
    }

    pub async fn set_desired(&self, patch: String) -> Result<Change, Failure> {
        Ok(Change { inner: AsyncMutex::new(self.inner.set_desired(&json(&patch)?).await?) })
    }
}

#[derive(uniffi::Object)]
pub struct Change {
    inner: AsyncMutex<anabranch::shadow::Change>,
}

#[uniffi::export]
impl Change {
    pub async fn settled(&self, patience: u32) -> String {
        format!("{:?}", self.inner.lock().await.settled(seconds(patience)).await)
    }
}

#[derive(uniffi::Object)]
pub struct Commands {
    inner: anabranch::Commands,
}

#[uniffi::export]
impl Commands {
    pub fn send(&self, device: String, name: String, arguments: String, ttl: u32) -> Result<Job, Failure> {
        Ok(Job { inner: self.inner.send(&device, &name, &json(&arguments)?, seconds(ttl))? })
    }
}

#[derive(uniffi::Object)]
pub struct Job {
    inner: anabranch::Job,
}

#[uniffi::export]
impl Job {
    /// The result, as JSON text.
    pub async fn reply(&self) -> Result<String, Failure> {
        Ok(self.inner.clone().reply::<Value>().await?.to_string())
    }
}

#[derive(uniffi::Object)]
pub struct Device {
    serving: AsyncMutex<anabranch::Serving>,
}

#[derive(uniffi::Record)]
pub struct Request {
    pub name: String,
    pub arguments: String,
    pub source: String,
}

#[uniffi::export]
impl Device {
    pub async fn next_request(&self) -> Result<Option<Request>, Failure> {
        let request = self.serving.lock().await.next_request().await?;
        Ok(request.map(|request| Request {
            name: request.name,
            arguments: request.arguments,
            source: request.source,
        }))
    }

    pub async fn answer(&self, result: String) -> Result<(), Failure> {
        Ok(self.serving.lock().await.answer(Ok(json(&result)?))?)
    }
}
