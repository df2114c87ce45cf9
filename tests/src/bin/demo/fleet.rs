//! Simulated devices, all on one connection: they measure nothing, and say so. Each says every few seconds who it is and how busy it claims to be, has a
//! shadow, and takes its time to obey it.

use crate::tokens::Minter;
use anabranch::{Client, Event, Message};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often a device speaks until it is told otherwise, ms.
const INTERVAL_MS: u64 = 4000;
const INTERVALS_MS: std::ops::RangeInclusive<u64> = 250..=60_000;
/// How long a device takes to obey, ms: long enough to be seen pending.
const OBEYS_WITHIN_MS: std::ops::Range<u64> = 700..2000;
/// How long its tokens live.
const TOKENS: Duration = Duration::from_secs(1800);
/// Most messages that wait for their confirm. Beyond, what is due is left out: the next says as much.
const ON_THEIR_WAY: usize = 512;
/// The finest that their times are kept.
const TICK: Duration = Duration::from_millis(50);
/// What the real device has, and these have not.
const UNSUPPORTED: [&str; 4] = ["memory", "disk", "network", "temperature"];

struct Device {
    interval_ms: u64,
    cpu: bool,
    load: f64,
    reading: u64,
    speaks_at: Instant,
    obeys_at: Option<Instant>,
    desired: Value,
    reported: Value,
}

/// Runs until the client cannot go on.
pub async fn run(url: String, minter: Minter, count: usize) {
    let provider = move |_| {
        let token = minter.device(TOKENS);
        async move { Ok::<_, std::convert::Infallible>(token) }
    };
    let client = Client::builder(url.as_str()).token_provider(provider).client_id("simulated-fleet").build();
    let result = match client {
        Ok(client) => speak(&client, count).await,
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = result {
        eprintln!("the simulated devices have ended: {error}");
    }
}

async fn speak(client: &Client, count: usize) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(1);
    let mut fleet: HashMap<String, Device> =
        (1..=count).map(|number| (format!("sim-{number:03}"), Device::new(&mut random))).collect();
    let documents = client.subscribe("iotsphere/devices/+/shadow/document").open();
    let mut documents = documents.map_err(|error| error.to_string())?;
    client.connect();
    let mut sending = JoinSet::new();
    let mut ticks = tokio::time::interval(TICK);
    let mut is_known = false;
    loop {
        tokio::select! {
            event = documents.next() => match event {
                Some(Event::Message(message)) => {
                    let device = id(message.topic()).and_then(|id| fleet.get_mut(id));
                    if let Some(device) = device {
                        device.take(&message, &mut random);
                    }
                }
                Some(Event::Live) => is_known = true,
                Some(Event::Closed(why)) => return Err(format!("{why:?}")),
                Some(_) => {}
                None => return Ok(()),
            },
            Some(_) = sending.join_next() => {}
            now = ticks.tick(), if is_known => {
                for (id, device) in &mut fleet {
                    for (leaf, payload) in device.says(now, &mut random) {
                        if sending.len() < ON_THEIR_WAY {
                            sending.spawn(send(client.clone(), format!("iotsphere/devices/{id}/{leaf}"), payload));
                        }
                    }
                }
            }
        }
    }
}

fn id(topic: &str) -> Option<&str> {
    topic.split('/').nth(2)
}

/// What is not confirmed is said again by the next: nothing is made of it.
async fn send(client: Client, topic: String, payload: Value) {
    if let Ok(publish) = client.publish(&topic).json(&payload) {
        let _ = publish.send().await;
    }
}

impl Device {
    fn new(random: &mut StdRng) -> Device {
        let now = Instant::now();
        Device {
            interval_ms: INTERVAL_MS,
            cpu: true,
            load: random.random_range(5.0..60.0),
            reading: 0,
            // Spread out, so that they do not all speak at once.
            speaks_at: now + Duration::from_millis(random.random_range(0..INTERVAL_MS)),
            obeys_at: Some(now),
            desired: json!({}),
            reported: json!({}),
        }
    }

    fn take(&mut self, document: &Message, random: &mut StdRng) {
        let Ok(document) = document.json::<Value>() else { return };
        self.reported = document["state"]["reported"].clone();
        if self.desired != document["state"]["desired"] {
            self.desired = document["state"]["desired"].clone();
            self.obeys_at =
                Some(Instant::now() + Duration::from_millis(random.random_range(OBEYS_WITHIN_MS)));
        }
    }

    /// What is due now, by the last levels of its topic.
    fn says(&mut self, now: Instant, random: &mut StdRng) -> Vec<(&'static str, Value)> {
        let mut says = Vec::new();
        if self.obeys_at.is_some_and(|at| at <= now) {
            self.obeys_at = None;
            says.extend(self.report().map(|patch| ("shadow/reported", patch)));
        }
        if self.speaks_at <= now {
            self.speaks_at = now + Duration::from_millis(self.interval_ms);
            self.reading += 1;
            self.load = (self.load + random.random_range(-6.0..6.0)).clamp(0.0, 100.0);
            let load = (self.load * 10.0).round() / 10.0;
            let status = json!({
                "host": "simulated", "simulated": true, "agent": "the demo's launcher", "reading": self.reading, "load": load,
            });
            says.push(("telemetry/status", status));
            if self.cpu {
                says.push(("telemetry/cpu", json!({ "total": load })));
            }
        }
        says
    }

    /// Obeys, and makes the patch of what is reported; `None` if all of it is known.
    fn report(&mut self) -> Option<Value> {
        let mut refused = Map::new();
        match &self.desired["intervalMs"] {
            Value::Null => {}
            value => match value.as_u64().filter(|interval| INTERVALS_MS.contains(interval)) {
                Some(interval) => self.interval_ms = interval,
                None => {
                    let (least, most) = INTERVALS_MS.into_inner();
                    let why = format!("must be a whole number from {least} to {most}");
                    refused.insert("/intervalMs".to_owned(), Value::from(why));
                }
            },
        }
        self.cpu = self.desired["metrics"]["cpu"].as_bool().unwrap_or(self.cpu);
        for metric in UNSUPPORTED.iter().filter(|metric| self.desired["metrics"][**metric] == true) {
            refused.insert(format!("/metrics/{metric}"), Value::from("a simulated device does not have it"));
        }
        let before = self.reported["refused"].as_object().cloned().unwrap_or_default();
        let state = json!({
            "intervalMs": self.interval_ms, "metrics": { "cpu": self.cpu }, "unsupported": UNSUPPORTED,
        });
        let is_known = state.as_object()?.iter().all(|(key, value)| self.reported[key] == *value);
        if is_known && before == refused {
            return None;
        }
        for gone in before.keys().filter(|field| !refused.contains_key(*field)).cloned().collect::<Vec<_>>() {
            refused.insert(gone, Value::Null);
        }
        let mut patch = state;
        patch["refused"] = Value::Object(refused);
        Some(patch)
    }
}
