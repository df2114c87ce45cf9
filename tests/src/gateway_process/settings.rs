//! The configuration of a gateway of the tests.

use crate::tokens::{AUDIENCE, ISSUER, SECRET};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// Settings by their dotted names, with values as TOML.
#[derive(Clone, Debug)]
pub struct Settings {
    values: BTreeMap<String, String>,
    log_filter: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { values: BTreeMap::new(), log_filter: "info".into() }
    }
}

impl Settings {
    /// Sets one: `set("limits.subscriptions", "10")`.
    pub fn set(mut self, name: &str, value: &str) -> Settings {
        self.values.insert(name.into(), value.into());
        self
    }

    /// What it logs, as in `ANABRANCH_LOG_LEVEL`.
    pub fn logging(mut self, filter: &str) -> Settings {
        self.log_filter = filter.into();
        self
    }

    pub(super) fn log_filter(&self) -> &str {
        &self.log_filter
    }

    /// The configuration file's text. The key goes into a file of its own.
    pub(super) fn toml(&self, address: SocketAddr, folder: &Path) -> String {
        let key = folder.join("key");
        std::fs::write(&key, SECRET).expect("the key");
        let mut values = BTreeMap::from(
            [
                ("listen", format!("{:?}", address.to_string())),
                ("log", format!("\"file:{}?fsync=none\"", folder.join("log").display())),
                ("auth.audience", format!("{AUDIENCE:?}")),
                ("auth.issuer", format!("{ISSUER:?}")),
                ("auth.keys", format!("[{{ algorithm = \"HS256\", file = {key:?} }}]")),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        values.extend(self.values.clone());
        let mut text = String::new();
        for (name, value) in values {
            let _ = writeln!(text, "{name} = {value}");
        }
        text
    }
}
