//! What a client asks of a shadow.

use super::topics::Kind;
use anabranch_protocol::code::Code;
use anabranch_protocol::json::{Members, Scanner, members};
use std::borrow::Cow;

/// A change of a shadow. The sections are merge patches, or `null` to remove the section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Update<'a> {
    pub desired: Option<&'a str>,
    pub reported: Option<&'a str>,
    pub expected: Expected,
    pub delete: bool,
}

/// What the shadow must be for the update to count. A shadow that does not exist has version 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub version: Option<u64>,
    pub incarnation: Option<u64>,
}

/// Why an update does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

fn bad(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::SHADOW_BAD_UPDATE, message)
}

impl<'a> Update<'a> {
    /// Reads what was published on an input topic.
    ///
    /// # Errors
    /// [`Code::SHADOW_BAD_UPDATE`], with what is wrong.
    pub fn read(kind: Kind, payload: &'a str) -> Result<Update<'a>, Refusal> {
        let mut update = Update::default();
        match kind {
            Kind::Desired => update.desired = Some(section("the payload", payload)?),
            Kind::Reported => update.reported = Some(section("the payload", payload)?),
            Kind::Delete => {
                update.delete = true;
                update.expected = Expected::read(&object(payload)?.unwrap_or_default())?;
            }
            Kind::Update => {
                let fields = object(payload)?.ok_or_else(|| {
                    bad("the payload must be an object: {\"state\":{\"desired\":{…},\"reported\":{…}}}")
                })?;
                let (_, state) =
                    fields.iter().find(|(key, _)| key == "state").ok_or_else(|| bad("state is missing"))?;
                for (key, value) in object(state)?.ok_or_else(|| bad("state must be an object"))? {
                    match &*key {
                        "desired" => update.desired = Some(section("state.desired", value)?),
                        "reported" => update.reported = Some(section("state.reported", value)?),
                        _ => return Err(bad("state has desired and reported, and nothing else")),
                    }
                }
                if update.desired.is_none() && update.reported.is_none() {
                    return Err(bad("state has neither desired nor reported"));
                }
                update.expected = Expected::read(&fields)?;
            }
            Kind::Get => {}
        }
        Ok(update)
    }
}

impl Expected {
    fn read(fields: &Members<'_>) -> Result<Expected, Refusal> {
        let number = |name: &str| {
            let Some((_, text)) = fields.iter().find(|(key, _)| key == name) else { return Ok(None) };
            let number = Scanner::new(text).number();
            number.map(Some).map_err(|_| bad(format!("{name} must be a whole number from 0 to 2^53")))
        };
        Ok(Expected { version: number("version")?, incarnation: number("incarnation")? })
    }
}

fn object(text: &str) -> Result<Option<Members<'_>>, Refusal> {
    members(text).map_err(|error| bad(error.to_string()))
}

/// A patch of one section: an object, or `null`.
fn section<'a>(name: &str, text: &'a str) -> Result<&'a str, Refusal> {
    let text = text.trim_ascii();
    if text == "null" || text.starts_with('{') {
        return Ok(text);
    }
    Err(bad(format!("{name} must be an object, a merge patch of the state, or null, which removes it")))
}
