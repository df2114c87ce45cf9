//! What the terminal client says beside the messages, on standard error: lines that stay, and on a terminal one at the
//! bottom that changes.

use anabranch::Phase;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// The line at the bottom is drawn anew at most this often.
const PACE: Duration = Duration::from_millis(100);

pub(super) struct Status {
    terminal: bool,
    colour: bool,
    /// The line at the bottom is there now.
    shown: bool,
    drawn: Option<Instant>,
    /// The last line that was said, to say it once.
    last: String,
}

impl Status {
    pub(super) fn new() -> Status {
        let terminal = std::io::stderr().is_terminal();
        Status { terminal, colour: terminal && colours(), shown: false, drawn: None, last: String::new() }
    }

    /// Says something that stays, unless it was the last thing said.
    pub(super) fn say(&mut self, text: String) {
        if text != self.last {
            self.clear();
            write(&format!("{text}\n"));
            self.last = text;
        }
    }

    /// Draws the line at the bottom, if this is a terminal and the last time is long enough ago.
    pub(super) fn draw(&mut self, phase: Phase, messages: u64, cursor: &str) {
        if !self.terminal || self.shown && self.drawn.is_some_and(|drawn| drawn.elapsed() < PACE) {
            return;
        }
        let (on, off) = match (self.colour, phase) {
            (false, _) => ("", ""),
            (true, Phase::Live) => ("\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[33m", "\x1b[0m"),
        };
        // Without wrapping, a long line stays one that can be cleared.
        let plural = if messages == 1 { "" } else { "s" };
        write(&format!(
            "\r\x1b[2K\x1b[?7l{on}{}{off}  {messages} message{plural}  {cursor}\x1b[?7h",
            phase.name()
        ));
        self.shown = true;
        self.drawn = Some(Instant::now());
    }

    /// Takes the line at the bottom away, before anything else is written to the terminal.
    pub(super) fn clear(&mut self) {
        if self.shown {
            write("\r\x1b[2K");
            self.shown = false;
        }
    }
}

/// Whether colours are wanted, as <https://no-color.org> has it.
pub(super) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Nobody may be there to read it, which is no reason to stop.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let _ = stderr.flush();
}
