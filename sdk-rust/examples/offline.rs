//! A notebook that works without a connection: what is said, and how far it was read, lie in a file until the gateway is there.
//!
//! ```sh
//! cargo run -p anabranch --features sqlite --example offline -- write 'buy milk'    # needs no gateway
//! cargo run -p anabranch --features sqlite --example offline -- read                # Ctrl-C ends it
//! ```

use anabranch::store::SqliteStore;
use anabranch::{Client, Event, Start};
use std::env;
use std::error::Error;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (url, token) = (env::var("ANABRANCH_URL")?, env::var("ANABRANCH_TOKEN")?);
    // One file for each user, and one process at a time.
    let store = SqliteStore::open("notes.db", "me")?;
    let client = Client::builder(url).token(token).store(store).build()?;

    if let Some(note) = env::args().skip_while(|word| word != "write").nth(1) {
        // Returns when the file has it. It is published by whichever process connects next, within a day.
        let day = Duration::from_secs(24 * 3600);
        client.publish("notes/mine").json(&note)?.time_to_live(day).queue().await?;
        println!("kept, with {} in all that wait", client.outbox().len());
        client.close().await;
        return Ok(());
    }

    for waiting in client.outbox() {
        println!("waits: {}", waiting.topic);
    }
    // A subscription that is kept begins where the app stood, in this process or in an earlier one.
    let mut notes = client.subscribe("notes/#").from(Start::Earliest).keep_as("notes").open()?;
    // Connecting is all it takes: what waits is published, each once.
    client.connect();
    loop {
        tokio::select! {
            event = notes.next() => match event {
                Some(Event::Message(message)) => println!("note: {}", message.json::<String>()?),
                Some(_) => {}
                None => break,
            },
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // Returns when the store has how far the notes were read.
    drop(notes);
    client.close().await;
    println!("closed");
    Ok(())
}
