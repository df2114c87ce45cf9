//! Gives each section its settings, and remembers every mistake on the way.

use super::file::File;
use super::mistake::{Mistake, Mistakes, Place};
use super::value::{Raw, Setting};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What begins the names of our environment variables.
const PREFIX: &str = "ANABRANCH_";

/// Variables that are no settings: of the log lines, of the other commands and of this name's other programs, which run in
/// the same shells.
const OTHERS: [&str; 15] = [
    "ANABRANCH_LOG_LEVEL",
    "ANABRANCH_LOG_FORMAT",
    "ANABRANCH_URL",
    "ANABRANCH_TOKEN",
    "ANABRANCH_TOKEN_FILE",
    "ANABRANCH_DEVICE_ID",
    "ANABRANCH_INTERVAL_MS",
    "ANABRANCH_BIN",
    "ANABRANCH_DEMO",
    "ANABRANCH_MQTT_PORT",
    "ANABRANCH_NOT_RUN",
    "ANABRANCH_RABBITMQ",
    "ANABRANCH_RABBITMQ_BIN",
    "ANABRANCH_REDIS",
    "ANABRANCH_REDIS_BIN",
];

/// The settings of all sources. A section asks for its keys, and thereby says which keys there are.
pub(super) struct Reader {
    file: File,
    folder: PathBuf,
    /// The whole environment: a key may be in a variable of any name.
    variables: BTreeMap<String, String>,
    flags: BTreeMap<String, Setting>,
    /// Every key that was asked for.
    known: BTreeSet<String>,
    /// Variables that are named by a setting.
    named: BTreeSet<String>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// `folder` is what relative paths in the file start from.
    pub(super) fn new(file: File, folder: &Path, mistakes: Vec<Mistake>) -> Reader {
        Reader {
            file,
            folder: folder.to_owned(),
            variables: BTreeMap::new(),
            flags: BTreeMap::new(),
            known: BTreeSet::new(),
            named: BTreeSet::new(),
            mistakes,
        }
    }

    /// Takes the environment in. Empty variables count as not set: many tools cannot leave one out.
    pub(super) fn with_variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Reader {
        self.variables.extend(variables.into_iter().filter(|(_, value)| !value.is_empty()));
        self
    }

    /// Takes a flag of the command line in. Of two for the same key, the later holds.
    pub(super) fn flag(&mut self, flag: &str, key: &str, value: Raw) {
        self.flags.insert(key.to_owned(), Setting { raw: value, place: Place::Flag(flag.into()) });
    }

    /// The setting of a key from the source that counts most: flag, then variable, then file.
    pub(super) fn find(&mut self, key: &str) -> Option<Setting> {
        self.known.insert(key.to_owned());
        if let Some(setting) = self.flags.get(key) {
            return Some(setting.clone());
        }
        let name = variable(key);
        if let Some(value) = self.variables.get(&name) {
            return Some(Setting { raw: Raw::Text(value.clone()), place: Place::Variable(name.into()) });
        }
        self.file.settings.get(key).cloned()
    }

    /// Reads a setting, or says what is wrong with it. The default stands in for a bad one, so that reading can go on.
    pub(super) fn read<T>(&mut self, key: &str, default: T, take: impl Fn(&Raw) -> Result<T, String>) -> T {
        self.optional(key, take).unwrap_or(default)
    }

    /// Reads a setting that need not be there.
    pub(super) fn optional<T>(&mut self, key: &str, take: impl Fn(&Raw) -> Result<T, String>) -> Option<T> {
        let setting = self.find(key)?;
        self.take(key, &setting, take)
    }

    /// Reads a list; each bad item is a mistake of its own. Outside the file, items are separated by commas.
    pub(super) fn list<T>(&mut self, key: &str, take: impl Fn(&Raw) -> Result<T, String>) -> Option<Vec<T>> {
        let setting = self.find(key)?;
        let items = match &setting.raw {
            Raw::List(items) => items.clone(),
            Raw::Text(text) if !matches!(setting.place, Place::File { .. }) => {
                let items = text.split(',').map(|item| Raw::Text(item.trim().to_owned()));
                items.map(|raw| Setting { raw, place: setting.place.clone() }).collect()
            }
            _ => {
                self.mistake(setting.place, format!("{key}: expected a list, such as [\"a\", \"b\"]"));
                return None;
            }
        };
        Some(items.iter().filter_map(|item| self.take(key, item, &take)).collect())
    }

    /// Reads a path. A relative one in the file starts from the file's folder, others from where the process runs.
    pub(super) fn path(&mut self, key: &str) -> Option<(PathBuf, Place)> {
        let setting = self.find(key)?;
        let path = self.take(key, &setting, super::value::text)?;
        Some((self.resolve(&path, &setting.place), setting.place))
    }

    /// Where a path leads that was written at a place.
    pub(super) fn resolve(&self, path: &str, place: &Place) -> PathBuf {
        match place {
            Place::File { .. } => self.folder.join(path),
            _ => PathBuf::from(path),
        }
    }

    fn take<T>(
        &mut self,
        key: &str,
        setting: &Setting,
        take: impl Fn(&Raw) -> Result<T, String>,
    ) -> Option<T> {
        match take(&setting.raw) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.mistake(setting.place.clone(), format!("{key}: {problem}"));
                None
            }
        }
    }

    /// The names of the tables below a key, with their places: `viewer` for `[auth.roles.viewer]`.
    pub(super) fn tables(&self, prefix: &str) -> Vec<(String, Place)> {
        let below = |key: &String| {
            let name = key.strip_prefix(prefix)?.strip_prefix('.')?;
            (!name.contains('.')).then(|| name.to_owned())
        };
        self.file.tables.iter().filter_map(|(key, place)| Some((below(key)?, place.clone()))).collect()
    }

    /// The value of a variable that a setting names.
    pub(super) fn variable(&mut self, name: &str) -> Option<String> {
        self.named.insert(name.to_owned());
        self.variables.get(name).cloned()
    }

    /// Whether any source has this setting.
    pub(super) fn is_set(&mut self, key: &str) -> bool {
        self.find(key).is_some()
    }

    pub(super) fn mistake(&mut self, place: Place, text: impl Into<String>) {
        self.mistakes.push(Mistake { place, text: text.into() });
    }

    /// Whether nothing was wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.mistakes.is_empty()
    }

    /// Every key that was asked for so far.
    #[cfg(test)]
    pub(super) fn known(&self) -> &BTreeSet<String> {
        &self.known
    }

    /// Reports what was wrong, when not all sections have been read.
    pub(super) fn finish_section(self) -> Result<(), Mistakes> {
        if self.mistakes.is_empty() { Ok(()) } else { Err(Mistakes(self.mistakes)) }
    }

    /// Reports what nobody asked for, and everything else that was wrong. Call when all sections have been read.
    pub(super) fn finish(mut self) -> Result<(), Mistakes> {
        let mut unknown = Vec::new();
        for (key, setting) in self.file.settings.iter().chain(&self.flags) {
            if !self.known.contains(key) {
                unknown
                    .push(Mistake { place: setting.place.clone(), text: unknown_setting(key, &self.known) });
            }
        }
        let known_variables: BTreeSet<String> = self.known.iter().map(|key| variable(key)).collect();
        for name in self.variables.keys().filter(|name| name.starts_with(PREFIX)) {
            if !known_variables.contains(name) && !self.named.contains(name) && !is_foreign(name) {
                let text = format!("no setting has this variable{}", suggestion(name, &known_variables));
                unknown.push(Mistake { place: Place::Variable(name.as_str().into()), text });
            }
        }
        self.mistakes.extend(unknown);
        self.finish_section()
    }
}

/// `limits.connections` is `ANABRANCH_LIMITS_CONNECTIONS`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

fn unknown_setting(key: &str, known: &BTreeSet<String>) -> String {
    format!("there is no setting {key:?}{}", suggestion(key, known))
}

fn suggestion(name: &str, known: &BTreeSet<String>) -> String {
    let like = known.iter().map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    match like.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, known)) if likeness >= 0.6 => format!("; did you mean {known:?}?"),
        _ => String::new(),
    }
}

/// Whether a variable begins as ours do, and is not.
///
/// Kubernetes gives every container variables about each service of its namespace; for one called `anabranch` or
/// `anabranch-…` they begin as ours do.
fn is_foreign(name: &str) -> bool {
    OTHERS.contains(&name)
        || name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}
