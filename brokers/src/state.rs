//! What a server's folder says about it, so that other processes find it: one `name=value` a line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[derive(Default)]
pub(crate) struct State(BTreeMap<String, String>);

impl State {
    pub(crate) fn set(mut self, name: &str, value: impl ToString) -> State {
        self.0.insert(name.to_string(), value.to_string());
        self
    }

    pub(crate) fn get<T: FromStr>(&self, name: &str) -> Option<T> {
        self.0.get(name)?.parse().ok()
    }

    /// None when there is no such file.
    pub(crate) fn read(folder: &Path) -> Option<State> {
        let text = fs::read_to_string(path(folder)).ok()?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Some(State(pairs.map(|(name, value)| (name.to_string(), value.to_string())).collect()))
    }

    /// Replaces the file in one step: a reader sees the old one or the new one.
    pub(crate) fn write(&self, folder: &Path) -> std::io::Result<()> {
        let text: String = self.0.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let draft = folder.join("state.new");
        fs::write(&draft, text)?;
        fs::rename(draft, path(folder))
    }

    pub(crate) fn remove(folder: &Path) {
        // It may never have been written.
        let _ = fs::remove_file(path(folder));
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("state")
}
