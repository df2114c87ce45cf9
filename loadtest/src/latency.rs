//! How long messages took, all of them.

use std::time::Duration;

/// Every measured time, in microseconds.
#[derive(Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds one. Times over an hour count as an hour.
    pub fn add(&mut self, micros: u64) {
        self.0.push(u32::try_from(micros).unwrap_or(u32::MAX));
    }

    /// Takes over all of another's.
    pub fn append(&mut self, other: &mut Latencies) {
        self.0.append(&mut other.0);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn mean(&self) -> u64 {
        let sum: u64 = self.0.iter().map(|&micros| u64::from(micros)).sum();
        sum / (self.0.len() as u64).max(1)
    }

    /// Sorts; then the value below which so many of 100,000 lie.
    pub fn percentiles<const N: usize>(&mut self, of_100_000: [usize; N]) -> [u64; N] {
        self.0.sort_unstable();
        of_100_000.map(|share| {
            let rank = (self.0.len() * share).div_ceil(100_000).saturating_sub(1);
            self.0.get(rank).map_or(0, |&micros| u64::from(micros))
        })
    }
}

/// User and system time of a process so far.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name stands in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(") ").ok_or_else(|| anyhow::anyhow!("/proc/{pid}/stat is odd"))?;
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentiles([50_000]), [0]);
        (1..=1000).rev().for_each(|micros| latencies.add(micros));
        assert_eq!(latencies.percentiles([50_000, 99_000, 99_900, 100_000]), [500, 990, 999, 1000]);
        assert_eq!(latencies.mean(), 500);
    }

    #[test]
    fn this_process_has_used_the_cpu() {
        let before = cpu_time(std::process::id()).unwrap();
        let mut n = 0u64;
        while cpu_time(std::process::id()).unwrap() == before {
            n = std::hint::black_box(n + 1);
        }
    }
}
