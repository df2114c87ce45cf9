//! The loop: measure, report, obey.

use crate::identity::DeviceId;
use crate::metrics::Sampler;
use crate::outbox::Outbox;
use crate::shadow::{Metric, Obeyed, Shadow};
use anabranch::{Client, Event, Message, Start};
use serde_json::Value;
use std::error::Error;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};

/// How often the whole `reported` document is published though nothing changed: who joins later than the log's memory
/// sees it too.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Runs until `stop` ends.
///
/// # Errors
/// When the gateway refuses the device's shadow for good.
pub async fn run(
    client: &Client,
    device: &DeviceId,
    mut sampler: Sampler,
    mut shadow: Shadow,
    stop: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    let mut documents = client.subscribe(&device.shadow()).from(Start::Earliest).open()?;
    let mut states = client.states();
    let mut outbox = Outbox::new(client);
    let mut sampling = interval(Duration::from_millis(shadow.settings().interval_ms));
    let mut reporting = interval(REPORT_EVERY);
    // Until the log's past is read, neither our version nor what we are told to do is known.
    let mut caught_up = false;
    client.connect();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = outbox.settle() => {}
            Some(state) = states.next() => tracing::info!(phase = state.phase.name(), "the connection"),
            event = documents.next() => match event {
                Some(Event::Message(message)) => {
                    let Some(obeyed) = take(&mut shadow, device, &message, caught_up) else { continue };
                    tracing::info!(?obeyed, desired = message.payload_text(), "told what to do");
                    let every = Duration::from_millis(shadow.settings().interval_ms);
                    if sampling.period() != every {
                        sampling = interval(every);
                    }
                    if caught_up && obeyed != Obeyed::Ignored {
                        outbox.report(device.reported(), shadow.report(&sampler.unsupported()));
                    }
                }
                Some(Event::Live) => {
                    // After a reconnect too: what was reported meanwhile may have been lost with the log.
                    caught_up = true;
                    reporting.reset_immediately();
                }
                Some(Event::Gap(gap)) => tracing::warn!(reason = gap.reason.name(), "wishes may have been missed"),
                Some(Event::Closed(why)) => return Err(format!("the gateway ended the shadow: {why:?}").into()),
                Some(_) => {}
                None => return Err("the shadow's subscription ended".into()),
            },
            _ = reporting.tick(), if caught_up => outbox.report(device.reported(), shadow.report(&sampler.unsupported())),
            _ = sampling.tick() => {
                for metric in Metric::ALL.into_iter().filter(|metric| shadow.settings().is_on(*metric)) {
                    if let Some(payload) = sampler.read(metric) {
                        outbox.sample(device.telemetry(metric), payload);
                    }
                }
            }
        }
    }
}

/// Takes in one shadow document. What we reported ourselves matters only before we have caught up: from an earlier life.
fn take(shadow: &mut Shadow, device: &DeviceId, message: &Message, caught_up: bool) -> Option<Obeyed> {
    // What is not JSON cannot come through a gateway; Null is rejected like any other wrong document.
    let document: Value = message.json().unwrap_or(Value::Null);
    if message.topic() == device.desired() {
        return Some(shadow.obey(&document));
    }
    if message.topic() == device.reported() && !caught_up {
        shadow.recall(&document);
    }
    None
}

/// Begins one period from now. A tick that was missed (the machine slept) is not made up for.
fn interval(every: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}
