//! Reads a server frame's fields, whatever frame it is.

use super::{Gap, GapReason, Outcome, Snapshot};
use crate::client_frame::{FrameError, SubscriptionId, once};
use crate::code::Code;
use crate::cursor::{Cursor, Partition};
use crate::json::Scanner;
use crate::limits;
use alloc::borrow::Cow;

/// Every field that any server frame has.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) kind: Option<Cow<'a, str>>,
    pub(super) session: Option<Cow<'a, str>>,
    pub(super) cursor: Option<Cow<'a, str>>,
    pub(super) position: Option<Cow<'a, str>>,
    pub(super) envelope: Option<&'a str>,
    pub(super) outcome: Option<Cow<'a, str>>,
    pub(super) after: Option<Cow<'a, str>>,
    pub(super) before: Option<Cow<'a, str>>,
    pub(super) reason: Option<Cow<'a, str>>,
    pub(super) message: Option<Cow<'a, str>>,
    pub(super) message_id: Option<Cow<'a, str>>,
    pub(super) numbers: [Option<u64>; NUMBERS.len()],
    pub(super) limits: [Option<u64>; LIMITS.len()],
    /// Of `subscribed`, a text; of `message`, a boolean.
    pub(super) snapshot: Option<Cow<'a, str>>,
    pub(super) state: Option<Cow<'a, str>>,
    pub(super) booleans: [Option<bool>; BOOLEANS.len()],
}

/// Fields that are numbers, by their index in [`Fields::numbers`].
const NUMBERS: [&str; 10] = [
    "pingIntervalMs",
    "pingGraceMs",
    "tokenTtlMs",
    "serverTimeMs",
    "subscription",
    "code",
    "partition",
    "delivered",
    "retryAfterMs",
    "reconnectAfterMs",
];
/// Fields that are booleans, by their index in [`Fields::booleans`]. The first may be a text, too.
const BOOLEANS: [&str; 6] = ["snapshot", "duplicate", "up", "stale", "patch", "values"];
const LIMITS: [&str; 4] = ["frameBytes", "subscriptions", "publishesInFlight", "conflateMs"];

impl<'a> Fields<'a> {
    pub(super) fn scan(scanner: &mut Scanner<'a>) -> Result<Fields<'a>, FrameError> {
        let mut fields = Fields::default();
        scanner.enter_object()?;
        while let Some(key) = scanner.next_key()? {
            let slot = match &*key {
                "type" => &mut fields.kind,
                "session" => &mut fields.session,
                "cursor" => &mut fields.cursor,
                "position" => &mut fields.position,
                "outcome" => &mut fields.outcome,
                "after" => &mut fields.after,
                "before" => &mut fields.before,
                "reason" => &mut fields.reason,
                "message" => &mut fields.message,
                "messageId" => &mut fields.message_id,
                "envelope" => {
                    once(&mut fields.envelope, scanner.raw()?, "envelope")?;
                    continue;
                }
                "state" => &mut fields.state,
                "snapshot" => {
                    let value = scanner.raw()?;
                    if value.starts_with('"') {
                        once(&mut fields.snapshot, Scanner::new(value).string()?, "snapshot")?;
                    } else {
                        once(&mut fields.booleans[0], Scanner::new(value).boolean()?, "snapshot")?;
                    }
                    continue;
                }
                "limits" => {
                    scanner.enter_object()?;
                    while let Some(key) = scanner.next_key()? {
                        match LIMITS.iter().position(|name| *name == key) {
                            Some(at) => once(&mut fields.limits[at], scanner.number()?, &key)?,
                            None => drop(scanner.raw()?),
                        }
                    }
                    continue;
                }
                name => {
                    if let Some(at) = BOOLEANS.iter().position(|known| *known == name) {
                        once(&mut fields.booleans[at], scanner.boolean()?, name)?;
                        continue;
                    }
                    match NUMBERS.iter().position(|known| *known == name) {
                        Some(at) => once(&mut fields.numbers[at], scanner.number()?, name)?,
                        // A newer gateway may say more than we know.
                        None => drop(scanner.raw()?),
                    }
                    continue;
                }
            };
            once(slot, scanner.string()?, &key)?;
        }
        Ok(fields)
    }

    pub(super) fn number(&self, name: &str) -> Result<u64, FrameError> {
        self.optional(name).ok_or_else(|| FrameError::missing(name))
    }

    pub(super) fn optional(&self, name: &str) -> Option<u64> {
        NUMBERS.iter().position(|known| *known == name).and_then(|at| self.numbers[at])
    }

    pub(super) fn limit(&self, at: usize) -> Result<u64, FrameError> {
        self.limits[at].ok_or_else(|| FrameError::missing(LIMITS[at]))
    }

    pub(super) fn subscription(&self) -> Result<SubscriptionId, FrameError> {
        SubscriptionId::try_from(self.number("subscription")?)
            .map_err(|_| FrameError::new("subscription is too large"))
    }

    pub(super) fn code(&self) -> Result<Code, FrameError> {
        u16::try_from(self.number("code")?).map(Code).map_err(|_| FrameError::new("code is too large"))
    }

    pub(super) fn parsed<T: core::str::FromStr>(
        text: &Option<Cow<'a, str>>,
        name: &'static str,
    ) -> Result<T, FrameError> {
        let text = text.as_deref().ok_or_else(|| FrameError::missing(name))?;
        text.parse().map_err(|_| FrameError::new([name, " cannot be read"].concat()))
    }

    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        BOOLEANS.iter().position(|known| *known == name).and_then(|at| self.booleans[at])
    }

    pub(super) fn cursor(&self) -> Result<Cursor, FrameError> {
        Self::parsed(&self.cursor, "cursor")
    }

    pub(super) fn snapshot(&self) -> Result<Option<Snapshot>, FrameError> {
        let whole = match self.snapshot.as_deref() {
            Some("whole") => true,
            Some("since") => false,
            // A newer kind is no less than nothing.
            _ => return Ok(None),
        };
        Ok(Some(Snapshot { whole, state: Self::parsed(&self.state, "state")? }))
    }

    pub(super) fn gap(&self) -> Result<Gap, FrameError> {
        Ok(Gap {
            partition: Partition::try_from(self.number("partition")?)
                .ok()
                .filter(|partition| usize::from(*partition) < limits::PARTITIONS)
                .ok_or_else(|| FrameError::new("partition is too large"))?,
            after: Self::parsed(&self.after, "after")?,
            before: Self::parsed(&self.before, "before")?,
            reason: self.reason.as_deref().map_or(GapReason::Other, GapReason::from_name),
        })
    }

    pub(super) fn outcome(&self) -> Result<Outcome, FrameError> {
        Ok(match self.outcome.as_deref() {
            Some("live") => Outcome::Live,
            Some("resumed") => Outcome::Resumed,
            Some("gap") => Outcome::Gap(self.gap()?),
            Some("reset") => Outcome::Reset(self.code()?),
            _ => return Err(FrameError::new("outcome must be live, resumed, gap or reset")),
        })
    }
}
