//! Commands: a request to a device, and its answer, joined by an id.
//!
//! ```text
//!   who commands                                        device
//!   queued ─▶ sent ─▶ accepted ─── …/commands/request ──▶ known? ─▶ begun ─▶ answered
//!                        done, failed, expired ◀─ …/commands/response/SUBJECT ─┘
//! ```
//!
//! The device alone decides whether a command was done, and it decides once: it writes down that it begins before it begins, and
//! does not begin what has expired or what it knows. So nothing is done twice, and nothing is called expired that was done.
//! `docs/adr/0012-commands.md` has the reasons.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use anabranch_protocol::json::{JsonError, ObjectWriter, Scanner};

/// The longest time to live, in milliseconds. A device need not remember an id for longer than that.
pub const TTL_MS: u64 = 10 * 60 * 1000;
/// By how much the clocks of a device and of who commands it may differ without a command being done again, in milliseconds.
pub const SKEW_MS: u64 = 60 * 1000;
/// For how long a device remembers that a request asked for too much time, in milliseconds. Much longer than it reads requests again.
const FAR_MS: u64 = 60 * 60 * 1000;

/// What a device is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub name: Cow<'a, str>,
    /// Not to be begun from then on: milliseconds since 1970.
    pub expires: u64,
    /// JSON text.
    pub arguments: &'a str,
}

impl<'a> Request<'a> {
    /// Reads the payload of a request.
    ///
    /// # Errors
    /// It is none: `name` or `expires` is missing, or it is not JSON.
    pub fn from_json(text: &'a str) -> Result<Request<'a>, JsonError> {
        let (mut name, mut expires, mut arguments) = (None, None, "null");
        let mut scanner = Scanner::new(text);
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            match &*key {
                "name" => name = Some(scanner.string()?),
                "expires" => expires = Some(scanner.number()?),
                "arguments" => arguments = scanner.raw()?,
                _ => drop(scanner.raw()?),
            }
        }
        match (name, expires) {
            (Some(name), Some(expires)) => Ok(Request { name, expires, arguments }),
            _ => Err(scanner.error("a request has a name and a time at which it expires")),
        }
    }

    pub fn to_json(&self) -> String {
        let mut out = String::new();
        let mut object = ObjectWriter::begin(&mut out);
        object
            .string("name", &self.name)
            .number("expires", self.expires)
            .raw("arguments", self.arguments)
            .end();
        out
    }
}

/// What a device says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is done. JSON text.
    Done(Box<str>),
    /// It is not done, or not wholly. Why, for people.
    Failed(Box<str>),
    /// It came too late, and was not begun.
    Expired,
}

impl Answer {
    /// Reads the payload of a response.
    ///
    /// # Errors
    /// It is none.
    pub fn from_json(text: &str) -> Result<Answer, JsonError> {
        let (mut status, mut result, mut message) = (None, "null", Cow::Borrowed(""));
        let mut scanner = Scanner::new(text);
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            match &*key {
                "status" => status = Some(scanner.string()?),
                "result" => result = scanner.raw()?,
                "message" => message = scanner.string()?,
                _ => drop(scanner.raw()?),
            }
        }
        match status.as_deref() {
            Some("done") => Ok(Answer::Done(result.into())),
            Some("failed") => Ok(Answer::Failed(message.into())),
            Some("expired") => Ok(Answer::Expired),
            _ => Err(scanner.error("the status of a response is done, failed or expired")),
        }
    }

    pub fn to_json(&self) -> String {
        let mut out = String::new();
        let mut object = ObjectWriter::begin(&mut out);
        match self {
            Answer::Done(result) => object.string("status", "done").raw("result", result).end(),
            Answer::Failed(message) => object.string("status", "failed").string("message", message).end(),
            Answer::Expired => object.string("status", "expired").end(),
        }
        out
    }
}

/// How far a command has come, for who gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It waits for a connection.
    Queued,
    /// It is on its way.
    Sent,
    /// The log has it: the device gets it, if it comes in time.
    Accepted,
    /// The device has done it. JSON text.
    Done(Box<str>),
    /// It was refused, or the device could not do it, or not wholly.
    Failed(Box<str>),
    /// Its time was over before it was begun: it was not done, and will not be.
    Expired,
    /// It was taken back before it was sent.
    Cancelled,
    /// Its time is over, and there is no answer: whether it was done is not known. An answer may still come.
    Unanswered,
}

impl Progress {
    const fn rank(&self) -> u8 {
        match self {
            Progress::Queued => 0,
            Progress::Sent => 1,
            Progress::Accepted => 2,
            Progress::Unanswered => 3,
            Progress::Done(_) | Progress::Failed(_) | Progress::Expired | Progress::Cancelled => 4,
        }
    }

    /// Whether this is the end, and nothing else will be said.
    pub const fn is_final(&self) -> bool {
        self.rank() == 4
    }

    /// Goes on to what is said now, and says whether that was news. What is said late, or after the end, changes nothing.
    pub fn advance(&mut self, to: Progress) -> bool {
        let news = to.rank() > self.rank();
        if news {
            *self = to;
        }
        news
    }
}

impl From<Answer> for Progress {
    fn from(answer: Answer) -> Progress {
        match answer {
            Answer::Done(result) => Progress::Done(result),
            Answer::Failed(message) => Progress::Failed(message),
            Answer::Expired => Progress::Expired,
        }
    }
}

/// What to do about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Write down that it is begun, then do it.
    Do,
    /// It is not to be done. Write down the answer, then say it: a restart, or a clock that is set, must not decide otherwise.
    Refused(Answer),
    /// It has its answer: say that, once more.
    Answered(Answer),
    /// It is being done.
    UnderWay,
}

/// The requests that a device knows, until they have long expired.
#[derive(Debug, Default)]
pub struct Handled {
    known: BTreeMap<Box<str>, Known>,
    /// By when each need not be known any more.
    order: BTreeSet<(u64, Box<str>)>,
}

#[derive(Debug)]
struct Known {
    expires: u64,
    /// Without one: begun.
    answer: Option<Answer>,
}

/// A request that is known, as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'h> {
    pub id: &'h str,
    /// When it is held to expire: milliseconds since 1970.
    pub expires: u64,
    /// Without one: begun.
    pub answer: Option<&'h Answer>,
}

impl Handled {
    /// A request has come. Times are milliseconds since 1970.
    pub fn meet(&mut self, id: &str, expires: u64, now: u64) -> Verdict {
        while self.order.first().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, id)) = self.order.pop_first() {
                self.known.remove(&id);
            }
        }
        match self.known.get(id) {
            Some(Known { answer: Some(answer), .. }) => return Verdict::Answered(answer.clone()),
            Some(Known { answer: None, .. }) => return Verdict::UnderWay,
            None => {}
        }
        let refused = if expires <= now {
            Some(Answer::Expired)
        } else if expires > now + TTL_MS + SKEW_MS {
            Some(Answer::Failed("it asks for more time than ten minutes, or the clocks differ".into()))
        } else {
            None
        };
        self.restore(id, expires.min(now + FAR_MS), refused.clone());
        refused.map_or(Verdict::Do, Verdict::Refused)
    }

    /// A request that was begun has its answer.
    pub fn answer(&mut self, id: &str, answer: Answer) {
        if let Some(known) = self.known.get_mut(id) {
            known.answer = Some(answer);
        }
    }

    /// What was written down in an earlier life.
    pub fn restore(&mut self, id: &str, expires: u64, answer: Option<Answer>) {
        // Until nobody could send it again with time left.
        let until = |expires: u64| expires.saturating_add(SKEW_MS);
        if let Some(before) = self.known.insert(id.into(), Known { expires, answer }) {
            self.order.remove(&(until(before.expires), id.into()));
        }
        self.order.insert((until(expires), id.into()));
    }

    /// The process began anew: what was begun then has failed, at some place that is not known.
    pub fn interrupt(&mut self) {
        for known in self.known.values_mut().filter(|known| known.answer.is_none()) {
            let why = "the device ended while it was at it; it may be done in part";
            known.answer = Some(Answer::Failed(why.into()));
        }
    }

    /// What is known of a request.
    pub fn entry(&self, id: &str) -> Option<Entry<'_>> {
        let (id, known) = self.known.get_key_value(id)?;
        Some(Entry { id, expires: known.expires, answer: known.answer.as_ref() })
    }

    /// All that is known, first what expires first.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.order.iter().filter_map(|(_, id)| self.entry(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let request =
            Request { name: "re\"boot".into(), expires: 1_795_233_600_000, arguments: r#"{"in":[5]}"# };
        assert_eq!(Request::from_json(&request.to_json()), Ok(request));
        for answer in [Answer::Done("[1]".into()), Answer::Failed("no".into()), Answer::Expired] {
            assert_eq!(Answer::from_json(&answer.to_json()), Ok(answer));
        }
        for wrong in ["", "{}", r#"{"name":"a"}"#, r#"{"name":1,"expires":1}"#, r#"{"status":"perhaps"}"#] {
            assert!(Request::from_json(wrong).is_err() && Answer::from_json(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_command_goes_forward_and_ends_once() {
        let mut progress = Progress::Queued;
        assert!(progress.advance(Progress::Accepted));
        assert!(!progress.advance(Progress::Sent), "told late");
        assert!(progress.advance(Progress::Unanswered));
        assert!(progress.advance(Progress::Done("1".into())), "the answer comes after all");
        for late in [Progress::Expired, Progress::Unanswered, Progress::Failed("no".into())] {
            assert!(!progress.advance(late));
        }
        assert_eq!(progress, Progress::Done("1".into()));
    }

    #[test]
    fn a_device_begins_a_command_once_and_answers_it_again() {
        let mut handled = Handled::default();
        assert_eq!(handled.meet("a", 1_000, 10), Verdict::Do);
        assert_eq!(handled.meet("a", 1_000, 20), Verdict::UnderWay);
        handled.answer("a", Answer::Done("1".into()));
        assert_eq!(handled.meet("a", 1_000, 2_000), Verdict::Answered(Answer::Done("1".into())));
        assert_eq!(handled.meet("late", 1_000, 1_000), Verdict::Refused(Answer::Expired));
        assert_eq!(
            handled.meet("late", 1_000, 500),
            Verdict::Answered(Answer::Expired),
            "the clock was set back"
        );
        assert_eq!(handled.meet("b", 3_000, 2_000), Verdict::Do);
        // A repeat that comes when it is forgotten is too late to be begun.
        assert_eq!(handled.meet("a", 1_000, 1_000 + SKEW_MS), Verdict::Refused(Answer::Expired));
    }

    #[test]
    fn what_asked_for_too_much_time_is_not_done_when_less_is_left() {
        let mut handled = Handled::default();
        let expires = TTL_MS + SKEW_MS + 5_000;
        assert!(matches!(handled.meet("ahead", expires, 0), Verdict::Refused(Answer::Failed(_))));
        assert!(matches!(handled.meet("ahead", expires, 60_000), Verdict::Answered(Answer::Failed(_))));
        // One that never expires holds up none of those that do.
        assert!(matches!(handled.meet("never", u64::MAX, 0), Verdict::Refused(Answer::Failed(_))));
        assert_eq!(handled.meet("short", 1_000, 0), Verdict::Do);
        assert_eq!(handled.meet("other", 70_000, 1_000 + SKEW_MS), Verdict::Do);
        let known: Vec<&str> = handled.entries().map(|entry| entry.id).collect();
        assert_eq!(known, ["other", "ahead", "never"]);
        handled.meet("last", FAR_MS + SKEW_MS + 1, FAR_MS + SKEW_MS);
        assert_eq!(handled.entries().count(), 1, "all the others are forgotten");
    }

    #[test]
    fn what_an_earlier_life_had_begun_is_not_begun_again() {
        let mut handled = Handled::default();
        handled.restore("a", 1_000, None);
        handled.restore("b", 1_000, None);
        handled.restore("b", 1_000, Some(Answer::Done("2".into())));
        handled.interrupt();
        assert_eq!(
            handled.entries().map(|entry| (entry.id, entry.expires)).collect::<Vec<_>>(),
            [("a", 1_000), ("b", 1_000)]
        );
        assert!(matches!(handled.meet("a", 1_000, 10), Verdict::Answered(Answer::Failed(_))));
        assert_eq!(handled.meet("b", 1_000, 10), Verdict::Answered(Answer::Done("2".into())));
    }
}
