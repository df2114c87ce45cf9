//! A configuration file, taken apart into settings that know their lines.

use super::mistake::{Mistake, Place};
use super::value::{Raw, Setting};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What a file says, by keys such as `limits.connections` and `auth.keys.0.file`.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) settings: BTreeMap<String, Setting>,
    /// Every table, empty ones included.
    pub(super) tables: BTreeMap<String, Place>,
}

impl File {
    /// Takes in TOML. Goes on behind each mistake, as far as the syntax lets it.
    pub(super) fn read(path: &str, text: &str, mistakes: &mut Vec<Mistake>) -> File {
        let lines = Lines { path: path.into(), text };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let place = lines.place(error.span().unwrap_or(0..0));
            mistakes.push(Mistake { place, text: error.message().to_owned() });
        }
        let mut file = File::default();
        file.take_table("", table.into_inner(), &lines, mistakes);
        file
    }

    fn take_table(
        &mut self,
        prefix: &str,
        table: DeTable<'_>,
        lines: &Lines<'_>,
        mistakes: &mut Vec<Mistake>,
    ) {
        for (name, value) in table {
            let place = lines.place(name.span());
            if name.get_ref().contains('.') {
                let text = format!("the name {:?} must not contain a dot", name.get_ref());
                mistakes.push(Mistake { place, text });
                continue;
            }
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            self.take_value(key, place, value, lines, mistakes);
        }
    }

    fn take_value(
        &mut self,
        key: String,
        place: Place,
        value: Spanned<DeValue<'_>>,
        lines: &Lines<'_>,
        mistakes: &mut Vec<Mistake>,
    ) {
        match value.into_inner() {
            DeValue::Table(table) => {
                self.take_table(&key, table, lines, mistakes);
                self.tables.insert(key, place);
            }
            DeValue::Array(items)
                if !items.is_empty() && items.iter().all(|item| item.get_ref().is_table()) =>
            {
                for (index, item) in items.into_iter().enumerate() {
                    let place = lines.place(item.span());
                    self.take_value(format!("{key}.{index}"), place, item, lines, mistakes);
                }
            }
            value => {
                let raw = plain(value, lines);
                self.settings.insert(key, Setting { raw, place });
            }
        }
    }
}

fn plain(value: DeValue<'_>, lines: &Lines<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Whole(number),
            Err(_) => Raw::Other("a number that is too large"),
        },
        DeValue::Float(_) => Raw::Other("a fraction"),
        DeValue::Boolean(on) => Raw::Switch(on),
        DeValue::Datetime(_) => Raw::Other("a date"),
        DeValue::Table(_) => Raw::Other("a table"),
        DeValue::Array(items) => Raw::List(
            items
                .into_iter()
                .map(|item| {
                    let place = lines.place(item.span());
                    Setting { raw: plain(item.into_inner(), lines), place }
                })
                .collect(),
        ),
    }
}

struct Lines<'a> {
    path: Arc<str>,
    text: &'a str,
}

impl Lines<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.as_bytes().iter().take(span.start);
        Place::File { path: self.path.clone(), line: 1 + before.filter(|byte| **byte == b'\n').count() }
    }
}
