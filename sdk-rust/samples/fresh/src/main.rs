//! Shows what is published on a filter, until three messages have come.

use anabranch::{Client, Event};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (url, token) = (std::env::var("ANABRANCH_URL")?, std::env::var("ANABRANCH_TOKEN")?);
    let client = Client::builder(url).token(token).build()?;
    client.connect();
    let mut events = client.subscribe("hello/#").open()?;
    let mut messages = 0;
    while let Some(event) = events.next().await {
        match event {
            Event::Live => println!("live"),
            Event::Message(message) => {
                println!("{} {}", message.topic(), message.payload_text());
                messages += 1;
                if messages == 3 {
                    break;
                }
            }
            _ => {}
        }
    }
    client.close().await;
    Ok(())
}
