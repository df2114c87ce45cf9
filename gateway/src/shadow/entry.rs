//! What a document's record says beside the document, in `metadata.shadow`: its place in the device's chain of documents, which
//! inputs it answers, and how.

use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::{Offset, Partition};
use anabranch_protocol::json::{ObjectWriter, Scanner, members};

/// One link of a device's chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Grows with each record of the chain. Of two records with the same step, the one that stands first in the log counts.
    pub step: u64,
    /// Of a chain that begins: up to where its proposer knows nothing of the log. A chain that stands behind that goes on.
    pub begins: Option<Applied>,
    pub incarnation: u64,
    pub version: u64,
    /// Up to which offsets the device's inputs are answered.
    pub applied: Applied,
    /// Whether the delta is another than at the step before.
    pub delta: bool,
    /// How inputs were answered that are so at this step, and were not at the one before.
    pub settled: Vec<Settled>,
}

/// Offsets by partition; few.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied(Vec<(Partition, Offset)>);

/// An input's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The input's `messageId`.
    pub id: String,
    /// The shadow's version then; of a refused one, the version that stayed. 0 if there is no shadow.
    pub version: u64,
    pub refused: Option<(Code, String)>,
}

impl Applied {
    pub fn get(&self, partition: Partition) -> Offset {
        self.0.iter().find(|(of, _)| *of == partition).map_or(Offset(0), |(_, offset)| *offset)
    }

    /// Moves forward, never back.
    pub fn advance(&mut self, partition: Partition, to: Offset) {
        match self.0.iter_mut().find(|(of, _)| *of == partition) {
            Some((_, offset)) => *offset = to.max(*offset),
            None => self.0.push((partition, to)),
        }
    }

    fn write(&self, out: &mut String) {
        let mut object = ObjectWriter::begin(out);
        for (partition, offset) in &self.0 {
            object.plain(&partition.to_string(), offset);
        }
        object.end();
    }

    fn read(text: &str) -> Option<Applied> {
        let mut read = Applied::default();
        for (partition, offset) in members(text).ok()?? {
            let offset = Scanner::new(offset).string().ok()?.parse().ok()?;
            read.advance(partition.parse().ok()?, Offset(offset));
        }
        Some(read)
    }

    /// Takes back what lies behind a place: it stands no more.
    pub fn clamp(&mut self, to: impl Fn(Partition) -> Offset) {
        self.0.iter_mut().for_each(|(partition, offset)| *offset = to(*partition).min(*offset));
    }
}

impl Entry {
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        let mut object = ObjectWriter::begin(&mut out);
        object.number("step", self.step);
        object.number("incarnation", self.incarnation).number("version", self.version);
        if let Some(unknown) = &self.begins {
            unknown.write(object.key("begins"));
        }
        if !self.applied.0.is_empty() {
            self.applied.write(object.key("applied"));
        }
        if self.delta {
            object.boolean("delta", true);
        }
        if !self.settled.is_empty() {
            let list = object.key("settled");
            for (at, settled) in self.settled.iter().enumerate() {
                list.push(if at == 0 { '[' } else { ',' });
                let mut item = ObjectWriter::begin(list);
                item.string("id", &settled.id).number("version", settled.version);
                if let Some((code, message)) = &settled.refused {
                    item.number("code", u64::from(code.0)).string("message", message);
                }
                item.end();
            }
            list.push(']');
        }
        object.end();
        out
    }

    /// `None` if it is something else.
    pub fn read(text: &str) -> Option<Entry> {
        let mut entry = Entry::default();
        let (mut step, mut incarnation, mut version) = (None, None, None);
        for (key, value) in members(text).ok()?? {
            let mut scanner = Scanner::new(value);
            match &*key {
                "step" => step = Some(scanner.number().ok()?),
                "incarnation" => incarnation = Some(scanner.number().ok()?),
                "version" => version = Some(scanner.number().ok()?),
                "delta" => entry.delta = scanner.boolean().ok()?,
                "begins" => entry.begins = Some(Applied::read(value)?),
                "applied" => entry.applied = Applied::read(value)?,
                "settled" => {
                    scanner.enter_array().ok()?;
                    while scanner.next_item().ok()? {
                        entry.settled.push(Settled::read(scanner.raw().ok()?)?);
                    }
                }
                _ => {}
            }
        }
        (entry.step, entry.incarnation, entry.version) = (step?, incarnation?, version?);
        Some(entry)
    }
}

impl Settled {
    fn read(text: &str) -> Option<Settled> {
        let mut settled = Settled { id: String::new(), version: 0, refused: None };
        let (mut code, mut message) = (None, String::new());
        for (key, value) in members(text).ok()?? {
            let mut scanner = Scanner::new(value);
            match &*key {
                "id" => settled.id = scanner.string().ok()?.into_owned(),
                "version" => settled.version = scanner.number().ok()?,
                "code" => code = Some(Code(u16::try_from(scanner.number().ok()?).ok()?)),
                "message" => message = scanner.string().ok()?.into_owned(),
                _ => {}
            }
        }
        settled.refused = code.map(|code| (code, message));
        Some(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut applied = Applied::default();
        applied.advance(3, Offset(u64::MAX));
        applied.advance(0, Offset(7));
        let refused = Some((Code::SHADOW_CONFLICT, "not \"so\"".to_owned()));
        let entry = Entry {
            step: 9,
            incarnation: 1_700_000_000_000,
            version: 4,
            begins: Some(applied.clone()),
            applied,
            delta: true,
            settled: vec![
                Settled { id: "a".into(), version: 4, refused: None },
                Settled { id: "b\n".into(), version: 4, refused },
            ],
        };
        assert_eq!(Entry::read(&entry.to_json()), Some(entry));
        let least = Entry { step: 1, ..Entry::default() };
        assert_eq!(Entry::read(&least.to_json()), Some(least));
        for other in ["null", "{}", "{\"step\":1}", "{\"step\":-1,\"incarnation\":1,\"version\":1}"] {
            assert_eq!(Entry::read(other), None, "{other}");
        }
    }
}
