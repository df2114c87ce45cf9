//! `anabranch subscribe`: a client for terminals and pipes.

mod form;
mod merged;
mod status;

use super::connect::{ConnectArgs, Link, explain};
use super::{Failure, stop_asked};
use crate::config::duration_text;
use anabranch::{Closed, Cursor, Phase, Start, State};
use anabranch_protocol::filter::Filter;
use clap::Args;
use form::Form;
use jiff::Timestamp;
use merged::{Item, Merged};
use status::Status;
use std::io::IsTerminal;
use std::num::NonZeroU64;
use std::pin::pin;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Messages that go out in one write, at most.
const BATCH: usize = 512;
/// How long a write may still take when the command is asked to end.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// Print the messages that filters match, as they come.
///
/// Follows the connection: what was missed while it was down comes first when it is back, and what the log has lost is told
/// as a gap. Messages and gaps go to standard output, everything else to standard error. Ends with Ctrl-C, SIGTERM, when
/// nobody reads its output any more, or after --count messages; says then from where to go on.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{FORMS}"))]
pub struct SubscribeArgs {
    /// Topics with wildcards: + stands for one level, # for the rest. A message that several match is printed once
    #[arg(value_name = "FILTER", required = true, value_parser = filter)]
    filters: Vec<Filter>,

    #[command(flatten)]
    connect: ConnectArgs,

    /// Begin with the next message, or with the oldest one that the log still has
    #[arg(long, value_name = "START", default_value = "now", value_enum)]
    from: Beginning,

    /// Begin with the messages of the last so long: 30s, 10m, 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = duration_text, conflicts_with = "from")]
    since: Option<Duration>,

    /// Begin after this cursor, which an earlier run has printed
    #[arg(long, value_name = "CURSOR", conflicts_with_all = ["from", "since"])]
    cursor: Option<Cursor>,

    /// End after so many messages
    #[arg(long, value_name = "NUMBER")]
    count: Option<NonZeroU64>,

    /// Print one JSON object a line; --help says which
    #[arg(long)]
    json: bool,
}

/// Where to begin, in one word.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Beginning {
    Now,
    Earliest,
}

const EXAMPLES: &str = "\
Examples:
  anabranch subscribe 'iotsphere/devices/+/telemetry/#'
  anabranch subscribe --since 10m 'iotsphere/system/alerts' 'iotsphere/devices/+/status'
  anabranch subscribe --json --count 100 '#' | jq -r .envelope.metadata.topic
  anabranch subscribe --cursor 7f3a9c21d0e1b2c4/0:1234:9f3a5c01 'hello/#'

Exit codes: 0 it ended as asked, 1 refused (a filter, the token, the client itself), 2 wrong usage.
A gateway that cannot be reached is tried again, with growing pauses.";

const FORMS: &str = "\
With --json, each line is one of
  {\"type\":\"message\",\"position\":\"0:1234:9f3a5c01\",\"envelope\":{\"metadata\":{…},\"payload\":…}}
      one message. Its position is partition:offset:fingerprint
  {\"type\":\"transient\",\"envelope\":{…}}
      one message that no log keeps; no cursor covers it. Without --json a ~ stands before it
  {\"type\":\"gap\",\"partition\":0,\"after\":\"1234\",\"before\":\"1300\",\"reason\":\"retention\"}
      messages strictly between these offsets may be missing here. Reasons: retention, corrupt, poisoned, reset (the log
      was replaced; begin anew), miscount, other
  {\"type\":\"live\",\"cursor\":\"7f3a9c21d0e1b2c4/0:1234:9f3a5c01\"}
      everything up to this cursor has been printed; what follows comes as it happens. Comes again after a reconnect
To go on later exactly where this run stopped, give the cursor of its last line on standard error to --cursor.";

fn filter(text: &str) -> Result<Filter, String> {
    Filter::new(text).map_err(|error| error.to_string())
}

impl SubscribeArgs {
    /// Runs until the end that was asked for, or until it cannot go on.
    pub async fn run(self) -> Result<(), Failure> {
        let link = self.connect.link()?;
        let merged = Merged::open(&link.client, &self.filters, &self.start()).map_err(Failure::usage)?;
        link.client.connect();
        let mut terminal = Terminal {
            form: if self.json {
                Form::Json
            } else {
                Form::Text { colour: std::io::stdout().is_terminal() && status::colours() }
            },
            left: self.count.map(NonZeroU64::get),
            link: &link,
            merged,
            status: Status::new(),
            printed: 0,
            cursor: None,
        };
        let result = terminal.follow().await;
        terminal.end(&result).await;
        result
    }

    fn start(&self) -> Start {
        match (&self.cursor, self.since, self.from) {
            (Some(cursor), _, _) => Start::After(cursor.clone()),
            (None, Some(ago), _) => Start::Since(ago),
            (None, None, Beginning::Earliest) => Start::Earliest,
            (None, None, Beginning::Now) => Start::Now,
        }
    }
}

struct Terminal<'a> {
    form: Form,
    /// Messages to print before the end; `None` for all.
    left: Option<u64>,
    link: &'a Link,
    merged: Merged,
    status: Status,
    printed: u64,
    /// Covers everything that was written.
    cursor: Option<Cursor>,
}

/// What to do after a batch.
enum Then {
    GoOn,
    End(Result<(), Failure>),
}

impl Terminal<'_> {
    async fn follow(&mut self) -> Result<(), Failure> {
        let link = self.link;
        let mut states = link.client.states();
        let mut broken = pin!(link.broken());
        let mut stop = pin!(stop_asked(false));
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                item = self.merged.next() => {
                    let Some(item) = item else { return Ok(()) };
                    let mut printed = pin!(self.print(item));
                    let then = tokio::select! {
                        then = &mut printed => then,
                        // What is being written still counts, unless nobody reads it.
                        () = &mut stop => {
                            let _ = tokio::time::timeout(LAST_WRITE, printed).await;
                            return Ok(());
                        }
                    };
                    if let Then::End(result) = then {
                        return result;
                    }
                }
                Some(state) = states.next() => self.tell(&state),
                failure = &mut broken => return Err(failure),
            }
            self.draw().await;
        }
    }

    /// Writes an item, and all that is here already, at once.
    async fn print(&mut self, first: Item) -> Then {
        let mut lines = String::new();
        let mut messages = 0;
        let mut then = Then::GoOn;
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(item) = next {
            taken += 1;
            let cursor = if matches!(item, Item::Live) { self.merged.cursor() } else { None };
            self.form.write(&mut lines, &item, cursor.as_ref(), Timestamp::now());
            messages += u64::from(matches!(item, Item::Message(_) | Item::Transient(_)));
            if let Item::Closed(filter, closed) = item {
                then = Then::End(Err(refusal(&filter, &closed)));
                break;
            }
            if self.left == Some(messages) {
                then = Then::End(Ok(()));
                break;
            }
            next = if taken < BATCH { self.merged.now().await } else { None };
        }
        if !lines.is_empty() {
            self.status.clear();
            if let Err(error) = write(&lines).await {
                // Nobody reads on, as with `| head`: that is an end like any other.
                let closed = error.kind() == std::io::ErrorKind::BrokenPipe;
                let failed = || Err(Failure::refused(format!("cannot write the messages: {error}")));
                return Then::End(if closed { Ok(()) } else { failed() });
            }
        }
        self.printed += messages;
        self.left = self.left.map(|left| left - messages);
        self.note_cursor().await;
        then
    }

    /// Takes note of where we stand. Call when everything that was taken has been written.
    async fn note_cursor(&mut self) {
        self.merged.peek().await;
        let Some(now) = self.merged.cursor() else { return };
        match &mut self.cursor {
            Some(cursor) if cursor.log() == now.log() => cursor.advance_to(&now),
            cursor => *cursor = Some(now),
        }
    }

    /// Says what became of the connection.
    fn tell(&mut self, state: &State) {
        match state.phase {
            Phase::Live => {
                if state.upstream {
                    self.status.say(format!("{}: live", self.link.url()));
                } else {
                    self.status.say(format!(
                        "{}: the gateway does not reach its log; nothing new arrives",
                        self.link.url()
                    ));
                }
            }
            Phase::Offline => self.status.say(format!("{}; trying again", self.link.trouble(state))),
            _ => {}
        }
    }

    async fn draw(&mut self) {
        let phase = self.link.client.state().phase;
        // The newest, also where marks have moved it past messages of others.
        self.note_cursor().await;
        let cursor = self.cursor.as_ref().map(Cursor::to_string).unwrap_or_default();
        self.status.draw(phase, self.printed, &cursor);
    }

    /// Says goodbye, and from where to go on.
    async fn end(mut self, result: &Result<(), Failure>) {
        self.link.client.close().await;
        match self.cursor {
            Some(cursor) => self.status.say(format!("cursor {cursor}  resume with --cursor {cursor}")),
            None if result.is_ok() => {
                self.status.say("no cursor: the gateway has not answered yet".to_owned())
            }
            None => self.status.clear(),
        }
    }
}

async fn write(lines: &str) -> std::io::Result<()> {
    // Tokio's writes from a thread of its own: a pipe that nobody empties must not keep the client from answering pings.
    let mut stdout = tokio::io::stdout();
    stdout.write_all(lines.as_bytes()).await?;
    stdout.flush().await
}

fn refusal(filter: &Filter, closed: &Closed) -> Failure {
    let filter = filter.as_str();
    Failure::refused(match closed {
        Closed::Refused { code, message } => {
            format!("the gateway refused {filter}: {message} ({})", explain(*code))
        }
        Closed::Revoked { code } => format!("a new token ended {filter}: {}", explain(*code)),
        _ => format!("{filter} has ended"),
    })
}
