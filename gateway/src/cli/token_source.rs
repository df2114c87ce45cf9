//! The token of a command: where it is, and whether there is another one when the gateway asks.

use anabranch::TokenWhy;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Where the token is.
pub(super) enum TokenSource {
    Text(String),
    File(PathBuf),
}

impl TokenSource {
    /// The token that is there now. An error says what is wrong and where.
    pub(super) fn read(&self) -> Result<String, String> {
        let text = match self {
            TokenSource::Text(text) => text.clone(),
            TokenSource::File(file) => std::fs::read_to_string(file)
                .map_err(|error| format!("cannot read the token in {}: {error}", file.display()))?,
        };
        match text.trim() {
            "" => Err(format!("{self} is empty, and should hold a token")),
            token => Ok(token.to_owned()),
        }
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenSource::Text(_) => f.write_str("the variable ANABRANCH_TOKEN"),
            TokenSource::File(file) => write!(f, "the file {}", file.display()),
        }
    }
}

/// Answers the client's requests for tokens. Clones are the same.
#[derive(Clone)]
pub(super) struct Tokens {
    shared: Arc<Shared>,
}

struct Shared {
    source: TokenSource,
    last: Mutex<Option<String>>,
    /// Whether the source had nothing but what it had before, when it was asked last.
    spent: watch::Sender<bool>,
}

impl Tokens {
    pub(super) fn new(source: TokenSource) -> Tokens {
        Tokens {
            shared: Arc::new(Shared { source, last: Mutex::default(), spent: watch::Sender::new(false) }),
        }
    }

    /// The token, unless the same one was given before and another is needed.
    pub(super) fn answer(&self, why: TokenWhy) -> Result<String, String> {
        let token = self.shared.source.read();
        let mut last = self.shared.last.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match token {
            Ok(token) if why != TokenWhy::First && last.as_ref() == Some(&token) => {
                Err(format!("{} has no other token than before", self.shared.source))
            }
            Ok(token) => {
                *last = Some(token.clone());
                Ok(token)
            }
            Err(error) => Err(error),
        };
        self.shared.spent.send_replace(answer.is_err());
        answer
    }

    /// Follows whether the source has run out of tokens.
    pub(super) fn spent(&self) -> watch::Receiver<bool> {
        self.shared.spent.subscribe()
    }
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.source.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_given_twice_only_if_no_other_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "one\n").unwrap();
        let tokens = Tokens::new(TokenSource::File(file.clone()));
        let spent = tokens.spent();
        assert_eq!(tokens.answer(TokenWhy::First).unwrap(), "one");
        assert_eq!(tokens.answer(TokenWhy::First).unwrap(), "one");
        assert!(tokens.answer(TokenWhy::Rejected).unwrap_err().contains("no other token"));
        assert!(*spent.borrow());
        std::fs::write(&file, "two\n").unwrap();
        assert_eq!(tokens.answer(TokenWhy::Expiring).unwrap(), "two");
        assert!(!*spent.borrow());
        std::fs::write(&file, " \n").unwrap();
        assert!(tokens.answer(TokenWhy::Expiring).unwrap_err().contains("is empty"));
    }
}
