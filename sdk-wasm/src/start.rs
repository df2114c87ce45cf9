//! Reads where a subscription shall begin, and with which newest values.

use anabranch_protocol::client_frame::SnapshotMode;
use anabranch_protocol::json::{JsonError, Scanner};
use anabranch_sdk_core::Start;

/// The start that `{"cursor"}`, `{"from"}` or `{"sinceMs"}` means, from now if there is none; and the mode that `"snapshot"`
/// names, none if there is none.
///
/// What cannot be understood was meant as something: it begins anew, which the app is told as a reset.
pub(crate) fn parse(json: &str) -> (Start, SnapshotMode) {
    if json.is_empty() || json == "null" {
        return (Start::Now, SnapshotMode::None);
    }
    scan(json).unwrap_or((Start::Anew, SnapshotMode::IfNew))
}

fn scan(json: &str) -> Result<(Start, SnapshotMode), JsonError> {
    let mut scanner = Scanner::new(json);
    let (mut start, mut snapshot) = (Start::Now, SnapshotMode::None);
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        start = match &*key {
            "cursor" => scanner.string()?.parse().map_or(Start::Anew, Start::After),
            "sinceMs" => Start::Since(scanner.number()?),
            "from" if scanner.string()? == "earliest" => Start::Earliest,
            "from" => Start::Now,
            "snapshot" => {
                let name = scanner.string()?;
                snapshot = SnapshotMode::ALL
                    .into_iter()
                    .find(|mode| mode.name() == name)
                    .unwrap_or(SnapshotMode::IfNew);
                continue;
            }
            _ => {
                scanner.raw()?;
                continue;
            }
        };
    }
    Ok((start, snapshot))
}
