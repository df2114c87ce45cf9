//! A device that does what it is told, each command once.

use super::journal::Journal;
use super::unix_ms;
use crate::client::Client;
use crate::error::ServeError;
use crate::message::Message;
use crate::subscription::{Event, Start};
use anabranch_protocol::envelope::MessageType;
use anabranch_protocol::limits;
use anabranch_sdk_core::command::{self, Answer, Handled, TTL_MS, Verdict};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

impl Client {
    /// Begins to describe a device that does commands: requests come from `ROOT/devices/DEVICE/commands/request`, and answers go to
    /// `…/commands/response/SUBJECT` of whoever the gateway says has asked.
    pub fn serve_commands(&self, root: &str, device: &str) -> Serve {
        Serve { client: self.clone(), base: format!("{root}/devices/{device}/commands"), journal: None }
    }
}

/// One command, as the device sees it.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: String,
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

/// A device about to serve. Does nothing until [`run`](Serve::run).
#[derive(Debug)]
#[must_use = "commands are served by run()"]
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
        let (mut journal, mut handled, start) = self.open()?;
        let requests = format!("{}/request", self.base);
        let mut requests = self.client.subscribe(&requests).from(start).open()?;
        loop {
            match requests.next_event().await {
                Some(Event::Message(message)) => {
                    self.take(&message, &mut journal, &mut handled, &handler).await?;
                }
                Some(Event::Gap(gap)) => {
                    tracing::warn!(reason = gap.reason.name(), "commands may have been missed");
                }
                Some(Event::Closed(crate::Closed::Client)) | None => return Ok(()),
                Some(Event::Closed(why)) => return Err(ServeError::Closed(why)),
                Some(_) => {}
            }
        }
    }

    fn open(&self) -> Result<(Journal, Handled, Start), ServeError> {
        let Some(file) = &self.journal else {
            return Ok((Journal::none(), Handled::default(), Start::Now));
        };
        let (journal, handled) = Journal::open(file, unix_ms()).map_err(|error| self.failed(error))?;
        Ok((journal, handled, Start::Since(Duration::from_millis(TTL_MS))))
    }

    fn failed(&self, error: std::io::Error) -> ServeError {
        let file = self.journal.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        ServeError::Journal { file, error }
    }

    async fn take<H, F>(
        &self,
        message: &Message,
        journal: &mut Journal,
        handled: &mut Handled,
        handler: &H,
    ) -> Result<(), ServeError>
    where
        H: Fn(Request) -> F,
        F: Future<Output = Result<Value, String>>,
    {
        let metadata = message.metadata();
        let id = metadata.correlation_id().or_else(|| metadata.message_id());
        let (Some(id), Some(source)) = (id, metadata.source()) else {
            tracing::warn!(topic = message.topic(), "a request without an id or a source");
            return Ok(());
        };
        let request = match command::Request::from_json(message.payload_text()) {
            Ok(request) => request,
            Err(error) => {
                self.answer(&id, &source, &Answer::Failed(format!("no request: {error}").into()));
                return Ok(());
            }
        };
        // Two who happen to choose the same id do not get each other's answers.
        let key = format!("{source} {id}");
        match handled.meet(&key, request.expires, unix_ms()) {
            Verdict::UnderWay => {}
            Verdict::Answered(answer) => self.answer(&id, &source, &answer),
            Verdict::Refused(answer) => {
                self.write(journal, handled, &key)?;
                self.answer(&id, &source, &answer);
            }
            Verdict::Do => {
                self.write(journal, handled, &key)?;
                let asked = Request {
                    id: id.clone().into(),
                    name: request.name.into(),
                    source: source.clone().into(),
                    arguments: request.arguments.into(),
                };
                let answer = match handler(asked).await {
                    Ok(result) => Answer::Done(result.to_string().into()),
                    Err(message) => Answer::Failed(message.into()),
                };
                handled.answer(&key, answer.clone());
                self.write(journal, handled, &key)?;
                self.answer(&id, &source, &answer);
            }
        }
        Ok(())
    }

    fn write(&self, journal: &mut Journal, handled: &Handled, key: &str) -> Result<(), ServeError> {
        handled.entry(key).map_or(Ok(()), |entry| journal.write(entry)).map_err(|error| self.failed(error))
    }

    /// Sends an answer, in the background: it waits for a connection, and the next command does not wait for it.
    fn answer(&self, id: &str, source: &str, answer: &Answer) {
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
        tokio::spawn(async move {
            if let Err(error) = answering.await {
                tracing::warn!(id, %error, "an answer could not be published");
            }
        });
    }
}
