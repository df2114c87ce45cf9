//! An app's native part, as small as one can be that uses all of the client. `cargo xtask native` builds it to weigh it; nobody runs it.

use anabranch::store::SqliteStore;
use anabranch::{Client, Event, Phase, Start};
use serde_json::json;
use std::env::var;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

#[unsafe(no_mangle)]
pub extern "C" fn use_everything() -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    i32::from(runtime.is_ok_and(|runtime| runtime.block_on(everything()).is_ok()))
}

async fn everything() -> Result<(), Box<dyn Error>> {
    let store = SqliteStore::open(var("STORE")?, &var("USER")?)?;
    let client = Client::builder(var("URL")?).token(var("TOKEN")?).store(store).build()?;
    client.connect();
    client.wake();
    client.wait_live(Duration::from_secs(5)).await?;

    let mut events =
        client.subscribe(&var("FILTER")?).from(Start::Earliest).keep_as("all").max_hz(4.0).open()?;
    while let Some(event) = events.next_event().await {
        match event {
            Event::Message(message) => println!("{} {}", message.topic(), message.payload_text()),
            Event::Gap(gap) => println!("{}", gap.reason.name()),
            _ => {}
        }
    }
    for message in client.cached("#").limit(50).read()? {
        println!("{}", message.topic());
    }

    let queued = client.publish("t").json(&1)?.queue().await?;
    queued.confirmed().await?;
    client.publish("t").payload_text("2").send().await?;
    for waiting in client.outbox() {
        client.retry(&waiting.message_id);
    }

    let shadow = client.shadow("d1").open()?;
    shadow.ready().await;
    let mut change = shadow.set_desired(&json!({ "on": true })).await?;
    change.settled(Duration::from_secs(5)).await;
    shadow.report(&json!({ "on": true })).await?;
    let mut deltas = shadow.deltas();
    while let Some(delta) = deltas.next().await {
        println!("{}", delta.version);
    }

    let commands = client.commands("iotsphere", "me")?;
    let mut job = commands.send("d1", "open", &json!({}), Duration::from_secs(5))?;
    job.ended().await;
    let journal = PathBuf::from(var("JOURNAL")?);
    let mut serving = client.serve_commands("iotsphere", "d1").journal(journal).open()?;
    while let Some(request) = serving.next_request().await? {
        serving.answer(Ok(request.json()?))?;
    }

    let mut states = client.states();
    while let Some(state) = states.next().await {
        println!("{}", state.phase.name());
        if state.phase == Phase::Idle {
            break;
        }
    }
    client.flush().await?;
    client.log_out().await?;
    client.close().await;
    Ok(())
}
