//! CPU time of a process, to the nanosecond, and which core it runs on.

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::process::Command;
use std::time::Duration;

/// User and kernel time of a process at some moment, thread by thread.
pub struct Cpu {
    pid: u32,
    threads: Vec<(u32, u64)>,
}

/// The CPU time of a process so far.
pub fn of(pid: u32) -> Result<Cpu> {
    let folder = format!("/proc/{pid}/task");
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{folder}: has the server ended?"))? {
        let Some(thread) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Its first number is the time on a core in nanoseconds; /proc/PID/stat counts hundredths of a second.
        let Ok(text) = std::fs::read_to_string(format!("{folder}/{thread}/schedstat")) else { continue };
        let nanos = text.split(' ').next().and_then(|field| field.parse().ok());
        threads.push((thread, nanos.context("schedstat, which Linux has with CONFIG_SCHED_INFO")?));
    }
    Ok(Cpu { pid, threads })
}

impl Cpu {
    /// What all threads of the process have used since. A thread that has ended meanwhile is not counted.
    pub fn until_now(&self) -> Result<Duration> {
        let before =
            |thread| self.threads.iter().find(|(known, _)| *known == thread).map_or(0, |(_, nanos)| *nanos);
        let nanos = of(self.pid)?.threads.iter().map(|(thread, nanos)| nanos - before(*thread)).sum();
        Ok(Duration::from_nanos(nanos))
    }
}

/// Binds this thread, and the processes that it starts from here on, to one core. Does nothing where that core is not.
pub fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    match sched_setaffinity(None, &cores) {
        Err(Errno::INVAL) => Ok(()),
        other => other.with_context(|| format!("binding to core {core}")),
    }
}

/// Lets the threads of a process that share a core each go on until it has nothing to do, or its slice is over (`SCHED_BATCH`).
///
/// By default whoever is woken cuts in: with two shards on one core, each publish that one reads wakes the other, which then writes a
/// frame or two to all of its clients instead of what the first has read by the end of its turn. That cost 1.45 times the CPU of one
/// shard; so it is 1.03. Where each shard has a core of its own, nobody can cut in.
pub fn share(pid: u32) -> Result<()> {
    let (pid, policy) = (pid.to_string(), ["--batch", "--all-tasks", "--pid", "0"]);
    let chrt = Command::new("chrt").args(policy).arg(pid).status().context("chrt (Debian: util-linux)")?;
    ensure!(chrt.success(), "chrt --batch failed: {chrt}");
    Ok(())
}

/// The core of servers, and that of the generator.
pub const SERVER: usize = 0;
pub const GENERATOR: usize = 1;

/// How many kB of a process lie in RAM, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("has the server ended?")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().context("VmRSS in kB")?;
    Ok(kib * 1024)
}
