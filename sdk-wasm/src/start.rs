//! Reads where a subscription shall begin.

use anabranch_protocol::json::{JsonError, Scanner};
use anabranch_sdk_core::Start;

/// The start that `{"cursor"}`, `{"from"}` or `{"sinceMs"}` means; from now if there is none.
///
/// What cannot be understood was meant as something: it begins anew, which the app is told as a reset.
pub(crate) fn parse(json: &str) -> Start {
    if json.is_empty() || json == "null" {
        return Start::Now;
    }
    scan(json).unwrap_or(Start::Anew)
}

fn scan(json: &str) -> Result<Start, JsonError> {
    let mut scanner = Scanner::new(json);
    let mut start = Start::Now;
    scanner.enter_object()?;
    while let Some(key) = scanner.next_key()? {
        start = match &*key {
            "cursor" => scanner.string()?.parse().map_or(Start::Anew, Start::After),
            "sinceMs" => Start::Since(scanner.number()?),
            "from" if scanner.string()? == "earliest" => Start::Earliest,
            "from" => Start::Now,
            _ => {
                scanner.raw()?;
                continue;
            }
        };
    }
    Ok(start)
}
