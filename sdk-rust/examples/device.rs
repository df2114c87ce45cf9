//! A device: it reports, obeys what is desired of it, and does commands, each once. The examples `shadow` and `commands` are the other side.
//!
//! ```sh
//! cargo run -p anabranch --example device -- d1
//! ```

use anabranch::shadow::Shadow;
use anabranch::{Client, Serving};
use serde_json::{Value, json};
use std::env;
use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (url, token) = (env::var("ANABRANCH_URL")?, env::var("ANABRANCH_TOKEN")?);
    let name = env::args().nth(1).unwrap_or_else(|| "d1".into());

    let client = Client::builder(url).token(token).client_id(&*name).build()?;
    let shadow = client.shadow(&name).open()?;
    // The journal remembers what was begun, so that a restart does nothing twice, and takes up what came meanwhile.
    let serving = client.serve_commands("iotsphere", &name).journal(format!("{name}.journal")).open()?;
    client.connect();
    shadow.report(&json!({ "fan": { "rpm": 0 } })).await?;
    println!("{name} is there");
    tokio::try_join!(obey(&shadow), serve(serving))?;
    Ok(())
}

/// Does what is desired and not yet so, and reports it.
async fn obey(shadow: &Shadow) -> Result<(), Box<dyn Error>> {
    let mut views = shadow.views();
    while let Some(view) = views.next().await {
        // Only the fields that differ: a device that was away for a week finds here all that is left to do.
        let Some(wanted) = view.delta() else { continue };
        println!("obeys {wanted}");
        let done: Value = serde_json::from_str(wanted)?;
        shadow.report(&done).await?;
    }
    Ok(())
}

/// Takes one command, does it, answers, takes the next.
async fn serve(mut serving: Serving) -> Result<(), Box<dyn Error>> {
    while let Some(request) = serving.next_request().await? {
        println!("{} asks for {} {}", request.source, request.name, request.arguments);
        let outcome = match &*request.name {
            "blink" => Ok(json!({ "blinked": true })),
            other => Err(format!("this device cannot {other}")),
        };
        serving.answer(outcome)?;
    }
    Ok(())
}
