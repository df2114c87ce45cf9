//! Bytes that must not be seen.

use std::fmt;

/// A key or a token. Its `Debug` shows nothing of it, it has no `Display`, and it is not serialized.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(bytes.into().into_boxed_slice())
    }

    /// From the content of a key file or a variable. If it is text, one line break at the end is not part of the secret:
    /// editors and `echo` put it there.
    pub fn from_file(content: Vec<u8>) -> Secret {
        let mut content = content;
        if std::str::from_utf8(&content).is_ok() && content.pop_if(|last| *last == b'\n').is_some() {
            content.pop_if(|last| *last == b'\r');
        }
        Secret::new(content)
    }

    /// The bytes themselves. Whoever calls this answers for where they go.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let shown = format!("{:?} {:#?}", Secret::new("hunter2"), Some(Secret::new("hunter2")));
        assert!(!shown.contains("hunter") && !shown.contains("104"), "{shown}");
    }

    #[test]
    fn one_line_break_is_not_part_of_a_text() {
        for (content, secret) in [
            ("key\n", &b"key"[..]),
            ("key\r\n", b"key"),
            ("key\n\n", b"key\n"),
            ("key\r", b"key\r"),
            ("key", b"key"),
        ] {
            assert_eq!(Secret::from_file(content.into()).reveal(), secret, "{content:?}");
        }
        assert_eq!(
            Secret::from_file(vec![0xff, b'\n']).reveal(),
            [0xff, b'\n'],
            "binary keys are taken as they are"
        );
    }
}
