//! Values as they are written, and what they are taken for.

use super::mistake::Place;
use anabranch_protocol::filter::Filter;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// A value as it was written.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    Text(String),
    Whole(i64),
    List(Vec<Setting>),
    Switch(bool),
    /// A kind of value that no setting takes, by its name.
    Other(&'static str),
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) raw: Raw,
    pub(super) place: Place,
}

impl Raw {
    fn kind(&self) -> &'static str {
        match self {
            Raw::Text(_) => "a text",
            Raw::Whole(_) => "a number",
            Raw::List(_) => "a list",
            Raw::Switch(_) => "true or false",
            Raw::Other(kind) => kind,
        }
    }
}

type Taken<T> = Result<T, String>;

/// Any text but an empty one.
pub(super) fn text(raw: &Raw) -> Taken<String> {
    match raw {
        Raw::Text(text) if text.is_empty() => Err("it must not be empty".to_owned()),
        Raw::Text(text) => Ok(text.clone()),
        other => Err(format!("expected a text, found {}", other.kind())),
    }
}

/// Whatever its type reads from a text. The error must not be a secret's text.
pub(super) fn parsed<T: FromStr<Err: Display>>(raw: &Raw) -> Taken<T> {
    text(raw)?.parse().map_err(|error: T::Err| error.to_string())
}

/// A whole number within bounds.
pub(super) fn whole(bounds: RangeInclusive<usize>) -> impl Fn(&Raw) -> Taken<usize> {
    move |raw| {
        let number = match raw {
            Raw::Whole(number) => usize::try_from(*number).ok(),
            Raw::Text(text) => text.parse().ok(),
            other => return Err(format!("expected a number, found {}", other.kind())),
        };
        let expected = || format!("expected a whole number from {} to {}", bounds.start(), bounds.end());
        number.filter(|number| bounds.contains(number)).ok_or_else(expected)
    }
}

/// `true` or `false`; in the file, without quotes.
pub(super) fn switch(raw: &Raw) -> Taken<bool> {
    match raw {
        Raw::Switch(on) => Ok(*on),
        Raw::Text(text) if text == "true" || text == "yes" => Ok(true),
        Raw::Text(text) if text == "false" || text == "no" => Ok(false),
        other => Err(format!("expected true or false, found {}", other.kind())),
    }
}

/// A size in bytes within bounds: `4096`, `64KiB`, `10 MiB`, `1GiB`.
pub(super) fn size(bounds: RangeInclusive<u64>) -> impl Fn(&Raw) -> Taken<u64> {
    const UNITS: [(&str, u64); 5] =
        [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("", 1)];
    move |raw| {
        let bytes = match raw {
            Raw::Whole(number) => u64::try_from(*number).ok(),
            Raw::Text(text) => with_unit(text, &UNITS),
            other => return Err(format!("expected a size, found {}", other.kind())),
        };
        let expected = || {
            let (low, high) = (show_size(*bounds.start()), show_size(*bounds.end()));
            format!("expected a size from {low} to {high}, such as 4096, 64KiB, 10MiB or 1GiB")
        };
        bytes.filter(|bytes| bounds.contains(bytes)).ok_or_else(expected)
    }
}

/// A time within bounds: `500ms`, `30s`, `5m`, `2h`, `7d`.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&Raw) -> Taken<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    move |raw| {
        let duration = match raw {
            Raw::Text(text) => with_unit(text, &UNITS).map(Duration::from_millis),
            // A bare number is seconds to one reader and milliseconds to another.
            Raw::Whole(_) => None,
            other => return Err(format!("expected a time, found {}", other.kind())),
        };
        let expected = || {
            let (low, high) = (bounds.start(), bounds.end());
            format!("expected a time from {low:?} to {high:?} with its unit: 500ms, 30s, 5m, 2h or 7d")
        };
        duration.filter(|duration| bounds.contains(duration)).ok_or_else(expected)
    }
}

/// Reads a time as [`duration`] does, for the command line.
pub(crate) fn duration_text(text: &str) -> Result<Duration, String> {
    duration(Duration::from_secs(1)..=Duration::from_secs(10 * 365 * 24 * 3600))(&Raw::Text(text.to_owned()))
}

/// A topic filter.
pub(super) fn filter(raw: &Raw) -> Taken<Filter> {
    let text = text(raw)?;
    Filter::new(&text).map_err(|error| format!("{text:?} is not a filter: {error}"))
}

/// A whole number, perhaps a blank, and one of the units, the first that fits.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(unit, factor)| {
        let number = text.strip_suffix(unit)?.trim_end();
        // `parse` would take a plus sign.
        let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        number.parse::<u64>().ok().filter(|_| plain)?.checked_mul(*factor)
    })
}

fn show_size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.into_iter().find(|(shift, _)| bytes >> shift > 0 && bytes.trailing_zeros() >= *shift) {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        let size = size(0..=u64::MAX);
        let bytes = |text: &str| size(&Raw::Text(text.to_owned())).ok();
        assert_eq!(bytes("4096"), Some(4096));
        assert_eq!(bytes("64KiB"), Some(65_536));
        assert_eq!(bytes("10 MiB"), Some(10 << 20));
        for bad in ["", "KiB", "-1", "+1", "1.5MiB", "64KB", "1e3", "99999999999TiB"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
        let time = duration(Duration::ZERO..=Duration::MAX);
        let ms = |text: &str| time(&Raw::Text(text.to_owned())).ok().map(|d| d.as_millis());
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("30s"), Some(30_000));
        assert_eq!(ms("7d"), Some(7 * 86_400_000));
        for bad in ["", "30", "s", "-1s", "1.5h", "30 seconds"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn bounds_are_shown_as_people_write_them() {
        let error = size(1024..=3 << 30)(&Raw::Whole(1)).unwrap_err();
        assert!(error.contains("from 1KiB to 3GiB"), "{error}");
        assert_eq!(show_size(1025), "1025");
    }
}
