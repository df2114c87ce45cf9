//! Appends records for publishers, each message once.
//!
//! A publisher that has seen no confirm retries under the same `messageId`. The window remembers the keys of recent
//! records, whoever appended them, so that a retry is answered with the first copy's position. It is filled from the
//! log when the node starts, so it survives a crash.
//!
//! What is remembered is no promise: a flush, a deletion or a failover takes records back, and tells nobody. So a repeat is
//! never confirmed from memory. Memory says where the message stood; it is a duplicate if the log shows, by a question that
//! began after the repeat came, that it stands there now (`witness`). If the log has lost it, the repeat is appended like a new message;
//! if the log does not answer, nothing is known, and the publisher is told so. A storm of repeats of what was read here shares
//! its questions; a message that is known from its confirm alone is looked up by itself.

mod witness;

use crate::log::{AppendError, DEADLINE, Log, MessageKey, NewRecord};
use anabranch_protocol::cursor::{Partition, Position};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use witness::{Question, Stands, Witness};

/// How many recent messages are remembered. At 2,000 messages/s, about a minute; about 10 MB.
pub const WINDOW: usize = 131_072;

/// The first copy's position, and whether an earlier try stored it.
type Appended = Result<(Position, bool), AppendError>;
type Appending = Shared<BoxFuture<'static, Appended>>;

/// Appends for a whole node.
pub struct Publisher {
    log: Arc<dyn Log>,
    window: Mutex<Window>,
    witness: Witness,
}

#[derive(Default)]
struct Window {
    known: HashMap<MessageKey, Known>,
    /// Stored ones, oldest first.
    order: VecDeque<MessageKey>,
    /// The newest one that was read, in each partition. A confirm alone moves it not: whoever took over after a failover
    /// confirms, and nobody has yet seen that the history goes on.
    newest: HashMap<Partition, (MessageKey, Position)>,
    /// How often the log was found to lack a record. What was read before that vouches for nothing that was read after, and
    /// the other way round.
    losses: u64,
    /// How many histories ended before this one.
    epoch: u64,
}

enum Known {
    Appending(Appending),
    Stored(Stored),
}

#[derive(Clone, Copy)]
struct Stored {
    position: Position,
    /// Whether it was read there, by whoever judges that the history goes on: the losses by then. `None` is known from a
    /// confirm alone.
    read: Option<u64>,
}

impl Publisher {
    pub fn new(log: Arc<dyn Log>) -> Arc<Publisher> {
        Arc::new(Publisher { log, window: Mutex::default(), witness: Witness::default() })
    }

    /// Appends a record, or finds it stored: its position, and whether it was an earlier try that stored it.
    ///
    /// The record is queued by the call itself, in the order of calls. Cancel safe: the append goes on. Neither holds for a
    /// repeat of what is known: the log is asked first.
    pub fn publish(self: &Arc<Self>, record: NewRecord) -> BoxFuture<'static, Appended> {
        let key = record.key;
        let mut window = self.lock();
        let epoch = window.epoch;
        let (appending, duplicate) = match window.known.entry(key) {
            Entry::Occupied(known) => match known.get() {
                Known::Appending(appending) => (appending.clone(), true),
                Known::Stored(stored) => {
                    let stored = *stored;
                    drop(window);
                    // Put after this call, and by whichever repeat is polled first.
                    let question = stored.read.map(|_| self.question(stored.position.partition));
                    return Arc::clone(self).repeat(record, stored, question).boxed();
                }
            },
            Entry::Vacant(unknown) => {
                let append = self.log.append(record);
                let this = Arc::clone(self);
                let appending = async move {
                    let result = match tokio::time::timeout(DEADLINE, append).await {
                        Ok(result) => result,
                        Err(_) => Err(AppendError::Unknown("no confirm within 5 s".into())),
                    };
                    this.ended(key, epoch, result)
                }
                .boxed()
                .shared();
                unknown.insert(Known::Appending(appending.clone()));
                (appending, false)
            }
        };
        drop(window);
        let or_earlier = move |(position, again)| (position, again || duplicate);
        Awaited(Some(appending)).map(move |result| result.map(or_earlier)).boxed()
    }

    /// An append that began in this epoch has ended. What its publishers are to be told.
    fn ended(&self, key: MessageKey, epoch: u64, result: Result<Position, AppendError>) -> Appended {
        let mut window = self.lock();
        // A confirm of a history that has ended says nothing of this one.
        if window.epoch != epoch {
            return result.map(|position| (position, false));
        }
        if result.is_err() {
            window.forget(key);
        }
        let position = result?;
        window.note(key, position, false);
        // An earlier try of which nothing was known may have been stored before this one, and been read meanwhile.
        match window.known.get(&key) {
            Some(Known::Stored(first)) if is_before(first.position, position) => Ok((first.position, true)),
            _ => Ok((position, false)),
        }
    }

    /// A message comes again that is known to have been stored.
    async fn repeat(
        self: Arc<Self>,
        record: NewRecord,
        stored: Stored,
        question: Option<Question>,
    ) -> Appended {
        let position = stored.position;
        match self.stands(record.key, stored, question).await {
            Stands::There => Ok((position, true)),
            Stands::Gone => {
                self.lock().lose(record.key, position);
                self.publish(record).await
            }
            // Subscribers have had their time with the first copy, so the window keeps it: they see no second one.
            Stands::Forgotten => self.log.append(record).await.map(|position| (position, false)),
            Stands::Unknown(why) => Err(AppendError::Unknown(why)),
        }
    }

    /// Notes a record that was read from the log. Says whether an earlier one has the same key: then it is a duplicate.
    ///
    /// Earlier in the log, not earlier in time: several nodes must drop the same one. A confirm may be known here before a
    /// copy that another node stored further ahead.
    pub fn note(&self, key: MessageKey, position: Position) -> bool {
        self.lock().note(key, position, true)
    }

    /// Whether an earlier record is known to have the same key. Notes nothing.
    pub fn is_duplicate(&self, key: MessageKey, position: Position) -> bool {
        matches!(self.lock().known.get(&key), Some(Known::Stored(first)) if is_before(first.position, position))
    }

    /// Forgets everything: another history begins.
    pub fn reset(&self) {
        let mut window = self.lock();
        *window = Window { epoch: window.epoch + 1, ..Window::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// An append, seen from one of the publishers that wait for it. One that hangs up leaves the append to the runtime, because
/// the window must hear of its end all the same. Handing every append over cost 0.3 µs of each message.
struct Awaited(Option<Appending>);

impl Future for Awaited {
    type Output = Appended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(appending) = &mut self.0 else { return Poll::Pending };
        let result = std::task::ready!(appending.poll_unpin(cx));
        self.0 = None;
        Poll::Ready(result)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(appending) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            drop(runtime.spawn(appending));
        }
    }
}

impl Window {
    /// See [`Publisher::note`]. `read` if it was read from the log, not only confirmed.
    fn note(&mut self, key: MessageKey, position: Position, read: bool) -> bool {
        if read {
            let newest = self.newest.entry(position.partition).or_insert((key, position));
            if newest.1.offset <= position.offset {
                *newest = (key, position);
            }
        }
        let stored = Stored { position, read: read.then_some(self.losses) };
        match self.known.entry(key) {
            Entry::Occupied(mut known) => match known.get_mut() {
                Known::Stored(first) => {
                    let duplicate = is_before(first.position, position);
                    if is_before(position, first.position)
                        || (read && first.position.offset == position.offset)
                    {
                        *first = stored;
                    }
                    return duplicate;
                }
                appending @ Known::Appending(_) => *appending = Known::Stored(stored),
            },
            Entry::Vacant(unknown) => _ = unknown.insert(Known::Stored(stored)),
        }
        self.order.push_back(key);
        if self.order.len() > WINDOW
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        false
    }

    /// An append has failed: a retry is a new append. If it was stored after all, the tail notes it.
    fn forget(&mut self, key: MessageKey) {
        if matches!(self.known.get(&key), Some(Known::Appending(_))) {
            self.known.remove(&key);
        }
    }

    /// What was stored there is not there any more. Its place in `order` stays, which makes the next entry of this key leave a
    /// little early.
    fn lose(&mut self, key: MessageKey, position: Position) {
        if matches!(self.known.get(&key), Some(Known::Stored(first)) if first.position == position) {
            self.known.remove(&key);
            self.losses += 1;
            self.newest.remove(&position.partition);
        }
    }
}

/// A topic is always in the same partition, and so are all copies of a message.
fn is_before(a: Position, b: Position) -> bool {
    a.partition == b.partition && a.offset < b.offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::conformance::record;
    use crate::log::memory::Publishing;
    use crate::log::memory::{self, MemoryLog};
    use anabranch_protocol::cursor::Offset;

    fn at(offset: u64) -> Position {
        Position { partition: 0, offset: Offset(offset), fingerprint: None }
    }

    #[test]
    fn the_first_copy_is_the_one_that_stands_first_in_the_log() {
        let publisher = Publisher::new(MemoryLog::new(memory::Options::default()));
        let key = MessageKey::new("t", "m");
        assert!(!publisher.note(key, at(10)), "confirmed to this node's publisher");
        assert!(!publisher.note(key, at(8)), "another node stored it before, and others deliver that one");
        assert!(publisher.note(key, at(10)));
        assert!(!publisher.note(key, at(8)), "read again, it is still the first");
        assert!(publisher.is_duplicate(key, at(10)) && !publisher.is_duplicate(key, at(8)));
    }

    /// A log, and a publisher that has stored message 0.
    async fn stored() -> (Arc<MemoryLog>, Arc<Publisher>) {
        let log = MemoryLog::new(memory::Options::default());
        let publisher = Publisher::new(log.clone());
        let (position, duplicate) = publisher.publish(record(0)).await.expect("confirmed");
        assert_eq!((position.offset, duplicate), (Offset(1), false));
        (log, publisher)
    }

    #[tokio::test]
    async fn a_repeat_is_confirmed_while_the_log_has_the_message() {
        let (log, publisher) = stored().await;
        publisher.publish(record(1)).await.expect("confirmed");
        assert_eq!(
            publisher.publish(record(0)).await.map(|(at, again)| (at.offset, again)),
            Ok((Offset(1), true))
        );
        assert_eq!(log.bounds(0).await.expect("bounds").last, Offset(2), "stored once");
    }

    /// A replica has taken over without message 0, and confirms others: those say nothing of what stood before them, however
    /// far ahead they are, before a tail has read them. Nor do they once it has.
    #[tokio::test]
    async fn a_confirm_after_a_failover_vouches_for_nothing_before_it() {
        for read in [false, true] {
            let (log, publisher) = stored().await;
            log.lies().fail_over(0, 1);
            log.lies().skip_offsets(0, 10);
            let (next, _) = publisher.publish(record(1)).await.expect("confirmed");
            assert_eq!(next.offset, Offset(11));
            if read {
                publisher.note(record(1).key, next);
            }
            let (position, duplicate) = publisher.publish(record(0)).await.expect("confirmed");
            assert_eq!((position.offset, duplicate), (Offset(12), false), "read: {read}");
        }
    }

    /// What was read before a loss was noticed is not vouched for by what is read after it.
    #[tokio::test]
    async fn what_is_read_after_a_loss_vouches_for_nothing_read_before() {
        let (log, publisher) = stored().await;
        for n in 1..3 {
            let (position, _) = publisher.publish(record(n)).await.expect("confirmed");
            publisher.note(record(n).key, position);
        }
        log.lies().fail_over(0, 2);
        log.lies().skip_offsets(0, 10);
        let (again, duplicate) = publisher.publish(record(2)).await.expect("confirmed");
        assert!(!duplicate);
        publisher.note(record(2).key, again);
        let (position, duplicate) = publisher.publish(record(1)).await.expect("confirmed");
        assert_eq!((position.offset, duplicate), (Offset(13), false));
    }

    /// Before anybody has noticed that the log was deleted.
    #[tokio::test]
    async fn a_repeat_of_what_the_log_has_lost_is_stored_again() {
        for others in [0, 1, 5] {
            let (log, publisher) = stored().await;
            log.lies().recreate((100..100 + others).map(record).collect());
            let (position, duplicate) = publisher.publish(record(0)).await.expect("confirmed");
            assert!(!duplicate, "after {others} others: the log has no first copy");
            let after = Offset(position.offset.0 - 1);
            let there =
                log.read(0, after, crate::log::Budget { records: 1, bytes: 1 }).await.expect("readable");
            assert_eq!(there.records[0].key, record(0).key, "after {others} others");
            // And that copy is what is known now.
            assert_eq!(publisher.publish(record(0)).await, Ok((position, true)));
        }
    }

    #[tokio::test]
    async fn a_repeat_that_cannot_be_looked_for_is_not_confirmed() {
        let (log, publisher) = stored().await;
        log.lies().unreachable(true);
        let answer = publisher.publish(record(0)).await;
        assert!(matches!(answer, Err(AppendError::Unknown(_))), "{answer:?}");
        log.lies().unreachable(false);
        assert!(publisher.publish(record(0)).await.is_ok_and(|(_, duplicate)| duplicate));
    }

    /// What retention dropped was stored and had its time: a repeat is stored, and delivered to nobody a second time.
    #[tokio::test]
    async fn a_repeat_of_what_is_forgotten_is_stored_and_not_delivered() {
        let (log, publisher) = stored().await;
        let (second, _) = publisher.publish(record(1)).await.expect("confirmed");
        publisher.note(record(0).key, at(1));
        publisher.note(record(1).key, second);
        log.lies().truncate(0, Offset(2));
        assert_eq!(
            publisher.publish(record(0)).await.map(|(at, again)| (at.offset, again)),
            Ok((Offset(1), true)),
            "the record behind it stands, so nobody has taken it back"
        );
        log.lies().truncate(0, Offset(3));
        let (position, _) = publisher.publish(record(0)).await.expect("confirmed");
        assert_eq!(position.offset, Offset(3));
        assert!(publisher.note(record(0).key, position), "a duplicate to whoever reads it");
    }

    /// The confirm of a history that has ended comes late.
    #[tokio::test]
    async fn a_late_confirm_says_nothing_of_the_next_history() {
        let log = MemoryLog::new(memory::Options::default());
        let publisher = Publisher::new(log.clone());
        log.lies().publishing(Publishing::Hangs);
        let confirmed = publisher.publish(record(0));
        publisher.reset();
        log.lies().publishing(Publishing::Works);
        confirmed.await.expect("confirmed at 1");
        assert!(!publisher.note(record(0).key, at(7)), "the first copy of this history");
    }

    /// The broker was frozen: it takes a message, nobody hears of it, and the retry is there before the first copy was read.
    #[tokio::test]
    async fn a_retry_that_overtakes_the_tail_is_answered_with_the_first_copy() {
        let log = MemoryLog::new(memory::Options::default());
        let publisher = Publisher::new(log.clone());
        log.lies().lose_confirms(1);
        let first = publisher.publish(record(0)).await;
        assert!(matches!(first, Err(AppendError::Unknown(_))), "{first:?}");
        log.lies().publishing(Publishing::Hangs);
        let retry = publisher.publish(record(0));
        publisher.note(record(0).key, at(1));
        log.lies().publishing(Publishing::Works);
        let (position, duplicate) = retry.await.expect("confirmed");
        assert_eq!((position.offset, duplicate), (Offset(1), true), "the copy that was delivered");
    }

    /// Time is the test's: it goes on once nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn a_publisher_that_hangs_up_leaves_nothing_behind() {
        let log = MemoryLog::new(memory::Options::default());
        let publisher = Publisher::new(log.clone());
        log.lies().publishing(Publishing::Hangs);
        drop(publisher.publish(record(0)));
        tokio::time::sleep(2 * DEADLINE).await;
        assert!(publisher.lock().known.is_empty(), "the append has failed");
        log.lies().publishing(Publishing::Works);
        let retried = publisher.publish(record(0)).await;
        assert!(retried.is_ok(), "not the old error: {retried:?}");
    }

    #[tokio::test]
    async fn a_storm_of_repeats_shares_its_questions() {
        let (log, publisher) = stored().await;
        publisher.note(record(0).key, at(1));
        for n in 1..1_000 {
            let (position, _) = publisher.publish(record(n)).await.expect("confirmed");
            publisher.note(record(n).key, position);
        }
        let before = log.lies().fetches();
        let repeats = (0..1_000).map(|n| publisher.publish(record(n)));
        let answers = futures_util::future::join_all(repeats).await;
        assert!(answers.iter().all(|answer| matches!(answer, Ok((_, true)))));
        let asked = log.lies().fetches() - before;
        assert!(asked <= 2, "{asked} reads for 1,000 repeats");
    }
}
