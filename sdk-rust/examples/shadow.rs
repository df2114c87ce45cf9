//! A device's shadow, from an app's side: what the device says, what is asked of it, and what becomes of that. The other side is the example `device`.
//!
//! ```sh
//! cargo run -p anabranch --example shadow -- d1 1200
//! ```

use anabranch::Client;
use serde_json::json;
use std::env;
use std::error::Error;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (url, token) = (env::var("ANABRANCH_URL")?, env::var("ANABRANCH_TOKEN")?);
    let device = env::args().nth(1).unwrap_or_else(|| "d1".into());
    let rpm: u32 = env::args().nth(2).unwrap_or_else(|| "1200".into()).parse()?;

    let client = Client::builder(url).token(token).build()?;
    client.connect();
    let shadow = client.shadow(&device).open()?;
    // With a store, this is known before there is a connection; `is_live` says which of the two it is.
    let view = shadow.ready().await;
    println!("reported {} (live: {})", view.reported_text(), view.is_live());

    // A merge patch: fields that it does not name stay. It waits for a connection, if there is none.
    let mut change = shadow.set_desired(&json!({ "fan": { "rpm": rpm } })).await?;
    // The view shows it at once, and how far it has come: queued, sent, accepted or rejected.
    println!("desired {}, pending {:?}", shadow.view().desired_text(), shadow.view().pending("/fan/rpm"));

    // Applied when the device reports it; superseded when somebody asks for something else; pending still, if the device is away.
    println!("{:?}", change.settled(Duration::from_secs(30)).await);
    println!("reported {}", shadow.view().reported_text());
    client.close().await;
    Ok(())
}
