//! What is published on a filter, as it comes, and how the next run goes on where this one stood.
//!
//! ```sh
//! cargo run -p anabranch --example subscribe -- 'hello/#'
//! cargo run -p anabranch --example subscribe -- 'hello/#' CURSOR     # one that an earlier run has printed
//! ```

use anabranch::{Client, Event, Start};
use std::env;
use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // What `anabranch serve --dev` prints.
    let (url, token) = (env::var("ANABRANCH_URL")?, env::var("ANABRANCH_TOKEN")?);
    let filter = env::args().nth(1).unwrap_or_else(|| "#".into());
    // A cursor says how far an app has come. It is text, good on every node of the gateway, and does not age.
    let start = match env::args().nth(2) {
        Some(cursor) => Start::After(cursor.parse()?),
        None => Start::Earliest,
    };

    let client = Client::builder(url).token(token).build()?;
    let mut events = client.subscribe(&filter).from(start).open()?;
    // From here on the connection is kept up, whatever happens to it. Nothing below changes when it is lost.
    client.connect();

    while let Some(event) = events.next().await {
        match event {
            Event::Message(message) => println!("{} {}", message.topic(), message.payload_text()),
            // The log has forgotten these, and this app has not seen them. It is always told before the next message.
            Event::Gap(gap) => println!("missing: {} to {}: {}", gap.after, gap.before, gap.reason.name()),
            Event::Live => println!("up to date"),
            // The gateway does not grant the filter, or no longer. Nothing follows.
            Event::Closed(why) => println!("closed: {why:?}"),
            other => println!("{other:?}"),
        }
        // Covers everything before the event in hand: that one, when the next is asked for.
        if let Some(cursor) = events.cursor() {
            println!("cursor {cursor}");
        }
    }
    Ok(())
}
