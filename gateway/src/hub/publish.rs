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

mod under_way;
mod window;
mod witness;

use crate::log::{AppendError, Log, MessageKey, NewRecord};
use anabranch_protocol::cursor::{Cursor, Offset, Partition, Position};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either};
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, MutexGuard};
use under_way::UnderWay;
use window::{Seen, Stored, Window};
use witness::{Question, Stands, Vouched, Witness};

/// How many recent messages are remembered at least. At 2,000 messages/s, about a minute; at most 18 MB.
pub const WINDOW: usize = 131_072;

/// The first copy's position, and whether an earlier try stored it.
pub type Appended = Result<(Position, bool), AppendError>;

/// A publish: what became of it where the log knows within the call, else what waits for it. To be awaited like any future.
pub type Publication = Either<Ready<Appended>, BoxFuture<'static, Appended>>;

/// Where the window stood when an append began.
#[derive(Clone, Copy)]
struct Begun {
    key: MessageKey,
    epoch: u64,
}

/// Appends for a whole node.
pub struct Publisher {
    log: Arc<dyn Log>,
    window: Mutex<Window>,
    witness: Witness,
}

impl Publisher {
    pub fn new(log: Arc<dyn Log>) -> Arc<Publisher> {
        let window = Mutex::new(Window::new(log.id()));
        Arc::new(Publisher { log, window, witness: Witness::default() })
    }

    /// Appends a record, or finds it stored: its position, and whether it was an earlier try that stored it.
    ///
    /// The record is queued by the call itself, in the order of calls. Cancel safe: the append goes on. Neither holds for a
    /// repeat of what is known: the log is asked first.
    pub fn publish(self: &Arc<Self>, record: NewRecord) -> Publication {
        let key = record.key;
        let mut window = self.lock();
        let published = match window.look_up(key) {
            Seen::New => match self.log.append(record) {
                Either::Left(ended) => {
                    let result = ended.into_inner();
                    if let Ok(position) = result {
                        window.add(key, position);
                    }
                    return Either::Left(ready(result.map(|position| (position, false))));
                }
                Either::Right(append) => {
                    let begun = Begun { key, epoch: window.epoch };
                    window.begin(key);
                    UnderWay::new(Arc::clone(self), begun, append).boxed()
                }
            },
            Seen::Appending(end) => async move {
                match end.await {
                    Ok(result) => result.map(|(position, _)| (position, true)),
                    Err(_) => Err(AppendError::Unknown("the first try's append was given up".into())),
                }
            }
            .boxed(),
            Seen::Stored(stored) => {
                drop(window);
                // Put after this call, and by whichever repeat is polled first.
                let question = stored.read.map(|_| self.question(stored.position.partition));
                Arc::clone(self).repeat(record, stored, question).boxed()
            }
        };
        Either::Right(published)
    }

    /// An append has ended. What its publishers are to be told.
    fn ended(&self, begun: Begun, result: Result<Position, AppendError>) -> Appended {
        let Begun { key, epoch } = begun;
        let mut window = self.lock();
        // A confirm of a history that has ended says nothing of this one.
        if window.epoch != epoch {
            return result.map(|position| (position, false));
        }
        let waiting = window.end(key);
        // An earlier try of which nothing was known may have been stored before this one, and been read meanwhile. A failed one
        // is forgotten, so that a retry is a new append; if it was stored after all, the tail notes it.
        let appended = result.map(|position| match window.note(key, position, false) {
            Some(first) => (first, true),
            None => (position, false),
        });
        drop(window);
        for publisher in waiting {
            let _ = publisher.send(appended.clone());
        }
        appended
    }

    /// Nobody drives this append any more: those who wait for it are told that nothing is known.
    fn given_up(&self, begun: Begun) {
        let mut window = self.lock();
        if window.epoch == begun.epoch {
            window.end(begun.key);
        }
    }

    /// A message comes again that is known to have been stored.
    async fn repeat(
        self: Arc<Self>,
        record: NewRecord,
        stored: Stored,
        question: Option<Question<Vouched>>,
    ) -> Appended {
        let position = stored.position;
        match self.stands(record.key, stored, question).await {
            Stands::There => Ok((position, true)),
            Stands::Gone | Stands::Unreadable => {
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
        self.lock().note(key, position, true).is_some()
    }

    /// Whether an earlier record is known to have the same key. Notes nothing.
    pub fn is_duplicate(&self, key: MessageKey, position: Position) -> bool {
        self.lock().stored(key).is_some_and(|first| is_before(first, position))
    }

    /// This record stands there, though it is not known what it is.
    pub fn see(&self, position: Position) {
        self.lock().see(position);
    }

    /// A partition has been read up to here, in order: every record up to there was noted.
    pub fn pass(&self, partition: Partition, offset: Offset) {
        self.lock().pass(partition, offset);
    }

    /// Up to where it is known of each record whether it is a duplicate.
    pub fn read_to(&self, partition: Partition) -> Offset {
        self.lock().read_to(partition)
    }

    /// Another history begins, which agrees with the one before up to `head`: forgets what stands no more.
    pub fn part(&self, head: &Cursor) {
        self.lock().part(head);
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A topic is always in the same partition, and so are all copies of a message.
fn is_before(a: Position, b: Position) -> bool {
    a.partition == b.partition && a.offset < b.offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::DEADLINE;
    use crate::log::conformance::record;
    use crate::log::memory::Publishing;
    use crate::log::memory::{self, MemoryLog};
    use anabranch_protocol::cursor::LogId;

    fn at(offset: u64) -> Position {
        Position { partition: 0, offset: Offset(offset), fingerprint: None }
    }

    /// A failover takes a record back that this node has not read, and another node stores the retry further on: that is the first
    /// copy, whatever this node's publisher was confirmed.
    #[tokio::test]
    async fn a_copy_behind_one_that_was_confirmed_and_never_read_is_the_first() {
        let (log, publisher) = stored().await;
        log.lies().fail_over(0, 1);
        log.append(record(1)).await.expect("in its place");
        let position = log.append(record(0)).await.expect("by another node");
        assert!(!publisher.note(record(1).key, at(1)));
        assert!(!publisher.note(record(0).key, position), "nobody has had it");
        assert!(publisher.note(record(0).key, at(3)), "and this is the second");
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
        publisher.part(&Cursor::beginning(LogId(2)));
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

    /// The same message through two connections, or a retry while the first try's append is under way.
    #[tokio::test]
    async fn a_message_that_comes_twice_at_once_is_stored_once() {
        let log = MemoryLog::new(memory::Options::default());
        let publisher = Publisher::new(log.clone());
        log.lies().publishing(Publishing::Hangs);
        let tries = [publisher.publish(record(0)), publisher.publish(record(0))];
        log.lies().publishing(Publishing::Works);
        let ends = futures_util::future::join_all(tries).await.into_iter();
        let ends: Vec<_> = ends.map(|end| end.map(|(at, again)| (at.offset, again))).collect();
        assert_eq!(ends, [Ok((Offset(1), false)), Ok((Offset(1), true))]);
        assert_eq!(log.bounds(0).await.expect("bounds").last, Offset(1));
    }

    /// Time is the test's: it goes on once nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn a_publisher_that_hangs_up_leaves_nothing_behind() {
        let log = MemoryLog::new(memory::Options::default());
        let publisher = Publisher::new(log.clone());
        log.lies().publishing(Publishing::Hangs);
        drop(publisher.publish(record(0)));
        tokio::time::sleep(2 * DEADLINE).await;
        assert_eq!(publisher.lock().len(), 0, "the append has failed");
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
