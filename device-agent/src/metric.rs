//! What the device measures, by name.

/// One kind of telemetry, and the last level of its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    Cpu,
    Memory,
    Disk,
    Network,
    Temperature,
    Status,
}

impl Metric {
    pub const ALL: [Metric; 6] =
        [Metric::Cpu, Metric::Memory, Metric::Disk, Metric::Network, Metric::Temperature, Metric::Status];

    pub fn name(self) -> &'static str {
        match self {
            Metric::Cpu => "cpu",
            Metric::Memory => "memory",
            Metric::Disk => "disk",
            Metric::Network => "network",
            Metric::Temperature => "temperature",
            Metric::Status => "status",
        }
    }

    pub fn named(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.name() == name)
    }
}
