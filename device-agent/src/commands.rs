//! What this device can be told to do: measure now, and list the processes that need the most.

use crate::identity::DeviceId;
use crate::metric::Metric;
use crate::metrics::Sampler;
use anabranch::{Client, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, ProcessRefreshKind, ProcessesToUpdate, System};

/// Processes in a list, unless told, and at most.
const LISTED: usize = 10;
const MOST: usize = 100;

/// Serves until the client is closed. Whoever may not serve commands is a device all the same: that is said, and nothing else happens.
pub async fn serve(client: &Client, device: &DeviceId, sampler: Sampler, journal: Option<PathBuf>) {
    let sampler = Arc::new(Mutex::new(sampler));
    let mut serve = client.serve_commands("iotsphere", device.as_str());
    if let Some(file) = journal {
        serve = serve.journal(file);
    }
    let served = serve.run(|request| {
        let sampler = Arc::clone(&sampler);
        async move { obey(request, &sampler).await }
    });
    if let Err(error) = served.await {
        tracing::warn!(%error, "commands are not served");
    }
}

async fn obey(request: Request, sampler: &Mutex<Sampler>) -> Result<Value, String> {
    tracing::info!(name = request.name, source = request.source, id = request.id, "a command");
    match request.name.as_str() {
        "measure" => {
            let mut sampler = sampler.lock().unwrap_or_else(PoisonError::into_inner);
            let read = Metric::ALL
                .into_iter()
                .filter_map(|metric| Some((metric.name().to_owned(), sampler.read(metric)?)));
            Ok(Value::Object(read.collect()))
        }
        "top" => {
            let Top { count } = match request.json::<Option<Top>>() {
                Ok(asked) => asked.unwrap_or_default(),
                Err(error) => return Err(format!("top takes {{\"count\": 1 to {MOST}}}: {error}")),
            };
            top(count.clamp(1, MOST)).await
        }
        other => Err(format!("this device knows the commands measure and top, not {other:?}")),
    }
}

/// The arguments of `top`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Top {
    count: usize,
}

impl Default for Top {
    fn default() -> Top {
        Top { count: LISTED }
    }
}

/// The processes that used the most of the CPU in a moment just now, the busiest first. Names, and no arguments: those may hold secrets.
async fn top(count: usize) -> Result<Value, String> {
    let kind = ProcessRefreshKind::nothing().with_cpu().with_memory();
    let mut system = System::new().map_err(|error| error.to_string())?;
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    tokio::time::sleep(MINIMUM_CPU_UPDATE_INTERVAL).await;
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    let mut all: Vec<_> =
        system.processes().values().filter(|process| process.thread_kind().is_none()).collect();
    all.sort_by(|a, b| b.cpu_usage().total_cmp(&a.cpu_usage()).then(b.memory().cmp(&a.memory())));
    let listed: Vec<Value> = all
        .into_iter()
        .take(count)
        .map(|process| {
            json!({
                "pid": process.pid().as_u32(),
                "name": process.name().to_string_lossy(),
                "cpuPercent": (f64::from(process.cpu_usage()) * 10.0).round() / 10.0,
                "memoryBytes": process.memory(),
            })
        })
        .collect();
    Ok(json!({ "processes": listed }))
}
