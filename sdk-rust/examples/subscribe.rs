//! Prints what happens on a filter: `cargo run -p anabranch --example subscribe -- ws://127.0.0.1:8080 '#' TOKEN`.

use anabranch::{Client, Event, Start};
use std::env;
use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:8080".into());
    let filter = arguments.next().unwrap_or_else(|| "#".into());
    let token = arguments.next().unwrap_or_default();

    let client = Client::builder(url).token(token).client_id("example-subscribe").build()?;
    let mut subscription = client.subscribe(&filter).from(Start::Earliest).open()?;
    client.connect();
    while let Some(event) = subscription.next().await {
        match event {
            Event::Message(message) => println!("{} {}", message.topic(), message.payload_text()),
            other => println!("-- {other:?}"),
        }
        if let Some(cursor) = subscription.cursor() {
            println!("   seen up to {cursor}");
        }
    }
    Ok(())
}
