//! A device that does what it is told, each command once.

use super::journal::Journal;
use super::unix_ms;
use crate::client::Client;
use crate::error::ServeError;
use crate::message::Message;
use crate::subscription::{Event, Start, Subscription};
use anabranch_protocol::envelope::MessageType;
use anabranch_protocol::limits;
use anabranch_sdk_core::command::{self, Answer, Handled, TTL_MS, Verdict};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

impl Client {
    /// Begins to describe a device that does commands: requests come from `ROOT/devices/DEVICE/commands/request`, and answers go to
    /// `…/commands/response/SUBJECT` of whoever the gateway says has asked.
    ///
    /// ```
    /// # anabranch_gateway::testing::example(async |url, token| {
    /// # use anabranch::Client;
    /// # use serde_json::{Value, json};
    /// # use std::time::Duration;
    /// let client = Client::builder(url).token(token).build()?;
    /// client.connect();
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("commands");
    /// let mut serving = client.serve_commands("iotsphere", "d1").journal(file).open()?;
    /// # client.wait_live(Duration::from_secs(5)).await?;
    /// # let job = client.commands("iotsphere", "dev")?.send("d1", "double", &21, Duration::from_secs(20))?;
    /// # let asked = tokio::spawn(job.reply::<i64>());
    /// while let Some(request) = serving.next_request().await? {
    ///     let number: i64 = request.json()?;
    ///     serving.answer(Ok(json!(2 * number)))?;
    /// #   break;
    /// }
    /// # assert_eq!(asked.await??, 42);
    /// # Ok(()) });
    /// ```
    pub fn serve_commands(&self, root: &str, device: &str) -> Serve {
        Serve { client: self.clone(), base: format!("{root}/devices/{device}/commands"), journal: None }
    }
}

/// One command, as the device sees it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What joins request and answer.
    pub id: String,
    /// What is to be done.
    pub name: String,
    /// Whom the token of the one who asks speaks for: the gateway vouches for that.
    pub source: String,
    /// JSON text.
    pub arguments: String,
}

impl Request {
    /// The arguments as a value.
    ///
    /// # Errors
    /// They are not such a value.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.arguments)
    }
}

/// A device about to serve. Does nothing until [`run`](Serve::run) or [`open`](Serve::open).
#[derive(Debug)]
#[must_use = "commands are served by run() or open()"]
pub struct Serve {
    client: Client,
    base: String,
    journal: Option<PathBuf>,
}

impl Serve {
    /// Writes down in this file what is begun and answered. With it, a restart takes up what came meanwhile, and does nothing twice; without it,
    /// what comes while the process is away is not done.
    pub fn journal(mut self, file: impl Into<PathBuf>) -> Serve {
        self.journal = Some(file.into());
        self
    }

    /// Does one command after the other with `handler`, whose error is told to whoever asked. Each is written down before it begins: one that is under
    /// way when the process ends has failed.
    ///
    /// To end it, drop it; a command that is under way then has failed, too.
    ///
    /// # Errors
    /// See [`ServeError`]. Nothing more is done then.
    pub async fn run<H, F>(self, handler: H) -> Result<(), ServeError>
    where
        H: Fn(Request) -> F,
        F: Future<Output = Result<Value, String>>,
    {
        let mut serving = self.open()?;
        while let Some(request) = serving.next_request().await? {
            let outcome = handler(request).await;
            serving.answer(outcome)?;
        }
        Ok(())
    }

    /// Opens the journal, and begins to listen: for devices that would rather ask for the next command than be called with it.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub fn open(self) -> Result<Serving, ServeError> {
        let (journal, handled, start) = match &self.journal {
            None => (Journal::none(), Handled::default(), Start::Now),
            Some(file) => {
                let (journal, handled) =
                    Journal::open(file, unix_ms()).map_err(|error| failed(self.journal.as_ref(), error))?;
                (journal, handled, Start::Since(Duration::from_millis(TTL_MS)))
            }
        };
        let requests = self.client.subscribe(&format!("{}/request", self.base)).from(start).open()?;
        Ok(Serving {
            client: self.client,
            base: self.base,
            file: self.journal,
            journal,
            handled,
            requests,
            under_way: None,
        })
    }
}

fn failed(file: Option<&PathBuf>, error: std::io::Error) -> ServeError {
    ServeError::Journal { file: file.map(|file| file.display().to_string()).unwrap_or_default(), error }
}

/// A device that serves: takes one command, answers it, takes the next. A command that is not answered before the next is asked for, or the process ends, has
/// failed.
pub struct Serving {
    client: Client,
    base: String,
    file: Option<PathBuf>,
    journal: Journal,
    handled: Handled,
    requests: Subscription,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    /// By which it is known: two who happen to choose the same id do not get each other's answers.
    key: String,
    id: String,
    source: String,
}

impl Serving {
    /// The next command, which is written down as begun; `None` when the client was closed. Cancel safe.
    ///
    /// # Errors
    /// See [`ServeError`]. Nothing more is done then.
    pub async fn next_request(&mut self) -> Result<Option<Request>, ServeError> {
        if self.under_way.is_some() {
            self.answer(Err("the device gave no answer".to_owned()))?;
        }
        loop {
            match self.requests.next_event().await {
                Some(Event::Message(message)) => {
                    if let Some(request) = self.take(&message)? {
                        return Ok(Some(request));
                    }
                }
                Some(Event::Gap(gap)) => {
                    tracing::warn!(reason = gap.reason.name(), "commands may have been missed");
                }
                Some(Event::Closed(crate::Closed::Client)) | None => return Ok(None),
                Some(Event::Closed(why)) => return Err(ServeError::Closed(why)),
                Some(_) => {}
            }
        }
    }

    /// Answers the command that was taken last: with its result, or with why it was not done, for people. Nothing if it has its answer.
    ///
    /// # Errors
    /// The journal cannot be written. The answer is not sent then: a restart would not know of it.
    pub fn answer(&mut self, outcome: Result<Value, String>) -> Result<(), ServeError> {
        let Some(UnderWay { key, id, source }) = self.under_way.take() else { return Ok(()) };
        let answer = match outcome {
            Ok(result) => Answer::Done(result.to_string().into()),
            Err(message) => Answer::Failed(message.into()),
        };
        self.handled.answer(&key, answer.clone());
        self.write(&key)?;
        self.send(&id, &source, &answer);
        Ok(())
    }

    /// The command in a message, if it is to be done.
    fn take(&mut self, message: &Message) -> Result<Option<Request>, ServeError> {
        let metadata = message.metadata();
        let id = metadata.correlation_id().or_else(|| metadata.message_id());
        let (Some(id), Some(source)) = (id, metadata.source()) else {
            tracing::warn!(topic = message.topic(), "a request without an id or a source");
            return Ok(None);
        };
        let request = match command::Request::from_json(message.payload_text()) {
            Ok(request) => request,
            Err(error) => {
                self.send(&id, &source, &Answer::Failed(format!("no request: {error}").into()));
                return Ok(None);
            }
        };
        let key = format!("{source} {id}");
        match self.handled.meet(&key, request.expires, unix_ms()) {
            Verdict::UnderWay => {}
            Verdict::Answered(answer) => self.send(&id, &source, &answer),
            Verdict::Refused(answer) => {
                self.write(&key)?;
                self.send(&id, &source, &answer);
            }
            Verdict::Do => {
                self.write(&key)?;
                let (id, source) = (id.into_owned(), source.into_owned());
                self.under_way = Some(UnderWay { key, id: id.clone(), source: source.clone() });
                let (name, arguments) = (request.name.into(), request.arguments.into());
                return Ok(Some(Request { id, name, source, arguments }));
            }
        }
        Ok(None)
    }

    fn write(&mut self, key: &str) -> Result<(), ServeError> {
        let Some(entry) = self.handled.entry(key) else { return Ok(()) };
        self.journal.write(entry).map_err(|error| failed(self.file.as_ref(), error))
    }

    /// Sends an answer, in the background: it waits for a connection, and the next command does not wait for it.
    fn send(&self, id: &str, source: &str, answer: &Answer) {
        if source.is_empty() || source.contains(['/', '+', '#']) {
            return tracing::warn!(source, "this subject is no level of a topic: it gets no answer");
        }
        let mut answering = self
            .client
            .publish(&format!("{}/response/{source}", self.base))
            .message_type(MessageType::Response)
            .correlation_id(id)
            .payload_text(answer.to_json());
        let name = format!("{id}:answer");
        // So that a repeat is stored once. With an id so long that none can follow from it, each answer is a message of its own.
        if name.len() <= limits::METADATA_FIELD_BYTES {
            answering = answering.message_id(name);
        }
        let answering = answering.send();
        let id = id.to_owned();
        self.client.shared().spawn(async move {
            if let Err(error) = answering.await {
                tracing::warn!(id, %error, "an answer could not be published");
            }
        });
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("base", &self.base).finish_non_exhaustive()
    }
}
