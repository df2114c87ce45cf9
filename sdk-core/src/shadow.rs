//! One device's shadow as a client sees it: the truth as it came, and this client's own changes on top of it, until the truth has them.
//!
//! ```text
//!   set ──▶ queued ──▶ sent ──▶ accepted ──▶ applied        the device reports what was asked for
//!                        │          └──────▶ superseded     somebody has asked for something else since
//!                        └──▶ rejected
//! ```
//!
//! A change shows in [`desired`](Shadow::desired) at once, and is laid anew over each truth that comes, until the truth has it or the
//! gateway refuses it. Pure: no I/O, no clock.

use alloc::borrow::ToOwned;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use anabranch_protocol::code::Code;
use anabranch_protocol::delta::{delta, diff, same};
use anabranch_protocol::json::{JsonError, Scanner, members};
use anabranch_protocol::merge_patch::merge_patch;

/// Rejected changes that are remembered for the fields that show them, at most.
const REJECTED: usize = 64;

/// The shadow of one device.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    document: Option<Document>,
    /// The newest that was seen, deletions included.
    newest: (u64, u64),
    changes: VecDeque<Change>,
}

/// A document as the gateway keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Grows when a shadow is deleted and made anew: its versions begin again.
    pub incarnation: u64,
    /// Grows by one with each update that counts, from 1.
    pub version: u64,
    /// When it was updated, in milliseconds since 1970, by the log's clock.
    pub timestamp: u64,
    /// What is asked of the device: a JSON object, empty if there is no such section.
    pub desired: String,
    /// What the device says of itself: a JSON object, empty if there is no such section.
    pub reported: String,
}

/// How far a change has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It waits for a connection.
    Queued,
    /// The log has it.
    Sent,
    /// It counts, as of this version. The device has not reported it yet.
    Accepted { version: u64 },
    /// It does not count.
    Rejected { code: Code, message: String },
}

/// How a change has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device reports all that was asked for; or a field was removed, which asks for nothing.
    Applied {
        version: u64,
    },
    /// Somebody has asked for something else since, or the shadow was deleted.
    Superseded,
    Rejected {
        code: Code,
        message: String,
    },
}

/// What has changed from one document to the next that came. Versions between them may have been left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Which shadow: one that is deleted and made anew has another.
    pub incarnation: u64,
    /// The version to which the patches are to be applied; 0 if there was no shadow, or another incarnation: then they are whole.
    pub base: u64,
    /// 0 if there is no shadow any more.
    pub version: u64,
    /// A merge patch of what is desired; `None` if nothing has changed there.
    pub desired: Option<String>,
    /// A merge patch of what is reported; `None` if nothing has changed there.
    pub reported: Option<String>,
}

#[derive(Clone, Debug)]
struct Change {
    /// Empty when its end was told.
    id: String,
    /// The id of the message that carries it: its own, or that of an earlier change, which carries both.
    message: String,
    patch: String,
    stage: Stage,
    incarnation: u64,
    /// Its answer may be lost.
    doubted: bool,
}

impl Document {
    /// Reads a payload of `shadow/document`; `None` if it is another.
    pub fn read(payload: &str) -> Option<Document> {
        let fields = members(payload).ok()??;
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
        let number = |name: &str| Scanner::new(field(name)?).number().ok();
        let state = members(field("state")?).ok()??;
        let section = |name: &str| {
            let found = state.iter().find(|(key, _)| key == name);
            found.map_or_else(|| "{}".to_owned(), |(_, value)| (*value).to_owned())
        };
        Some(Document {
            incarnation: number("incarnation")?,
            version: number("version")?,
            timestamp: number("timestamp")?,
            desired: section("desired"),
            reported: section("reported"),
        })
    }
}

impl Delta {
    /// What has changed from one document to another; `None` if neither is there, or they are the same.
    pub fn between(old: Option<&Document>, new: Option<&Document>) -> Option<Delta> {
        if old == new {
            return None;
        }
        let none = Document::default();
        let (before, after) = (old.unwrap_or(&none), new.unwrap_or(&none));
        // Another shadow has nothing of the one before.
        let goes_on = before.incarnation == after.incarnation || new.is_none();
        let before = if goes_on { before } else { &none };
        let changed = |old: &str, new: &str| diff(or_empty(old), or_empty(new)).ok().flatten();
        Some(Delta {
            incarnation: if new.is_some() { after.incarnation } else { before.incarnation },
            base: before.version,
            version: after.version,
            desired: changed(&before.desired, &after.desired),
            reported: changed(&before.reported, &after.reported),
        })
    }
}

impl Shadow {
    /// The truth; `None` if there is no shadow, as far as is known.
    pub fn document(&self) -> Option<&Document> {
        self.document.as_ref()
    }

    /// What is desired, this client's changes included that the truth does not have yet.
    pub fn desired(&self) -> String {
        let mut desired =
            self.document.as_ref().map_or_else(|| "{}".to_owned(), |document| document.desired.clone());
        for change in self.changes.iter().filter(|change| self.is_ahead(change)) {
            if let Ok(patched) = merge_patch(Some(&desired), &change.patch) {
                desired = patched;
            }
        }
        desired
    }

    pub fn reported(&self) -> &str {
        self.document.as_ref().map_or("{}", |document| &document.reported)
    }

    /// The desired fields that differ from what is reported, changes on their way included; `None` if there are none.
    pub fn delta(&self) -> Option<String> {
        delta(Some(&self.desired()), Some(self.reported())).ok().flatten()
    }

    /// What is pending, by field: JSON pointers (RFC 6901) such as `/fan/rpm`. Of several changes of a field, the last.
    pub fn pending(&self) -> Vec<(String, Stage)> {
        let mut fields: Vec<(String, Stage)> = Vec::new();
        for change in &self.changes {
            let mut paths = Vec::new();
            leaves(&change.patch, "", &mut paths);
            for path in paths {
                fields.retain(|(field, _)| *field != path);
                fields.push((path, change.stage.clone()));
            }
        }
        fields
    }

    /// Another history or a whole snapshot begins: what comes next is true, whatever its version.
    pub fn begin(&mut self) {
        self.newest = (0, 0);
    }

    /// Takes a payload of `shadow/document`. Says what has changed; `None` if it is none that is newer.
    pub fn take(&mut self, payload: &str) -> Option<Delta> {
        let new = Document::read(payload);
        if new.is_none() && payload.trim_ascii() != "null" {
            return None;
        }
        if let Some(new) = &new {
            let version = (new.incarnation, new.version);
            if version <= self.newest {
                return None;
            }
            self.newest = version;
        } else {
            // Whatever comes of this incarnation comes late.
            self.newest.1 = u64::MAX;
        }
        let old = core::mem::replace(&mut self.document, new);
        Delta::between(old.as_ref(), self.document.as_ref())
    }

    /// A snapshot has ended without a document: there is none.
    pub fn take_none(&mut self) -> Option<Delta> {
        self.take("null")
    }

    /// This client changes what is desired, by a merge patch. `id` is the message's.
    ///
    /// # Errors
    /// The patch is not a JSON object.
    pub fn set(&mut self, id: &str, patch: &str) -> Result<(), JsonError> {
        if members(patch)?.is_none() {
            return Err(JsonError { at: 0, what: "expected an object" });
        }
        let mut fields = Vec::new();
        leaves(patch, "", &mut fields);
        // A field that is set again shows no longer that it was refused before.
        self.changes.retain(|change| {
            let mut of = Vec::new();
            leaves(&change.patch, "", &mut of);
            !matches!(change.stage, Stage::Rejected { .. }) || !of.iter().any(|field| fields.contains(field))
        });
        while self.changes.iter().filter(|change| matches!(change.stage, Stage::Rejected { .. })).count()
            > REJECTED
        {
            let oldest =
                self.changes.iter().position(|change| matches!(change.stage, Stage::Rejected { .. }));
            oldest.into_iter().for_each(|at| _ = self.changes.remove(at));
        }
        let (id, message, patch) = (id.to_owned(), id.to_owned(), patch.to_owned());
        self.changes.push_back(Change {
            id,
            message,
            patch,
            stage: Stage::Queued,
            incarnation: 0,
            doubted: false,
        });
        Ok(())
    }

    /// The outbox has put this change into an earlier message, by whose id it is known from here on to those who tell what becomes of it.
    pub fn merged(&mut self, id: &str, into: &str) {
        self.of(id).for_each(|change| change.message = into.to_owned());
    }

    /// The log has this message. Says whether its answer may be lost, as [`unsure`](Shadow::unsure) does: it may have been stored before that,
    /// and nobody knew.
    pub fn sent(&mut self, message: &str) -> bool {
        let mut doubted = false;
        for change in self.of(message).filter(|change| change.stage == Stage::Queued) {
            change.stage = Stage::Sent;
            doubted |= change.doubted;
        }
        doubted
    }

    /// The gateway's answer to this message: it counts.
    pub fn accepted(&mut self, message: &str, incarnation: u64, version: u64) {
        for change in self.of(message) {
            change.stage = Stage::Accepted { version };
            change.incarnation = incarnation;
        }
    }

    /// The gateway's answer to this message, or that of the log: it does not count.
    pub fn rejected(&mut self, message: &str, code: Code, why: &str) {
        for change in self.of(message) {
            change.stage = Stage::Rejected { code, message: why.to_owned() };
        }
    }

    /// Answers may be lost. Says whether that concerns a change: then the gateway is to be asked what the shadow is, and the answer goes to
    /// [`decided`](Shadow::decided).
    pub fn unsure(&mut self) -> bool {
        for change in &mut self.changes {
            change.doubted |= matches!(change.stage, Stage::Queued | Stage::Sent);
        }
        self.changes.iter().any(|change| change.stage == Stage::Sent)
    }

    /// The gateway has said what the shadow is, behind everything that was sent before it was asked. So what was in doubt then is decided as of
    /// this version: the truth has it, or it was refused or overtaken.
    pub fn decided(&mut self, incarnation: u64, version: u64) {
        for change in self.changes.iter_mut().filter(|change| change.doubted && change.stage == Stage::Sent) {
            change.stage = Stage::Accepted { version };
            change.incarnation = incarnation;
        }
    }

    /// The changes that have ended by now, once each. Refused ones stay [`pending`](Shadow::pending) until their fields are set again.
    pub fn settle(&mut self) -> Vec<(String, Outcome)> {
        let mut ended = Vec::new();
        let (document, newest) = (self.document.clone(), self.newest);
        self.changes.retain_mut(|change| match &change.stage {
            Stage::Queued | Stage::Sent => true,
            Stage::Rejected { code, message } => {
                // Told once: then it has no name any more.
                change.message.clear();
                let id = core::mem::take(&mut change.id);
                if !id.is_empty() {
                    ended.push((id, Outcome::Rejected { code: *code, message: message.clone() }));
                }
                true
            }
            Stage::Accepted { version } => {
                if (change.incarnation, *version) > newest {
                    return true; // The truth is on its way.
                }
                let outcome = match &document {
                    Some(document) if document.incarnation == change.incarnation => {
                        if !has(&document.desired, &change.patch) {
                            Some(Outcome::Superseded)
                        } else {
                            let is_done = is_reported(&document.reported, &change.patch);
                            is_done.then_some(Outcome::Applied { version: document.version })
                        }
                    }
                    _ => Some(Outcome::Superseded),
                };
                let goes_on = outcome.is_none();
                ended.extend(outcome.map(|outcome| (change.id.clone(), outcome)));
                goes_on
            }
        });
        ended
    }

    /// The changes that this message carries.
    fn of(&mut self, message: &str) -> impl Iterator<Item = &mut Change> {
        self.changes.iter_mut().filter(move |change| change.message == message && !message.is_empty())
    }

    /// Whether a change shows, and the truth does not have it.
    fn is_ahead(&self, change: &Change) -> bool {
        match change.stage {
            Stage::Queued | Stage::Sent => true,
            Stage::Accepted { version } => (change.incarnation, version) > self.newest,
            Stage::Rejected { .. } => false,
        }
    }
}

fn or_empty(state: &str) -> &str {
    if state.is_empty() { "{}" } else { state }
}

/// Whether a state is what a patch would make of it.
fn has(state: &str, patch: &str) -> bool {
    merge_patch(Some(state), patch).and_then(|patched| same(&patched, state)).unwrap_or(false)
}

/// Whether the device reports all that a patch asks for. A removal asks for nothing.
fn is_reported(reported: &str, patch: &str) -> bool {
    let wished = merge_patch(None, patch);
    wished.and_then(|wished| delta(Some(&wished), Some(reported))).is_ok_and(|open| open.is_none())
}

/// The paths of the values in a patch, as JSON pointers.
fn leaves(text: &str, path: &str, out: &mut Vec<String>) {
    match members(text) {
        Ok(Some(list)) if !list.is_empty() => {
            for (key, value) in list {
                let key = key.replace('~', "~0").replace('/', "~1");
                leaves(value, &format!("{path}/{key}"), out);
            }
        }
        _ if path.is_empty() => {}
        _ => out.push(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(incarnation: u64, version: u64, desired: &str, reported: &str) -> String {
        format!(
            r#"{{"incarnation":{incarnation},"version":{version},"timestamp":{version},"state":{{"desired":{desired},"reported":{reported}}},"timestamps":{{}}}}"#
        )
    }

    fn is(a: &str, b: &str) -> bool {
        same(a, b).unwrap()
    }

    #[test]
    fn a_change_shows_at_once_and_settles_when_the_device_reports_it() {
        let mut shadow = Shadow::default();
        shadow.take(&document(1, 1, r#"{"fan":{"rpm":1}}"#, r#"{"fan":{"rpm":1}}"#)).expect("news");
        shadow.set("a", r#"{"fan":{"rpm":2}}"#).expect("a patch");
        assert!(is(&shadow.desired(), r#"{"fan":{"rpm":2}}"#));
        assert_eq!(shadow.pending(), [("/fan/rpm".to_owned(), Stage::Queued)]);
        assert!(is(&shadow.delta().expect("a delta"), r#"{"fan":{"rpm":2}}"#));
        shadow.sent("a");
        // Rebased: another app sets another field meanwhile.
        shadow.take(&document(1, 2, r#"{"fan":{"rpm":1},"on":true}"#, r#"{"fan":{"rpm":1}}"#)).expect("news");
        assert!(is(&shadow.desired(), r#"{"fan":{"rpm":2},"on":true}"#));
        // The answer may come before the document, and shows all the same.
        shadow.accepted("a", 1, 3);
        assert!(shadow.settle().is_empty() && is(&shadow.desired(), r#"{"fan":{"rpm":2},"on":true}"#));
        shadow.take(&document(1, 3, r#"{"fan":{"rpm":2},"on":true}"#, r#"{"fan":{"rpm":1}}"#)).expect("news");
        assert!(shadow.settle().is_empty(), "the device has not done it");
        assert_eq!(shadow.pending(), [("/fan/rpm".to_owned(), Stage::Accepted { version: 3 })]);
        shadow.take(&document(1, 4, r#"{"fan":{"rpm":2},"on":true}"#, r#"{"fan":{"rpm":2}}"#)).expect("news");
        assert_eq!(shadow.settle(), [("a".to_owned(), Outcome::Applied { version: 4 })]);
        assert!(shadow.pending().is_empty() && shadow.settle().is_empty());
    }

    #[test]
    fn a_refused_change_is_taken_back_and_shown_until_its_field_is_set_again() {
        let mut shadow = Shadow::default();
        shadow.take(&document(1, 1, r#"{"a":1}"#, "{}")).expect("news");
        shadow.set("x", r#"{"a":2}"#).expect("a patch");
        shadow.rejected("x", Code::SHADOW_TOO_LARGE, "too large");
        assert!(is(&shadow.desired(), r#"{"a":1}"#));
        assert_eq!(shadow.settle().len(), 1);
        assert!(shadow.settle().is_empty(), "told once");
        assert!(matches!(&shadow.pending()[..], [(field, Stage::Rejected { .. })] if field == "/a"));
        shadow.set("y", r#"{"a":3}"#).expect("a patch");
        assert_eq!(shadow.pending(), [("/a".to_owned(), Stage::Queued)]);
    }

    #[test]
    fn who_is_overtaken_is_told_so() {
        let mut shadow = Shadow::default();
        shadow.take(&document(1, 1, "{}", "{}")).expect("news");
        shadow.set("x", r#"{"a":2}"#).expect("a patch");
        shadow.accepted("x", 1, 2);
        shadow.take(&document(1, 3, r#"{"a":9}"#, "{}")).expect("news");
        assert_eq!(shadow.settle(), [("x".to_owned(), Outcome::Superseded)]);
        shadow.set("y", r#"{"a":3}"#).expect("a patch");
        shadow.accepted("y", 1, 4);
        shadow.take("null").expect("news");
        assert_eq!(shadow.settle(), [("y".to_owned(), Outcome::Superseded)], "it is gone");
        shadow.take(&document(5, 1, r#"{"a":3}"#, "{}")).expect("news");
        assert!(shadow.settle().is_empty(), "told once");
    }

    #[test]
    fn only_what_is_newer_counts_and_deltas_name_their_base() {
        let mut shadow = Shadow::default();
        let first = shadow.take(&document(1, 2, r#"{"a":1}"#, "{}")).expect("news");
        assert_eq!((first.base, first.version, first.desired.as_deref()), (0, 2, Some(r#"{"a":1}"#)));
        assert_eq!(shadow.take(&document(1, 2, r#"{"a":7}"#, "{}")), None);
        assert_eq!(shadow.take(&document(1, 1, r#"{"a":7}"#, "{}")), None);
        let next = shadow.take(&document(1, 5, r#"{"b":1}"#, "{}")).expect("news");
        assert_eq!((next.base, next.version, next.desired.as_deref()), (2, 5, Some(r#"{"b":1,"a":null}"#)));
        let gone = shadow.take("null").expect("news");
        assert_eq!((gone.base, gone.version), (5, 0));
        assert_eq!(shadow.take(&document(1, 6, "{}", "{}")), None, "that shadow is no more");
        assert_eq!(shadow.take(&document(2, 1, "{}", "{}")).map(|delta| delta.base), Some(0));
        assert_eq!(shadow.take("not a document"), None);
        shadow.begin();
        assert!(shadow.take(&document(1, 1, "{}", "{}")).is_some(), "another history");
    }

    #[test]
    fn a_lost_answer_is_found_in_the_truth() {
        let mut shadow = Shadow::default();
        assert!(!shadow.unsure(), "nothing was sent");
        shadow.set("has", r#"{"a":1,"b":null}"#).expect("a patch");
        shadow.set("lacks", r#"{"c":1}"#).expect("a patch");
        assert!(!shadow.sent("has"));
        assert!(shadow.unsure());
        assert!(shadow.sent("lacks"), "it may have been stored before");
        shadow.set("later", r#"{"d":1}"#).expect("a patch");
        shadow.sent("later");
        shadow.take(&document(1, 4, r#"{"a":1}"#, r#"{"a":1}"#)).expect("news");
        assert!(shadow.settle().is_empty(), "they may be under way");
        shadow.decided(1, 5);
        assert!(shadow.settle().is_empty(), "the truth is on its way");
        shadow.take(&document(1, 5, r#"{"a":1}"#, r#"{"a":1}"#)).expect("news");
        let told =
            [("has".to_owned(), Outcome::Applied { version: 5 }), ("lacks".to_owned(), Outcome::Superseded)];
        assert_eq!(shadow.settle(), told);
        assert!(is(&shadow.desired(), r#"{"a":1,"d":1}"#), "what was sent since is not concerned");
    }

    #[test]
    fn a_change_of_a_shadow_that_is_gone_is_overtaken() {
        let mut shadow = Shadow::default();
        shadow.set("x", r#"{"a":1}"#).expect("a patch");
        shadow.sent("x");
        shadow.unsure();
        shadow.decided(0, 0);
        assert_eq!(shadow.settle(), [("x".to_owned(), Outcome::Superseded)]);
        assert!(is(&shadow.desired(), "{}"));
    }
}
