//! A device that does commands, to be killed at any moment. What it does, it writes down where whoever killed it can count it.

use anabranch::Client;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Parser)]
struct Arguments {
    url: String,
    token: String,
    /// The device's name.
    name: String,
    /// The file in which it remembers commands.
    journal: PathBuf,
    /// The file to which it adds the number of each command that it does, a line each.
    done: PathBuf,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { url, token, name, journal, done } = clap::Parser::parse();
    let client = Client::builder(url).token(token).build()?;
    client.connect();
    let done = OpenOptions::new().create(true).append(true).open(done)?;
    let handler = |request: anabranch::Request| {
        let done = &done;
        async move {
            let number: Value = request.json().map_err(|error| error.to_string())?;
            let number = number.as_u64().ok_or("no number")?;
            // One write: it was done wholly or not at all, whenever this process is killed.
            let mut done = done;
            done.write_all(format!("{number}\n").as_bytes()).map_err(|error| error.to_string())?;
            // A place at which it may be killed: done, and not answered.
            tokio::task::yield_now().await;
            if number % 10 == 3 { Err("not today".into()) } else { Ok(json!({ "did": number })) }
        }
    };
    client.serve_commands("iotsphere", &name).journal(journal).run(handler).await?;
    Ok(())
}
