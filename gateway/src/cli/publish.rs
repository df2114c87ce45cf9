//! `anabranch publish`: from the command line or a pipe into the log.

mod input;

use super::connect::{ConnectArgs, Link, explain};
use super::{Failure, stop_asked};
use crate::config::duration_text;
use anabranch::{MessageType, PublishError, Published};
use anabranch_protocol::json::{Scanner, write_string};
use anabranch_protocol::topic::Topic;
use clap::Args;
use futures_util::StreamExt;
use std::io::Write;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Messages on their way at once: what a gateway takes from one connection.
const IN_FLIGHT: usize = anabranch_protocol::limits::PUBLISHES_IN_FLIGHT;
/// Their bytes together, well within what the client holds.
const IN_FLIGHT_BYTES: usize = 4 << 20;

/// Publish messages, and wait until the log has them.
///
/// Prints where the log has each message, as partition:offset:fingerprint. Without a connection it waits for one, and
/// after a reconnect it sends again under the same message id, so that subscribers see one copy.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct PublishArgs {
    /// Where to
    #[arg(value_name = "TOPIC", value_parser = topic)]
    topic: Topic,

    /// JSON; without it or with -, it is read from standard input
    #[arg(value_name = "PAYLOAD", allow_negative_numbers = true)]
    payload: Option<String>,

    #[command(flatten)]
    connect: ConnectArgs,

    /// The payload is text, to be published as a JSON string
    #[arg(long)]
    text: bool,

    /// Publish each line of standard input as a message of its own; empty ones are left out
    #[arg(long, conflicts_with = "payload")]
    lines: bool,

    /// event, command, response or notification
    #[arg(long = "type", value_name = "TYPE", default_value = "event", value_parser = message_type)]
    message_type: MessageType,

    /// Joins a response to its command
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,

    /// The key under which the log keeps one copy: give it again to repeat a publish whose end is unknown [default: random]
    #[arg(long, value_name = "ID", conflicts_with = "lines")]
    message_id: Option<String>,

    /// How long to wait for each confirm
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration_text)]
    timeout: Duration,
}

const EXAMPLES: &str = "\
Examples:
  anabranch publish hello/world '{\"n\": 1}'
  anabranch publish --text hello/world 'Good morning'
  anabranch publish iotsphere/devices/d1/shadow/desired < desired.json
  sensors | anabranch publish --lines iotsphere/devices/d1/telemetry/temperature

Exit codes: 0 the log has all messages, 1 some were refused or not confirmed in time, 2 wrong usage.";

fn topic(text: &str) -> Result<Topic, String> {
    Topic::new(text).map_err(|error| error.to_string())
}

fn message_type(text: &str) -> Result<MessageType, String> {
    MessageType::from_name(text).ok_or_else(|| "expected event, command, response or notification".to_owned())
}

impl PublishArgs {
    /// Publishes everything, or says why not.
    pub async fn run(self) -> Result<(), Failure> {
        let link = self.connect.link()?;
        let result = if self.lines { self.publish_lines(&link).await } else { self.publish_one(&link).await };
        link.client.close().await;
        result
    }

    async fn publish_one(&self, link: &Link) -> Result<(), Failure> {
        let text = match self.payload.as_deref() {
            None | Some("-") => input::whole().await?,
            Some(text) => text.to_owned(),
        };
        link.client.connect();
        tokio::select! {
            result = self.send(link, text) => print(&result?),
            failure = link.broken() => Err(failure),
            () = stop_asked(false) => Err(Failure::refused("stopped before the gateway confirmed the message")),
        }
    }

    async fn publish_lines(&self, link: &Link) -> Result<(), Failure> {
        link.client.connect();
        let room = Arc::new(Semaphore::new(IN_FLIGHT_BYTES));
        let numbered = input::lines().enumerate();
        let sends = numbered.filter_map(|(at, line)| {
            let room = Arc::clone(&room);
            async move {
                let text = match line {
                    Ok(text) if text.trim().is_empty() => return None,
                    Ok(text) => text,
                    Err(failure) => return Some((at, Err(failure), None)),
                };
                let permits = u32::try_from(text.len()).unwrap_or(u32::MAX).min(IN_FLIGHT_BYTES as u32);
                Some((at, Ok(text), room.acquire_many_owned(permits).await.ok()))
            }
        });
        let sends = sends.map(|(at, line, permit)| async move {
            let result = match line {
                Ok(text) => self.send(link, text).await,
                Err(failure) => Err(failure),
            };
            drop(permit);
            (at, result)
        });
        let mut confirmed = pin!(sends.buffered(IN_FLIGHT));
        let mut broken = pin!(link.broken());
        let mut stop = pin!(stop_asked(false));
        let (mut done, mut refused) = (0_u64, 0_u64);
        loop {
            let (at, result) = tokio::select! {
                next = confirmed.next() => match next {
                    Some(next) => next,
                    None => break,
                },
                failure = &mut broken => return Err(failure),
                () = &mut stop => {
                    let text = format!("stopped: {done} messages are confirmed, of later lines it is not known");
                    return Err(Failure::refused(text));
                }
            };
            match result {
                Ok(published) => {
                    print(&published)?;
                    done += 1;
                }
                Err(failure) => {
                    eprintln!("anabranch: line {}: {failure}", at + 1);
                    refused += 1;
                }
            }
        }
        match refused {
            0 => Ok(()),
            _ => {
                Err(Failure::refused(format!("{refused} of {} messages were not published", done + refused)))
            }
        }
    }

    async fn send(&self, link: &Link, text: String) -> Result<Published, Failure> {
        let payload = if self.text {
            let mut json = String::with_capacity(text.len() + 2);
            write_string(&mut json, &text);
            json
        } else if is_json(&text) {
            text
        } else {
            return Err(Failure::usage(
                "the payload is not one JSON value: put strings into double quotes, or publish text with --text",
            ));
        };
        let message_id = self.message_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let mut publish = link
            .client
            .publish(self.topic.as_str())
            .payload_text(payload)
            .message_id(&message_id)
            .message_type(self.message_type);
        if let Some(id) = &self.correlation_id {
            publish = publish.correlation_id(id);
        }
        match tokio::time::timeout(self.timeout, publish.send()).await {
            Ok(result) => result.map_err(|error| self.refused(error)),
            Err(_) => Err(self.late(link, &message_id)),
        }
    }

    fn late(&self, link: &Link, message_id: &str) -> Failure {
        let trouble = link.trouble(&link.client.state());
        let mut text = format!("not confirmed within {:?}: {trouble}", self.timeout);
        if link.reached() {
            text += ". The log may have the message all the same: to try again without a second copy, add ";
            text += &format!("--message-id {message_id}");
        }
        Failure::refused(text)
    }

    fn refused(&self, error: PublishError) -> Failure {
        let topic = self.topic.as_str();
        match error {
            PublishError::Refused { code, message } => {
                Failure::refused(format!("the gateway refused {topic}: {message} ({})", explain(code)))
            }
            error => Failure::refused(format!("{error} ({})", explain(error.code()))),
        }
    }
}

/// Whether a text is one JSON value, not nested too deep for an envelope.
fn is_json(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    scanner.raw().is_ok() && scanner.end().is_ok()
}

/// Prints where a message is. A reader that went away is no reason to stop publishing.
fn print(published: &Published) -> Result<(), Failure> {
    if published.duplicate {
        eprintln!("anabranch: the log had {} already", published.message_id);
    }
    match writeln!(std::io::stdout(), "{}", published.position) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::refused(format!("cannot print where the message is: {error}")))
        }
        _ => Ok(()),
    }
}
