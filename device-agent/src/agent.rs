//! The loop: measure, obey, report.

use crate::identity::DeviceId;
use crate::metric::Metric;
use crate::metrics::Sampler;
use crate::outbox::Outbox;
use crate::shadow::{Shadow, patch};
use anabranch::Client;
use anabranch::shadow::View;
use serde_json::Value;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};

/// How often it looks whether the gateway's document says what the device does, beside each time that the document changes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Runs until `stop` ends.
///
/// # Errors
/// When the gateway refuses the device's shadow for good.
pub async fn run(
    client: &Client,
    device: &DeviceId,
    mut sampler: Sampler,
    shadow: Shadow,
    stop: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    let document = Arc::new(client.shadow(device.as_str()).open()?);
    let mut views = document.views();
    let mut states = client.states();
    let mut outbox = Outbox::new(client, &document);
    let mut sampling = interval(Duration::from_millis(shadow.settings().interval_ms));
    let mut looking = interval(LOOK_EVERY);
    let mut twin = Twin { shadow, is_recalled: false, is_warned: false };
    client.connect();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = outbox.settle() => twin.follow(&document.view(), &mut outbox)?,
            Some(state) = states.next() => tracing::info!(phase = state.phase.name(), "the connection"),
            view = views.next() => {
                let Some(view) = view else { return Err("the shadow ended".into()) };
                twin.follow(&view, &mut outbox)?;
                let every = Duration::from_millis(twin.shadow.settings().interval_ms);
                if sampling.period() != every {
                    sampling = interval(every);
                }
            }
            _ = looking.tick() => {
                twin.follow(&document.view(), &mut outbox)?;
                twin.warn(&document.view(), &outbox);
            }
            _ = sampling.tick() => {
                for metric in Metric::ALL.into_iter().filter(|metric| twin.shadow.settings().is_on(*metric)) {
                    if let Some(payload) = sampler.read(metric) {
                        outbox.sample(device.telemetry(metric), payload);
                    }
                }
            }
        }
    }
}

/// The device beside the document that the gateway keeps of it.
struct Twin {
    shadow: Shadow,
    is_recalled: bool,
    is_warned: bool,
}

impl Twin {
    /// Obeys the document, and reports what it does not say yet. Whatever was lost on the way (a report, the log's newest part) is seen as a difference, and
    /// reported again.
    fn follow(&mut self, view: &View, outbox: &mut Outbox) -> Result<(), Box<dyn Error>> {
        if let Some(why) = view.closed() {
            return Err(format!("the gateway ended the shadow: {why:?}").into());
        }
        if !view.is_known() || !view.is_live() {
            return Ok(());
        }
        let (reported, desired) = (view.reported::<Value>()?, view.desired::<Value>()?);
        if !std::mem::replace(&mut self.is_recalled, true) {
            self.shadow.recall(&reported);
        }
        if self.shadow.obey(&desired) {
            tracing::info!(version = view.version(), %desired, refused = ?self.shadow.refused(), "told what to do");
        }
        if let Some(patch) = patch(&reported, &self.shadow.state()) {
            outbox.report(patch);
        }
        Ok(())
    }

    /// Says once that nobody keeps the document: then the device is one that only measures.
    fn warn(&mut self, view: &View, outbox: &Outbox) {
        if view.is_live() && view.document().is_none() && outbox.has_reported() && !self.is_warned {
            self.is_warned = true;
            tracing::warn!(
                "the gateway keeps no shadow of this device, so nothing that is desired reaches it: set shadows.enabled = true in the gateway's configuration"
            );
        }
    }
}

/// Begins one period from now. A tick that was missed (the machine slept) is not made up for.
fn interval(every: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}
