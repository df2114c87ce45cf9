//! What `publish` and `subscribe` share: which gateway, with which token, and what to say when that does not work.

use super::Failure;
use super::token_source::{TokenSource, Tokens};
use anabranch::{Client, Code, Phase, Remedy, State};
use anabranch_protocol::limits;
use clap::Args;
use std::cell::Cell;
use std::path::PathBuf;

/// Where `serve` listens by default.
const URL: &str = "ws://127.0.0.1:8080/v1/ws";

/// The gateway, and who asks. There is no flag for the token itself: everyone on the machine may read command lines.
#[derive(Args, Debug)]
pub struct ConnectArgs {
    /// The gateway, ws:// or wss:// [variable: ANABRANCH_URL] [default: ws://127.0.0.1:8080/v1/ws]
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// A file with the token; read again whenever a fresh one is needed [variable: ANABRANCH_TOKEN_FILE]. The token itself
    /// may be in the variable ANABRANCH_TOKEN. There is no flag for it: the process list would show it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A client, and what becomes of its connection.
pub(super) struct Link {
    pub(super) client: Client,
    url: String,
    tokens: Tokens,
    reached: Cell<bool>,
}

impl ConnectArgs {
    /// Makes the client; opens nothing yet. Call it inside a tokio runtime.
    pub(super) fn link(&self) -> Result<Link, Failure> {
        let variables = super::variables();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, value)| known == name && !value.is_empty());
            found.map(|(_, value)| value.clone())
        };
        let url = self.url.clone().or_else(|| variable("ANABRANCH_URL")).unwrap_or_else(|| URL.to_owned());
        let source = match (&self.token_file, variable("ANABRANCH_TOKEN"), variable("ANABRANCH_TOKEN_FILE")) {
            (Some(file), _, _) => TokenSource::File(file.clone()),
            (None, Some(token), _) => TokenSource::Text(token),
            (None, None, Some(file)) => TokenSource::File(file.into()),
            (None, None, None) => {
                return Err(Failure::usage(
                    "there is no token: put one into the variable ANABRANCH_TOKEN or name a file with --token-file. \
                     `anabranch serve --dev` prints one, and `anabranch token` makes one",
                ));
            }
        };
        // What is wrong with the file now is a mistake of the command line; later, it may be mended.
        source.read().map_err(Failure::Usage)?;
        let tokens = Tokens::new(source);
        let provider = tokens.clone();
        let mut client_id = format!("anabranch-cli-{}", std::process::id());
        client_id.truncate(limits::CLIENT_ID_BYTES);
        let client = Client::builder(&url)
            .client_id(client_id)
            .token_provider(move |why| {
                let answer = provider.answer(why);
                async move { answer }
            })
            .build()
            .map_err(Failure::usage)?;
        Ok(Link { client, url, tokens, reached: Cell::new(false) })
    }
}

impl Link {
    /// Follows the connection until it is beyond hope: no token that the gateway takes, or told not to come back. Start it
    /// once, and drop it when the command ends.
    pub(super) async fn broken(&self) -> Failure {
        let mut states = self.client.states();
        let mut spent = self.tokens.spent();
        let mut refusal = None;
        let mut asked_in_vain = false;
        loop {
            let state = self.client.state();
            // The last word about the token; what follows it is that there is no other.
            refusal = state.code.filter(|code| code.remedy() == Remedy::Authenticate).or(refusal);
            match state.phase {
                Phase::Syncing | Phase::Live => self.reached.set(true),
                Phase::NeedsAuth => return self.no_token(refusal),
                Phase::Closed => return Failure::refused(format!("told to stop: {}", self.trouble(&state))),
                // While connected, the old token is good for a while, and a fresh one may still come.
                Phase::Connecting | Phase::Offline if asked_in_vain => return self.no_token(refusal),
                _ => {}
            }
            tokio::select! {
                _ = states.next() => asked_in_vain = false,
                _ = spent.changed() => asked_in_vain = *spent.borrow_and_update(),
            }
        }
    }

    fn no_token(&self, code: Option<Code>) -> Failure {
        let why = match code {
            Some(code) => format!("does not accept the token: {}", explain(code)),
            None => "needs a fresh token: the one in use has ended.".to_owned(),
        };
        Failure::refused(format!("{} {why} The token is from {}", self.url, self.tokens))
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether the gateway has welcomed us at least once.
    pub(super) fn reached(&self) -> bool {
        self.reached.get()
    }

    /// Why there is no connection, and what to do about it.
    pub(super) fn trouble(&self, state: &State) -> String {
        if let Some(code) = state.code.filter(|code| (4100..=4599).contains(&code.0)) {
            return format!("{}: {}", self.url, explain(code));
        }
        let trouble = match self.client.last_failure() {
            Some(failure) => format!("{}: {failure}", self.url),
            None => format!("{}: not connected yet", self.url),
        };
        if self.reached() {
            return trouble;
        }
        format!(
            "{trouble}. Is the gateway running there? `anabranch serve --dev` starts one; --url or ANABRANCH_URL names another"
        )
    }
}

/// A code as people and searches want it, and its remedy.
pub(super) fn explain(code: Code) -> String {
    format!("{} {}: {}", code.0, code.name(), code.advice())
}
