//! A validating scanner over JSON text (RFC 8259): pulls values one by one, never builds a tree.

use super::plain;
use crate::limits::JSON_DEPTH;
use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;
use core::ops::Range;

/// What is wrong with a text, and at which byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonError {
    pub at: usize,
    pub what: &'static str,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl core::error::Error for JsonError {}

type Scan<T> = Result<T, JsonError>;

/// A place in a JSON text. Each method takes one value (or one key) and moves on.
///
/// An object is read as: [`enter_object`](Scanner::enter_object), then [`next_key`](Scanner::next_key) and the key's
/// value in turn until there is no further key. Arrays likewise, with [`next_item`](Scanner::next_item).
#[derive(Clone)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Whether the container just entered has had no element yet.
    fresh: bool,
    /// Containers entered and not left: they count towards the depth of what is in them.
    open: usize,
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning of a text.
    pub fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0, fresh: false, open: 0 }
    }

    /// Starts a text that will stand inside `levels` containers of another: it may nest that much less deeply.
    pub fn inside(levels: usize, text: &'a str) -> Scanner<'a> {
        Scanner { open: levels, ..Scanner::new(text) }
    }

    /// The byte at which the scanner stands, for error messages.
    pub fn at(&self) -> usize {
        self.at
    }

    /// An error at this place.
    pub fn error(&self, what: &'static str) -> JsonError {
        JsonError { at: self.at, what }
    }

    /// Requires that nothing but blanks is left.
    pub fn end(&mut self) -> Scan<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("expected the end")),
        }
    }

    /// Steps into an object.
    pub fn enter_object(&mut self) -> Scan<()> {
        self.enter(b'{', "expected an object")
    }

    /// The next key of the object, its colon consumed; `None` after the closing brace.
    pub fn next_key(&mut self) -> Scan<Option<Cow<'a, str>>> {
        if !self.next_element(b'}')? {
            return Ok(None);
        }
        let key = self.string()?;
        self.take(b':', "expected a colon")?;
        Ok(Some(key))
    }

    /// Steps into an array.
    pub fn enter_array(&mut self) -> Scan<()> {
        self.enter(b'[', "expected an array")
    }

    /// Whether the array has a further item, which is then the next value.
    pub fn next_item(&mut self) -> Scan<bool> {
        self.next_element(b']')
    }

    fn enter(&mut self, bracket: u8, what: &'static str) -> Scan<()> {
        self.take(bracket, what)?;
        if self.open == JSON_DEPTH {
            return Err(self.error("nested too deeply"));
        }
        self.open += 1;
        self.fresh = true;
        Ok(())
    }

    fn next_element(&mut self, close: u8) -> Scan<bool> {
        let fresh = core::mem::replace(&mut self.fresh, false);
        match self.peek() {
            Some(b) if b == close => {
                self.at += 1;
                self.open = self.open.saturating_sub(1);
                Ok(false)
            }
            Some(b',') if !fresh => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if fresh => Ok(true),
            _ => Err(self.error("expected a comma or the container's end")),
        }
    }

    /// The string at a path of keys; `None` if there is no such key. What follows it is not looked at.
    pub fn find_string(&mut self, path: &[&str]) -> Scan<Option<Cow<'a, str>>> {
        let Some((wanted, inner)) = path.split_first() else { return self.string().map(Some) };
        self.enter_object()?;
        while let Some(key) = self.next_key()? {
            if key == *wanted {
                return self.find_string(inner);
            }
            self.raw()?;
        }
        Ok(None)
    }

    /// A string with its escapes resolved; borrowed when it has none.
    pub fn string(&mut self) -> Scan<Cow<'a, str>> {
        let (start, escaped) = self.skip_string()?;
        let inner = part(self.text, start + 1..self.at - 1);
        if !escaped {
            return Ok(Cow::Borrowed(inner));
        }
        unescape(inner).map(Cow::Owned).ok_or(JsonError { at: start, what: "lone surrogate in a string" })
    }

    /// A whole number from 0 to 2^53, beyond which other languages' numbers lose digits.
    pub fn number(&mut self) -> Scan<u64> {
        let start = self.at;
        let raw = self.raw()?;
        let plain = raw.bytes().all(|b| b.is_ascii_digit());
        match raw.parse() {
            Ok(n) if plain && n <= 1 << 53 => Ok(n),
            _ => Err(JsonError { at: start, what: "expected a whole number from 0 to 2^53" }),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self) -> Scan<bool> {
        let start = self.at;
        match self.raw()? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(JsonError { at: start, what: "expected true or false" }),
        }
    }

    /// Any value, as its text. It is checked to be valid JSON, nested at most [`JSON_DEPTH`] deep together with the
    /// containers it stands in, and not otherwise read.
    pub fn raw(&mut self) -> Scan<&'a str> {
        self.peek();
        let start = self.at;
        // One bit for each open container: 1 for an object, 0 for an array. No recursion, so no stack to exhaust.
        let (mut kinds, mut depth) = (0u64, 0usize);
        loop {
            match self.peek().ok_or_else(|| self.error("expected a value"))? {
                open @ (b'{' | b'[') => {
                    if self.open + depth == JSON_DEPTH {
                        return Err(self.error("nested too deeply"));
                    }
                    self.at += 1;
                    kinds = kinds << 1 | u64::from(open == b'{');
                    depth += 1;
                    let close = if open == b'{' { b'}' } else { b']' };
                    if self.peek() == Some(close) {
                        self.at += 1;
                        kinds >>= 1;
                        depth -= 1;
                    } else {
                        if open == b'{' {
                            self.skip_key()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.skip_string()?;
                }
                b'-' | b'0'..=b'9' => self.skip_number()?,
                b't' => self.skip_word("true")?,
                b'f' => self.skip_word("false")?,
                b'n' => self.skip_word("null")?,
                _ => return Err(self.error("expected a value")),
            }
            // A value has ended: close what ends with it.
            loop {
                if depth == 0 {
                    return Ok(part(self.text, start..self.at));
                }
                let object = kinds & 1 == 1;
                match (self.peek(), object) {
                    (Some(b','), _) => {
                        self.at += 1;
                        if object {
                            self.skip_key()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.at += 1;
                        kinds >>= 1;
                        depth -= 1;
                    }
                    _ => return Err(self.error("expected a comma or the container's end")),
                }
            }
        }
    }

    /// The next byte that is not blank; stays before it.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b) = bytes.get(self.at) {
            match b {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                other => return Some(*other),
            }
        }
        None
    }

    fn take(&mut self, byte: u8, what: &'static str) -> Scan<()> {
        if self.peek() != Some(byte) {
            return Err(self.error(what));
        }
        self.at += 1;
        Ok(())
    }

    fn skip_key(&mut self) -> Scan<()> {
        self.skip_string()?;
        self.take(b':', "expected a colon")
    }

    /// Passes a string; returns where it began and whether it has escapes.
    fn skip_string(&mut self) -> Scan<(usize, bool)> {
        self.take(b'"', "expected a string")?;
        let start = self.at - 1;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            self.at += plain::prefix(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok((start, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    match bytes.get(self.at) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') => {
                            let digits = bytes.get(self.at + 1..self.at + 5);
                            if !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)) {
                                return Err(self.error("bad escape in a string"));
                            }
                            self.at += 5;
                        }
                        _ => return Err(self.error("bad escape in a string")),
                    }
                }
                Some(_) => return Err(self.error("control character in a string")),
                None => return Err(self.error("unfinished string")),
            }
        }
    }

    fn skip_number(&mut self) -> Scan<()> {
        let bytes = self.text.as_bytes();
        let digits = |at: &mut usize| {
            let start = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at - start
        };
        let mut at = self.at;
        at += usize::from(bytes[at] == b'-');
        let leading_zero = bytes.get(at) == Some(&b'0');
        let whole = digits(&mut at);
        let mut good = whole > 0 && (whole == 1 || !leading_zero);
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            good &= digits(&mut at) > 0;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            good &= digits(&mut at) > 0;
        }
        if !good {
            return Err(self.error("bad number"));
        }
        self.at = at;
        Ok(())
    }

    fn skip_word(&mut self, word: &'static str) -> Scan<()> {
        if !part(self.text, self.at..self.text.len()).starts_with(word) {
            return Err(self.error("expected a value"));
        }
        self.at += word.len();
        Ok(())
    }
}

/// A part of a text whose ends stand where the scanner has seen ASCII, so it always exists. Indexing would say the same, with
/// a panic at each place that the browser's core would have to carry.
fn part(text: &str, range: Range<usize>) -> &str {
    text.get(range).unwrap_or_default()
}

/// Whether a JSON text has half a surrogate pair somewhere, as `"\ud800"`.
///
/// JSON's grammar allows it, and browsers take it; but it is no text (RFC 7493, section 2.1), and most other readers refuse the
/// whole document. Two looks at a text without `\u`.
pub fn has_lone_surrogate(text: &str) -> bool {
    let Some(first) = text.find('\\') else { return false };
    if !text.contains("\\u") {
        return false;
    }
    let bytes = text.as_bytes();
    let unit = |at: usize| {
        let escape = bytes.get(at..at + 6).filter(|escape| escape.starts_with(b"\\u"))?;
        u16::from_str_radix(core::str::from_utf8(&escape[2..]).ok()?, 16).ok()
    };
    let mut at = first;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match unit(at) {
            None => at += 2,
            Some(0xD800..=0xDBFF) if matches!(unit(at + 6), Some(0xDC00..=0xDFFF)) => at += 12,
            Some(0xD800..=0xDFFF) => return true,
            Some(_) => at += 6,
        }
    }
    false
}

/// Resolves the escapes of a string that [`Scanner::skip_string`] has accepted. `None` for a lone surrogate.
fn unescape(inner: &str) -> Option<String> {
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(part(rest, 0..at));
        let escape = *rest.as_bytes().get(at + 1)?;
        let mut used = 2;
        out.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = unit(rest, at)?;
                used = 6;
                match high {
                    0xD800..=0xDBFF => {
                        let low = unit(rest, at + 6).filter(|low| (0xDC00..=0xDFFF).contains(low))?;
                        used = 12;
                        char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))?
                    }
                    unit => char::from_u32(unit)?,
                }
            }
            plain => plain as char,
        });
        rest = part(rest, at + used..rest.len());
    }
    out.push_str(rest);
    Some(out)
}

/// The UTF-16 unit of the escape, `\u` and four hexadecimal digits, that begins at `at`.
fn unit(text: &str, at: usize) -> Option<u32> {
    let escape = text.get(at..at + 6)?;
    u32::from_str_radix(escape.strip_prefix("\\u")?, 16).ok()
}
