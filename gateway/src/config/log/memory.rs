//! `memory:`, the log that is gone with its process.

use super::Options;
use crate::config::value::{size, whole};
use crate::log::memory;

/// The options of `memory:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLogConfig {
    /// `records`: most records kept. Default 100,000.
    pub records: usize,
    /// `size`: most bytes of envelopes kept. Default 64MiB.
    pub bytes: u64,
}

impl From<&MemoryLogConfig> for memory::Options {
    fn from(config: &MemoryLogConfig) -> memory::Options {
        let bytes = usize::try_from(config.bytes).unwrap_or(usize::MAX);
        memory::Options { records: config.records, bytes, ..memory::Options::default() }
    }
}

impl Default for MemoryLogConfig {
    fn default() -> Self {
        MemoryLogConfig { records: 100_000, bytes: 64 << 20 }
    }
}

impl MemoryLogConfig {
    pub(super) fn parse(path: &str, options: &mut Options<'_>) -> MemoryLogConfig {
        if !path.is_empty() {
            options.problem("memory: has no path; its options are ?records=…&size=…".to_owned());
        }
        let default = MemoryLogConfig::default();
        MemoryLogConfig {
            records: options.read("records", default.records, whole(1..=100_000_000)),
            bytes: options.read("size", default.bytes, size(1 << 20..=1 << 40)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The manual names the log's defaults, so they must be the log's own.
    #[test]
    fn our_defaults_are_the_logs_defaults() {
        let (ours, theirs) = (memory::Options::from(&MemoryLogConfig::default()), memory::Options::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }
}
