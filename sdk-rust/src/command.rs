//! Commands to devices, and the device that does them.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | who commands: a job for each command, whose progress can be watched |
//! | `serve.rs` | the device: requests in their order, each done once |
//! | `journal.rs` | what a device has begun and answered, over a restart |

mod journal;
mod serve;

pub use serve::{Request, Serve, Serving};

use crate::client::Client;
use crate::error::{CommandError, PublishError, SubscribeError};
use crate::message::Message;
use crate::publish::Published;
use crate::shared::Confirmed;
use crate::subscription::{Event, Subscription};
use anabranch_protocol::code::Code;
use anabranch_protocol::envelope::MessageType;
use anabranch_sdk_core::command::{self, Answer, TTL_MS};
use anabranch_sdk_core::outbox::Terms;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

pub use anabranch_sdk_core::command::Progress;

/// How long an answer may be on its way when a command's time is over.
const GRACE: Duration = Duration::from_secs(5);
/// For how long an answer is still listened for after that: until no device begins the command any more, and longer.
const LATE: Duration = Duration::from_millis(TTL_MS);

impl Client {
    /// Prepares to command devices. `root` is what the platform's topics begin with (`iotsphere`), `subject` whom the token speaks for: answers come to
    /// `ROOT/devices/DEVICE/commands/response/SUBJECT`, which nobody else needs a grant for.
    ///
    /// # Errors
    /// Root and subject make no filter, or the client is closed.
    pub fn commands(&self, root: &str, subject: &str) -> Result<Commands, SubscribeError> {
        let filter = format!("{root}/devices/+/commands/response/{subject}");
        let answers = self.subscribe(&filter).open()?;
        let jobs = Arc::default();
        let listening = self.shared().spawn(listen(answers, Arc::clone(&jobs)));
        Ok(Commands {
            client: self.clone(),
            root: root.into(),
            jobs,
            _listening: Arc::new(Listening(listening)),
        })
    }
}

/// Commands of one principal. Cheap to clone. With the last clone and the last [`Job`], answers are no longer listened for.
#[derive(Clone, Debug)]
pub struct Commands {
    client: Client,
    root: String,
    jobs: Arc<Jobs>,
    _listening: Arc<Listening>,
}

#[derive(Debug)]
struct Listening(JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Those that have not ended, by id.
type Jobs = Mutex<HashMap<String, Open>>;

#[derive(Debug)]
struct Open {
    /// What the topics of the device's answers begin with.
    answers: String,
    progress: watch::Sender<Progress>,
    /// When it is told that there is no answer, and then when it is forgotten.
    deadline: Instant,
}

fn lock(jobs: &Jobs) -> MutexGuard<'_, HashMap<String, Open>> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Goes on with a job, if it has not ended.
fn advance(jobs: &Jobs, id: &str, to: Progress) {
    let mut jobs = lock(jobs);
    let Some(open) = jobs.get(id) else { return };
    open.progress.send_if_modified(|progress| progress.advance(to));
    if open.progress.borrow().is_final() {
        jobs.remove(id);
    }
}

impl Commands {
    /// Gives a command. It is sent as soon as there is a connection, and may be begun within `time_to_live` (at most ten minutes) by the clock of
    /// this machine and the device's; it is done once or not at all.
    ///
    /// # Errors
    /// See [`PublishError`]: it was not even queued.
    pub fn send<T: Serialize + ?Sized>(
        &self,
        device: &str,
        name: &str,
        arguments: &T,
        time_to_live: Duration,
    ) -> Result<Job, PublishError> {
        let ttl = time_to_live.min(Duration::from_millis(TTL_MS));
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(TTL_MS);
        let arguments = serde_json::to_string(arguments)?;
        let request =
            command::Request { name: name.into(), expires: unix_ms() + ttl_ms, arguments: &arguments };
        let id = Uuid::new_v4().to_string();
        let answers = format!("{}/devices/{device}/commands/response/", self.root);
        let publish = self
            .client
            .publish(&format!("{}/devices/{device}/commands/request", self.root))
            .message_type(MessageType::Command)
            .message_id(&*id)
            .correlation_id(&*id)
            .payload_text(request.to_json());
        let (handle, _, envelope, _) = publish.complete(false)?;
        let terms = Terms { kept: false, ttl_ms: Some(ttl_ms) };
        let progress = watch::Sender::new(Progress::Queued);
        let watched = progress.subscribe();
        lock(&self.jobs)
            .insert(id.clone(), Open { answers, progress, deadline: Instant::now() + ttl + GRACE });
        let published = handle.shared().publish_and_tell(&id, &envelope, terms);
        let (confirmed, sent) = published.inspect_err(|_| _ = lock(&self.jobs).remove(&id))?;
        handle.shared().spawn(follow(Arc::clone(&self.jobs), id.clone(), confirmed, sent));
        Ok(Job { id, commands: self.clone(), progress: watched })
    }
}

/// Follows a request until the log has it.
async fn follow(jobs: Arc<Jobs>, id: String, confirmed: Confirmed, sent: oneshot::Receiver<()>) {
    if sent.await.is_ok() {
        advance(&jobs, &id, Progress::Sent);
    }
    match confirmed.await {
        Ok(Ok(Published { .. })) => advance(&jobs, &id, Progress::Accepted),
        Ok(Err(PublishError::Refused { code: Code::EXPIRED, .. })) => advance(&jobs, &id, Progress::Expired),
        Ok(Err(PublishError::Withdrawn { .. })) => advance(&jobs, &id, Progress::Cancelled),
        // The log may have it, so the device may do it: its answer, or its absence, will tell.
        Ok(Err(PublishError::Unconfirmed { .. })) | Err(_) => {}
        Ok(Err(error)) => advance(&jobs, &id, Progress::Failed(error.to_string().into())),
    }
}

/// Takes answers, and tells whose time is over, until the client ends.
async fn listen(mut answers: Subscription, jobs: Arc<Jobs>) {
    loop {
        let next = lock(&jobs).values().map(|open| open.deadline).min();
        // Looked at anew now and then: a job that is added meanwhile may be due earlier.
        let at = next.map_or(Instant::now() + GRACE, |at| at.min(Instant::now() + GRACE));
        tokio::select! {
            event = answers.next_event() => match event {
                Some(Event::Message(message)) => take(&jobs, &message),
                Some(Event::Closed(why)) => {
                    let all: Vec<String> = lock(&jobs).keys().cloned().collect();
                    tracing::warn!(?why, "answers to commands come no longer");
                    all.iter().for_each(|id| advance(&jobs, id, Progress::Unanswered));
                    return;
                }
                Some(_) => {}
                None => return,
            },
            () = tokio::time::sleep_until(at) => {}
        }
        let now = Instant::now();
        lock(&jobs).retain(|_, open| {
            let over = open.deadline <= now;
            let first =
                over && open.progress.send_if_modified(|progress| progress.advance(Progress::Unanswered));
            if first {
                open.deadline = now + LATE;
            }
            !over || first
        });
    }
}

fn take(jobs: &Jobs, message: &Message) {
    let Some(id) = message.metadata().correlation_id() else { return };
    // No device answers for another, even if it has heard of the id.
    if !lock(jobs).get(&*id).is_some_and(|open| message.topic().starts_with(&open.answers)) {
        return;
    }
    match Answer::from_json(message.payload_text()) {
        Ok(answer) => advance(jobs, &id, answer.into()),
        Err(error) => tracing::warn!(topic = message.topic(), %error, "an answer that is none"),
    }
}

/// One command. Dropping it changes nothing about the command.
///
/// ```
/// # anabranch_gateway::testing::example(async |url, token| {
/// # use anabranch::{Client, Progress};
/// # use serde_json::json;
/// # use std::time::Duration;
/// # let client = Client::builder(url).token(token).build()?;
/// # let serving = client.serve_commands("iotsphere", "d1");
/// # tokio::spawn(async move { serving.run(|_| async { Ok(json!("done")) }).await });
/// let commands = client.commands("iotsphere", "dev")?;         // answers come to `dev`, whom the token speaks for
/// client.connect();
/// # client.wait_live(Duration::from_secs(5)).await?;
/// let mut job = commands.send("d1", "reboot", &json!({ "delay": 5 }), Duration::from_secs(20))?;
/// while let Some(step) = job.next_progress().await {
///     match step {
///         Progress::Done(result) => println!("done: {result}"),
///         Progress::Failed(why) => println!("not done, or not wholly: {why}"),
///         Progress::Unanswered => println!("not known"),
///         on_its_way => println!("{on_its_way:?}"),
///     }
/// }
/// assert_eq!(job.reply::<String>().await?, "done");
/// # Ok(()) });
/// ```
#[derive(Clone, Debug)]
pub struct Job {
    id: String,
    commands: Commands,
    progress: watch::Receiver<Progress>,
}

impl Job {
    /// What joins request and answer: the `messageId` of the one, the `correlationId` of both.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// The next step; `None` after the last. Steps that follow each other faster than they are asked for may be left out. Cancel safe.
    pub async fn next_progress(&mut self) -> Option<Progress> {
        self.progress.changed().await.ok()?;
        Some(self.progress.borrow_and_update().clone())
    }

    /// Waits until it has ended, or its time is over without an answer. Cancel safe.
    pub async fn ended(&mut self) -> Progress {
        let over = |progress: &Progress| progress.is_final() || *progress == Progress::Unanswered;
        if let Ok(progress) = self.progress.wait_for(over).await {
            return progress.clone();
        }
        // Nobody listens any more.
        Some(self.progress()).filter(Progress::is_final).unwrap_or(Progress::Unanswered)
    }

    /// Waits for the result. Cancel safe.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn reply<T: DeserializeOwned>(mut self) -> Result<T, CommandError> {
        match self.ended().await {
            Progress::Done(result) => {
                serde_json::from_str(&result).map_err(|error| CommandError::Result(error.to_string()))
            }
            Progress::Failed(why) => Err(CommandError::Failed(why.into())),
            Progress::Expired => Err(CommandError::Expired),
            Progress::Cancelled => Err(CommandError::Cancelled),
            _ => Err(CommandError::Unanswered),
        }
    }

    /// Takes it back, if it was not sent. Says whether.
    pub fn cancel(&self) -> bool {
        let gone = self.commands.client.withdraw(&self.id);
        if gone {
            advance(&self.commands.jobs, &self.id, Progress::Cancelled);
        }
        gone
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    let past = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(past.as_millis()).unwrap_or(u64::MAX)
}
