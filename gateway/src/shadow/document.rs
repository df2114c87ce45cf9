//! A shadow's document, and what an update makes of it.
//!
//! The conventions are those of AWS IoT's device shadows, but for their traps: a shadow that is made again after its deletion is
//! another incarnation, and versions begin at 1 in it, so that (incarnation, version) never comes twice.

#[cfg(test)]
mod tests;

use super::Limits;
use super::times::stamp;
use super::update::{Refusal, Update};
use anabranch_protocol::code::Code;
use anabranch_protocol::delta;
use anabranch_protocol::json::{JsonError, ObjectWriter, Scanner, members};
use anabranch_protocol::merge_patch::merge_patch;

/// A shadow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Which shadow of the device this is. Grows with each that is made; about the time of its making.
    pub incarnation: u64,
    /// Grows by one with each update that counts. From 1.
    pub version: u64,
    /// When it was updated last, in milliseconds since 1970, by the log's clock.
    pub time: u64,
    pub desired: Option<Section>,
    pub reported: Option<Section>,
}

/// One half of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// A JSON object.
    pub state: String,
    /// When each field was set, in its shape: milliseconds since 1970.
    pub times: String,
}

/// Which shadow is to be changed, and when.
#[derive(Clone, Copy, Debug)]
pub struct Occasion {
    /// The incarnation that a new shadow gets.
    pub incarnation: u64,
    /// Milliseconds since 1970, by the log's clock.
    pub time: u64,
}

/// What an update makes of a shadow: another document, or none.
///
/// # Errors
/// A refusal with a code; the shadow stays as it was.
pub fn apply(
    current: Option<&Document>,
    update: &Update<'_>,
    limits: &Limits,
    occasion: Occasion,
) -> Result<Option<Document>, Refusal> {
    expect(current, update)?;
    if update.delete {
        let missing = || Refusal::new(Code::SHADOW_NOT_FOUND, "the device has no shadow to delete");
        return current.map(|_| None).ok_or_else(missing);
    }
    let old =
        current.cloned().unwrap_or(Document { incarnation: occasion.incarnation, ..Document::default() });
    let section = |old: &Option<Section>, patch: Option<&str>| match patch {
        None => Ok(old.clone()),
        Some("null") => Ok(None),
        Some(patch) => patched(old.as_ref(), patch, limits, occasion.time).map(Some),
    };
    let new = Document {
        incarnation: old.incarnation,
        version: old.version + 1,
        time: occasion.time,
        desired: section(&old.desired, update.desired)?,
        reported: section(&old.reported, update.reported)?,
    };
    // Who has more than a limit that was lowered may still make it less.
    if new.bytes() > limits.bytes && new.bytes() > old.bytes() {
        let message = format!("the state would have {} bytes, {} are allowed", new.bytes(), limits.bytes);
        return Err(Refusal::new(Code::SHADOW_TOO_LARGE, message));
    }
    Ok(Some(new))
}

fn expect(current: Option<&Document>, update: &Update<'_>) -> Result<(), Refusal> {
    let (version, incarnation) = current.map_or((0, 0), |document| (document.version, document.incarnation));
    let expected = update.expected;
    if expected.incarnation.is_some_and(|expected| expected != incarnation) {
        let message = match current {
            Some(_) => format!("the shadow is incarnation {incarnation}: it was deleted and made anew"),
            None => "the device has no shadow".to_owned(),
        };
        return Err(Refusal::new(Code::SHADOW_CONFLICT, message));
    }
    if let Some(expected) = expected.version.filter(|expected| *expected != version) {
        let message = format!("the update expects version {expected}, the shadow has version {version}");
        return Err(Refusal::new(Code::SHADOW_CONFLICT, message));
    }
    Ok(())
}

fn patched(old: Option<&Section>, patch: &str, limits: &Limits, time: u64) -> Result<Section, Refusal> {
    let bad = |error: JsonError| Refusal::new(Code::SHADOW_BAD_UPDATE, error.to_string());
    let levels = depth(patch);
    if levels > limits.depth {
        let message = format!("the update has {levels} levels, {} are allowed", limits.depth);
        return Err(Refusal::new(Code::SHADOW_TOO_DEEP, message));
    }
    let state = merge_patch(old.map(|old| &*old.state), patch).map_err(bad)?;
    let mut times = String::new();
    stamp(old.map(|old| &*old.times), &state, patch, time, &mut times).map_err(bad)?;
    Ok(Section { state, times })
}

/// How deeply a valid JSON text nests.
fn depth(text: &str) -> usize {
    let (mut open, mut most, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                open += 1;
                most = most.max(open);
            }
            b'}' | b']' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    most
}

impl Document {
    /// The state's size in bytes.
    pub fn bytes(&self) -> usize {
        [&self.desired, &self.reported].into_iter().flatten().map(|section| section.state.len()).sum()
    }

    /// The desired fields that differ from what is reported; `None` if there are none.
    pub fn delta(&self) -> Option<String> {
        let state = |section: &'_ Option<Section>| section.as_ref().map(|section| section.state.clone());
        let (desired, reported) = (state(&self.desired), state(&self.reported));
        delta::delta(desired.as_deref(), reported.as_deref()).ok().flatten()
    }

    /// The document as it is published.
    pub fn to_json(&self) -> String {
        let mut out = String::with_capacity(2 * self.bytes() + 128);
        let mut object = ObjectWriter::begin(&mut out);
        self.write(&mut object);
        object.end();
        out
    }

    /// Its fields.
    pub(super) fn write(&self, object: &mut ObjectWriter<'_>) {
        let sections = || {
            let both = [("desired", &self.desired), ("reported", &self.reported)];
            both.into_iter().filter_map(|(name, section)| Some((name, section.as_ref()?)))
        };
        object.number("incarnation", self.incarnation);
        object.number("version", self.version).number("timestamp", self.time);
        let mut state = ObjectWriter::begin(object.key("state"));
        sections().for_each(|(name, section)| _ = state.raw(name, &section.state));
        state.end();
        let mut times = ObjectWriter::begin(object.key("timestamps"));
        sections().for_each(|(name, section)| _ = times.raw(name, &section.times));
        times.end();
    }

    /// Reads what [`to_json`](Document::to_json) wrote; `None` if it is something else.
    pub fn read(text: &str) -> Option<Document> {
        let mut document = Document::default();
        let fields = members(text).ok()??;
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
        let number = |name: &str| Scanner::new(field(name)?).number().ok();
        document.incarnation = number("incarnation")?;
        document.version = number("version")?;
        document.time = number("timestamp")?;
        let (state, times) = (members(field("state")?).ok()??, members(field("timestamps")?).ok()??);
        let section = |name: &str| {
            let of = |list: &anabranch_protocol::json::Members<'_>| {
                list.iter().find(|(key, _)| key == name).map(|(_, text)| (*text).to_owned())
            };
            Some(Section { state: of(&state)?, times: of(&times)? })
        };
        document.desired = section("desired");
        document.reported = section("reported");
        Some(document)
    }
}
