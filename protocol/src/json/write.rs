//! Writes JSON text piece by piece.

use super::plain;
use alloc::string::String;

/// Appends a JSON string, escaped: the shortest JSON text that there is for it.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    loop {
        let (as_it_is, escaped) = rest.split_at(plain::prefix(rest.as_bytes()));
        out.push_str(as_it_is);
        let Some(byte) = escaped.bytes().next() else { break };
        write_escape(out, byte);
        rest = &escaped[1..];
    }
    out.push('"');
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_escape(out: &mut String, byte: u8) {
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        0x08 => out.push_str("\\b"),
        0x0c => out.push_str("\\f"),
        _ => {
            out.push_str("\\u00");
            out.push(HEX[usize::from(byte >> 4)] as char);
            out.push(HEX[usize::from(byte & 15)] as char);
        }
    }
}

/// Appends a whole number. What `write!` brings along for it weighs 2 KiB of gzip in a browser.
pub fn write_number(out: &mut String, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    for (place, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + (number % 10) as u8;
        first = place;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    push_ascii(out, &digits[first..]);
}

/// Appends digits at once: each by itself would look whether there is room.
fn push_ascii(out: &mut String, digits: &[u8]) {
    if let Ok(digits) = core::str::from_utf8(digits) {
        out.push_str(digits);
    }
}

/// Appends a number as so many hexadecimal digits.
pub(crate) fn write_hexadecimal<const DIGITS: usize>(out: &mut String, number: u64) {
    let mut digits = [0; DIGITS];
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = HEX[(number >> (4 * place)) as usize & 15];
    }
    push_ascii(out, &digits);
}

/// What has a text that needs no escapes: a cursor, a position, an offset.
pub trait Plain {
    /// Appends it.
    fn write_to(&self, out: &mut String);

    /// Its text alone.
    fn text(&self) -> String {
        let mut out = String::new();
        self.write_to(&mut out);
        out
    }
}

impl<P: Plain> Plain for &P {
    fn write_to(&self, out: &mut String) {
        (*self).write_to(out);
    }
}

/// Appends one object to a text, field by field. The object is closed by [`end`](ObjectWriter::end).
pub struct ObjectWriter<'o> {
    out: &'o mut String,
    first: bool,
}

impl<'o> ObjectWriter<'o> {
    /// Opens an object.
    pub fn begin(out: &'o mut String) -> ObjectWriter<'o> {
        out.push('{');
        ObjectWriter { out, first: true }
    }

    /// Writes a key that needs no escapes; the value is to be appended to what is returned.
    pub fn key(&mut self, key: &str) -> &mut String {
        debug_assert_eq!(plain::prefix(key.as_bytes()), key.len());
        let out = self.next();
        out.push('"');
        out.push_str(key);
        out.push_str("\":");
        out
    }

    fn next(&mut self) -> &mut String {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.out
    }

    /// A string field.
    pub fn string(&mut self, key: &str, value: &str) -> &mut Self {
        write_string(self.key(key), value);
        self
    }

    /// A string field whose text needs no escapes: a cursor, a position, an offset.
    pub fn plain(&mut self, key: &str, value: impl Plain) -> &mut Self {
        let out = self.key(key);
        out.push('"');
        value.write_to(out);
        out.push('"');
        self
    }

    /// A number field.
    pub fn number(&mut self, key: &str, value: u64) -> &mut Self {
        write_number(self.key(key), value);
        self
    }

    /// A field of `true` or `false`.
    pub fn boolean(&mut self, key: &str, value: bool) -> &mut Self {
        self.key(key).push_str(if value { "true" } else { "false" });
        self
    }

    /// A field whose value is JSON already.
    pub fn raw(&mut self, key: &str, json: &str) -> &mut Self {
        self.key(key).push_str(json);
        self
    }

    /// A field whose key somebody else chose, and whose value is JSON already.
    pub fn member(&mut self, key: &str, json: &str) -> &mut Self {
        let out = self.next();
        write_string(out, key);
        out.push(':');
        out.push_str(json);
        self
    }

    /// Closes the object.
    pub fn end(&mut self) {
        self.out.push('}');
    }
}
