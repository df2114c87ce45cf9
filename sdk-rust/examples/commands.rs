//! Asks a device to do something, and watches how far that has come. The device is the example `device`.
//!
//! ```sh
//! cargo run -p anabranch --example commands -- d1 blink '{"times": 3}'
//! ```

use anabranch::{Client, CommandError};
use serde_json::Value;
use std::env;
use std::error::Error;
use std::time::Duration;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (url, token) = (env::var("ANABRANCH_URL")?, env::var("ANABRANCH_TOKEN")?);
    let mut words = env::args().skip(1);
    let device = words.next().unwrap_or_else(|| "d1".into());
    let name = words.next().unwrap_or_else(|| "blink".into());
    let arguments: Value = serde_json::from_str(&words.next().unwrap_or_else(|| "null".into()))?;

    let client = Client::builder(url).token(token).build()?;
    // Answers come to `dev`, whom the token of `serve --dev` speaks for: nobody else needs to read them.
    let commands = client.commands("iotsphere", "dev")?;
    client.connect();

    // The device may begin it within 20 seconds, and does it once or not at all, whatever is killed meanwhile.
    let mut job = commands.send(&device, &name, &arguments, Duration::from_secs(20))?;
    while let Some(step) = job.next_progress().await {
        println!("{step:?}");
    }
    // The same as a result. Of errors it is known whether the device may have done it.
    match job.reply::<Value>().await {
        Ok(result) => println!("result {result}"),
        Err(CommandError::Failed(why)) => println!("the device says: {why}"),
        Err(error) => println!("{error} (it may have been done: {})", error.could_have_happened()),
    }
    client.close().await;
    Ok(())
}
