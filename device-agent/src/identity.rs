//! Which device this is, and the topics that follow from it.

use crate::metric::Metric;

/// The longest device id, bytes: it is one level of topics that have a limit of their own.
const LONGEST: usize = 64;

/// A device id that can be one level of a topic and of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceId(String);

impl DeviceId {
    /// Takes an id that a person gave, as it is.
    ///
    /// # Errors
    /// When it is empty, too long, or has other characters than letters, digits, `-`, `_` and `.`.
    pub fn new(id: &str) -> Result<DeviceId, String> {
        let fits = !id.is_empty() && id.len() <= LONGEST && id.chars().all(allowed);
        if !fits {
            return Err(format!("a device id has 1 to {LONGEST} letters, digits, '-', '_' and '.'"));
        }
        Ok(DeviceId(id.to_string()))
    }

    /// Makes an id of this machine's name: what is not allowed becomes `-`.
    pub fn from_host(host: &str) -> DeviceId {
        let id: String = host
            .chars()
            .map(|c| if allowed(c) { c.to_ascii_lowercase() } else { '-' })
            .take(LONGEST)
            .collect();
        let id = id.trim_matches('-');
        DeviceId(if id.is_empty() { "device".to_string() } else { id.to_string() })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn telemetry(&self, metric: Metric) -> String {
        format!("iotsphere/devices/{}/telemetry/{}", self.0, metric.name())
    }
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_id_is_taken_or_refused() {
        assert_eq!(
            DeviceId::new("pump-7.b").unwrap().telemetry(Metric::Cpu),
            "iotsphere/devices/pump-7.b/telemetry/cpu"
        );
        for wrong in ["", "a/b", "a+", "#", "a b", "é", &"x".repeat(65)] {
            assert!(DeviceId::new(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hosts_name_becomes_an_id() {
        for (host, id) in
            [("Build Box", "build-box"), ("/+#", "device"), ("", "device"), ("a.local", "a.local")]
        {
            assert_eq!(DeviceId::from_host(host).as_str(), id);
        }
        assert!(DeviceId::new(DeviceId::from_host(&"x".repeat(300)).as_str()).is_ok());
    }
}
