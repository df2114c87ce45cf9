//! Reads where a subscription shall begin, with which newest values, and how often it wants them.

use anabranch_protocol::client_frame::SnapshotMode;
use anabranch_protocol::json::{JsonError, Scanner};
use anabranch_sdk_core::{Start, Wish};

/// The start that `{"cursor"}`, `{"from"}` or `{"sinceMs"}` means, from now if there is none; and the mode that `"snapshot"`
/// names, none if there is none; and the time that `"conflateMs"` gives.
///
/// What cannot be understood was meant as something: it begins anew, which the app is told as a reset.
pub(crate) fn parse(json: &str) -> (Start, Wish) {
    if json.is_empty() || json == "null" {
        return (Start::Now, Wish::default());
    }
    scan(json).unwrap_or((Start::Anew, SnapshotMode::IfNew.into()))
}

fn scan(json: &str) -> Result<(Start, Wish), JsonError> {
    let mut scanner = Scanner::new(json);
    let (mut start, mut wish) = (Start::Now, Wish::default());
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        start = match &*key {
            "cursor" => scanner.string()?.parse().map_or(Start::Anew, Start::After),
            "sinceMs" => Start::Since(scanner.number()?),
            "from" if scanner.string()? == "earliest" => Start::Earliest,
            "from" => Start::Now,
            "snapshot" => {
                let name = scanner.string()?;
                wish.snapshot = SnapshotMode::ALL
                    .into_iter()
                    .find(|mode| mode.name() == name)
                    .unwrap_or(SnapshotMode::IfNew);
                continue;
            }
            "conflateMs" => {
                wish.conflate_ms = scanner.number()?;
                continue;
            }
            _ => {
                scanner.raw()?;
                continue;
            }
        };
    }
    Ok((start, wish))
}
