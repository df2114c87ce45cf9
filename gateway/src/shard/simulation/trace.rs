//! What happened, line by line.

use std::cell::RefCell;
use std::rc::Rc;

/// Shared by all who have something to say. Without a reader, nobody says anything.
#[derive(Clone)]
pub struct Trace(Rc<Inner>);

struct Inner {
    mode: Mode,
    lines: RefCell<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Silent,
    Kept,
    /// On the standard output, as it happens.
    Shown,
}

impl Trace {
    pub fn new(mode: Mode) -> Trace {
        Trace(Rc::new(Inner { mode, lines: RefCell::default() }))
    }

    pub fn line(&self, text: impl FnOnce() -> String) {
        match self.0.mode {
            Mode::Silent => {}
            Mode::Kept => self.0.lines.borrow_mut().push(text()),
            Mode::Shown => println!("{}", text()),
        }
    }

    pub fn take(&self) -> Vec<String> {
        self.0.lines.take()
    }
}
