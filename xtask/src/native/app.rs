//! An app that has nothing but clients, and says how much of it lies in RAM: before the first client, with one that is live on one subscription, with a
//! hundred subscriptions more, and with further clients. `cargo xtask native` builds it as an app is shipped, and `anabranch-loadtest client` runs it
//! against a gateway.
//!
//! A line for each: clients, subscriptions, bytes that are resident, and of these such as stand in no file (heap, stacks, changed data).

use anabranch::store::SqliteStore;
use anabranch::{Client, RootCertStore, Subscription};
use std::env::var;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Long enough for all but the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The memory counts as settled when it has not moved for so many looks, this far apart.
const LOOKS: usize = 4;
const LOOK: Duration = Duration::from_millis(250);

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let count = |name| -> Result<u32> { Ok(var(name)?.parse()?) };
    let (subscriptions, clients) = (count("SUBSCRIPTIONS")?, count("CLIENTS")?);
    tell(0, 0).await?;
    let (first, own) = client(0).await?;
    tell(1, 1).await?;

    let mut opened = vec![own];
    for number in 0..subscriptions {
        opened.push(first.subscribe(&format!("iotsphere/devices/d{number:07}/shadow/#")).open()?);
    }
    // Asked for after them, so that whoever has this confirm has them too.
    first.publish("iotsphere/devices/d0000000/telemetry/temperature").payload_text("21.5").send().await?;
    tell(1, 1 + subscriptions).await?;

    let mut others = Vec::new();
    for number in 0..clients {
        others.push(client(number + 1).await?);
    }
    tell(1 + clients, 1 + subscriptions + clients).await
}

/// One that is live on one subscription. With `CERTIFICATE`, it trusts that alone and has a store.
async fn client(number: u32) -> Result<(Client, Subscription)> {
    let mut builder = Client::builder(var("URL")?).token(var("TOKEN")?);
    if let Ok(certificate) = var("CERTIFICATE").map(PathBuf::from) {
        let mut roots = RootCertStore::empty();
        roots.add(std::fs::read(&certificate)?.into())?;
        let folder = certificate.parent().unwrap_or(Path::new("."));
        let store = SqliteStore::open(folder.join(format!("{number}.db")), "user")?;
        builder = builder.tls_roots(roots).store(store);
    }
    let client = builder.build()?;
    let subscription = client.subscribe("iotsphere/system/status").open()?;
    client.connect();
    client.wait_live(PATIENCE).await?;
    Ok((client, subscription))
}

/// Says what this process has in RAM once that no longer moves.
async fn tell(clients: u32, subscriptions: u32) -> Result<()> {
    let (mut last, mut same) = (memory()?, 0);
    while same < LOOKS {
        tokio::time::sleep(LOOK).await;
        let now = memory()?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    println!("{clients} {subscriptions} {} {}", last.0, last.1);
    Ok(())
}

/// Exact, other than `VmRSS`, which the kernel adds up in batches.
fn memory() -> Result<(u64, u64)> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup")?;
    let bytes = |name: &str| -> Result<u64> {
        let line =
            rollup.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in smaps_rollup")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    };
    Ok((bytes("Rss:")?, bytes("Anonymous:")?))
}
