//! This machine's metrics, as the payloads of its telemetry. Real readings only: what the machine does not have is not sent.

use crate::metric::Metric;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::ffi::OsString;
use std::time::Instant;
use sysinfo::{Components, Disks, MemoryRefreshKind, Networks, System};

/// Reads the machine. One reading of everything takes well under a millisecond.
pub struct Sampler {
    system: System,
    disks: Option<Disks>,
    networks: Option<Networks>,
    components: Option<Components>,
    rates: Rates,
}

impl Sampler {
    /// Takes the first reading, against which rates and the CPU's load are measured.
    ///
    /// # Errors
    /// On a system that `sysinfo` does not know. A part that is not there (disks, network, sensors) is no error.
    pub fn new() -> Result<Sampler, sysinfo::Error> {
        let mut system = System::new()?;
        system.refresh_cpu_usage();
        let mut sampler = Sampler {
            system,
            disks: Disks::new_with_refreshed_list().ok(),
            networks: Networks::new_with_refreshed_list().ok(),
            components: Components::new_with_refreshed_list().ok(),
            rates: Rates::default(),
        };
        sampler.network();
        Ok(sampler)
    }

    /// Metrics that this machine does not have at all.
    pub fn unsupported(&self) -> Vec<Metric> {
        let has_sensors =
            self.components.as_ref().is_some_and(|all| all.iter().any(|c| c.temperature().is_some()));
        let parts = [
            (Metric::Disk, self.disks.is_some()),
            (Metric::Network, self.networks.is_some()),
            (Metric::Temperature, has_sensors),
        ];
        parts.into_iter().filter(|(_, has)| !has).map(|(metric, _)| metric).collect()
    }

    /// Reads one metric now. None when the machine does not have it.
    pub fn read(&mut self, metric: Metric) -> Option<Value> {
        match metric {
            Metric::Cpu => Some(self.cpu()),
            Metric::Memory => Some(self.memory()),
            Metric::Disk => self.disk(),
            Metric::Network => self.network(),
            Metric::Temperature => self.temperature(),
            Metric::Status => Some(status()),
        }
    }

    /// Percent of each core and of all together. Readings less than 200 ms apart repeat the one before: a shorter span
    /// has too few clock ticks to mean anything.
    fn cpu(&mut self) -> Value {
        self.system.refresh_cpu_usage();
        let cores: Vec<f64> = self.system.cpus().iter().map(|core| tenth(core.usage())).collect();
        json!({ "total": tenth(self.system.global_cpu_usage()), "cores": cores })
    }

    fn memory(&mut self) -> Value {
        self.system.refresh_memory_specifics(MemoryRefreshKind::everything());
        json!({
            "usedBytes": self.system.used_memory(),
            "totalBytes": self.system.total_memory(),
            "swapUsedBytes": self.system.used_swap(),
        })
    }

    fn disk(&mut self) -> Option<Value> {
        let disks = self.disks.as_mut()?;
        disks.refresh(true);
        let disks: Vec<Value> = disks
            .iter()
            .filter(|disk| disk.total_space() > 0)
            .map(|disk| {
                json!({
                    "mount": disk.mount_point().to_string_lossy(),
                    "usedBytes": disk.total_space().saturating_sub(disk.available_space()),
                    "totalBytes": disk.total_space(),
                })
            })
            .collect();
        Some(json!({ "disks": disks }))
    }

    fn network(&mut self) -> Option<Value> {
        let networks = self.networks.as_mut()?;
        networks.refresh(true);
        let totals = networks
            .iter()
            .map(|(name, data)| (name.clone(), (data.total_received(), data.total_transmitted())))
            // The kernel makes interfaces that nobody uses.
            .filter(|(_, (received, sent))| received + sent > 0)
            .collect();
        Some(json!({ "interfaces": self.rates.between(totals, Instant::now()) }))
    }

    fn temperature(&mut self) -> Option<Value> {
        let components = self.components.as_mut()?;
        components.refresh(false);
        let sensors: Vec<Value> = components
            .iter()
            .filter_map(|sensor| {
                Some(json!({ "label": sensor.label(), "celsius": tenth(sensor.temperature()?) }))
            })
            .collect();
        (!sensors.is_empty()).then(|| json!({ "sensors": sensors }))
    }
}

fn status() -> Value {
    json!({
        "host": System::host_name().ok(),
        "os": System::long_os_version().ok(),
        "kernel": System::kernel_version().ok(),
        "uptimeSec": System::uptime().ok(),
        "agent": concat!("anabranch-device-agent/", env!("CARGO_PKG_VERSION")),
    })
}

/// One decimal is what the readings are worth, and f32 digits would only fill the log.
fn tenth(value: f32) -> f64 {
    (f64::from(value) * 10.0).round() / 10.0
}

/// Bytes received and sent since an interface came up.
type Totals = HashMap<OsString, (u64, u64)>;

/// Turns the interfaces' totals into rates between two readings.
#[derive(Default)]
struct Rates {
    before: Option<(Totals, Instant)>,
}

impl Rates {
    /// The rates of every interface that was there at the reading before, by name. An interface whose totals went back
    /// (it was made anew) counts from zero.
    fn between(&mut self, now: Totals, at: Instant) -> Vec<Value> {
        let mut interfaces = Vec::new();
        if let Some((before, then)) = &self.before {
            let seconds = at.duration_since(*then).as_secs_f64().max(f64::EPSILON);
            let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds).round() as u64;
            let mut names: Vec<_> = now.keys().filter(|name| before.contains_key(*name)).collect();
            names.sort();
            for name in names {
                let ((rx, tx), (rx_before, tx_before)) = (now[name], before[name]);
                interfaces.push(json!({
                    "name": name.to_string_lossy(),
                    "rxBytesPerSec": rate(rx, rx_before),
                    "txBytesPerSec": rate(tx, tx_before),
                }));
            }
        }
        self.before = Some((now, at));
        interfaces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn totals(of: &[(&str, u64, u64)]) -> Totals {
        of.iter().map(|(name, rx, tx)| (OsString::from(name), (*rx, *tx))).collect()
    }

    #[test]
    fn rates_are_differences_over_time() {
        let mut rates = Rates::default();
        let start = Instant::now();
        assert!(rates.between(totals(&[("eth0", 1000, 0)]), start).is_empty());
        let two = start + Duration::from_secs(2);
        let now = rates.between(totals(&[("eth0", 5000, 10), ("wg0", 7, 7)]), two);
        assert_eq!(now, [json!({ "name": "eth0", "rxBytesPerSec": 2000, "txBytesPerSec": 5 })]);
        let made_anew = rates.between(totals(&[("eth0", 3, 0)]), two + Duration::from_secs(1));
        assert_eq!(made_anew[0]["rxBytesPerSec"], 0);
    }

    #[test]
    fn this_machine_has_a_cpu_and_memory() {
        let mut sampler = Sampler::new().unwrap();
        let cpu = sampler.read(Metric::Cpu).unwrap();
        assert!(!cpu["cores"].as_array().unwrap().is_empty());
        assert!((0.0..=100.0).contains(&cpu["total"].as_f64().unwrap()), "{cpu}");
        let memory = sampler.read(Metric::Memory).unwrap();
        assert!(memory["usedBytes"].as_u64() <= memory["totalBytes"].as_u64(), "{memory}");
        for metric in Metric::ALL {
            let supported = !sampler.unsupported().contains(&metric);
            assert_eq!(sampler.read(metric).is_some(), supported, "{}", metric.name());
        }
    }
}
