//! A client with a store on disk, to be killed at any moment. It says what it does on its output, a line for each thing, written at once:
//! `got N` before it asks for the next message, `said K` when its store has message K of its own.

use anabranch::store::SqliteStore;
use anabranch::{Client, Event, Start};
use std::io::Write;

#[derive(clap::Parser)]
struct Arguments {
    url: String,
    token: String,
    /// The file of the store.
    store: std::path::PathBuf,
    /// The number of the first message that it says itself.
    next: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { url, token, store, next } = clap::Parser::parse();
    let client = Client::builder(url).token(token).store(SqliteStore::open(store, "u")?).build()?;
    let mut heard = client.subscribe("heard/#").from(Start::Earliest).keep_as("heard").open()?;
    client.connect();
    let hearing = async {
        while let Some(event) = heard.next().await {
            match event {
                Event::Message(message) => say(&format!("got {}\n", message.payload_text())),
                Event::Gap(gap) => say(&format!("gap {gap:?}\n")),
                _ => {}
            }
        }
    };
    let saying = async {
        for number in next.. {
            let queued =
                client.publish("said").message_id(format!("said-{number}")).json(&number)?.queue().await?;
            say(&format!("said {number}\n"));
            // No more than one in flight is no torture: every third waits for its confirm.
            if number % 3 == 0 {
                queued.confirmed().await?;
            }
        }
        Ok::<(), Box<dyn std::error::Error>>(())
    };
    tokio::select! {
        () = hearing => {}
        outcome = saying => outcome?,
    }
    Ok(())
}

/// One write: whoever reads sees all of it or nothing, whenever this process is killed.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: then this process is about to end.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}
