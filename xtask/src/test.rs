//! `cargo xtask test`: every test of the project, in one run, with one closing line.

mod browser;
mod count;
mod crates;
mod install;
mod instructions;
mod lengths;
mod program;
mod rooms;
mod steps;
mod websocket;

pub use browser::chromium;

use crate::progress::{self, Log};
use crate::{TestArgs, brokers, workspace};
use count::Count;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use steps::{Step, Told};

/// How one step ended.
struct Ended {
    name: &'static str,
    count: Count,
    took: Duration,
    skipped: Option<String>,
}

/// Runs the steps in order. A failed step does not stop the others: one run tells everything.
pub fn run(args: &TestArgs) -> ExitCode {
    let chosen = |step: &&Step| {
        (!args.fast || step.fast)
            && (args.only.is_empty() || args.only.iter().any(|part| step.name.contains(part.as_str())))
    };
    let steps: Vec<&Step> = steps::ALL.iter().filter(chosen).collect();
    if args.list {
        steps.iter().for_each(|step| println!("{:<16} {}", step.name, step.about));
        return ExitCode::SUCCESS;
    }
    if steps.is_empty() {
        eprintln!("error: no step is named so; `cargo xtask test --list` names them");
        return ExitCode::FAILURE;
    }
    let started = Instant::now();
    let brokers = brokers::Running::now();
    let ended: Vec<Ended> = steps.iter().map(|step| run_step(step, args.fast)).collect();
    brokers.restore();
    close(&ended, started.elapsed())
}

/// Format, lints and file lengths alone.
pub fn lint() -> ExitCode {
    let only = ["format", "lengths", "lints"].map(String::from).to_vec();
    run(&TestArgs { fast: false, only, list: false })
}

fn run_step(step: &Step, fast: bool) -> Ended {
    let started = Instant::now();
    let path = workspace::target().join("test-logs").join(format!("{}.log", step.name.replace(' ', "-")));
    let result = Log::create(path).map(|log| {
        let told = progress::show(&format!("{:<16}", step.name), &log, || (step.run)(&log, fast));
        (log, told)
    });
    let took = started.elapsed();
    let mut skipped = None;
    let (count, problem, log) = match result {
        Err(error) => (Count::failed(), Some(format!("{error:#}")), None),
        Ok((log, Ok(Told::Check))) => (Count { passed: 1, ..Count::default() }, None, Some(log)),
        Ok((log, Ok(Told::Counted(count)))) => (count, None, Some(log)),
        Ok((log, Ok(Told::Prepared))) => (Count::default(), None, Some(log)),
        Ok((log, Ok(Told::Skipped(why)))) => {
            skipped = Some(why);
            (Count::default(), None, Some(log))
        }
        Ok((log, Ok(Told::Runner))) => {
            let count = count::in_log(&log.read());
            let none = (count.passed + count.failed == 0).then(|| "the runner ran no test".to_string());
            (count.or_failed(none.is_some()), none, Some(log))
        }
        Ok((log, Err(error))) => {
            let count = count::in_log(&log.read()).or_failed(true);
            (count, Some(format!("{error:#}")), Some(log))
        }
    };
    report(step.name, &count, took, skipped.as_deref(), problem, log.as_ref());
    Ended { name: step.name, count, took, skipped }
}

fn report(
    name: &str,
    count: &Count,
    took: Duration,
    skipped: Option<&str>,
    problem: Option<String>,
    log: Option<&Log>,
) {
    let verdict = match (count.failed, skipped) {
        (1.., _) => "FAIL",
        (0, Some(_)) => "skip",
        (0, None) => "ok",
    };
    println!(
        "{verdict:<5} {name:<16} {:>6}  {}",
        seconds(took),
        skipped.map_or(count.to_string(), str::to_string)
    );
    if let Some(log) = log
        && count.not_run > 0
    {
        count::reasons(&log.read()).iter().for_each(|reason| println!("      {reason}"));
    }
    if count.failed == 0 {
        return;
    }
    if let Some(log) = log {
        count::failures(&log.read()).iter().for_each(|name| println!("      ✗ {name}"));
        for panic in count::panics(&log.read()) {
            panic.lines().for_each(|line| println!("      ! {line}"));
        }
        log.tail(30).iter().for_each(|line| println!("      | {line}"));
        println!("      full log: {}", workspace::shown(log.path()));
    }
    println!("      {}", problem.unwrap_or_else(|| "a test failed".to_string()));
}

fn close(ended: &[Ended], took: Duration) -> ExitCode {
    let mut sum = Count::default();
    println!("\n{:<16} {:>7} {:>7} {:>7} {:>8}", "step", "passed", "failed", "not run", "time");
    for step in ended {
        sum += step.count;
        let Count { passed, failed, not_run } = step.count;
        let note = step.skipped.as_ref().map(|why| format!("  skipped: {why}")).unwrap_or_default();
        println!("{:<16} {passed:>7} {failed:>7} {not_run:>7} {:>8}{note}", step.name, seconds(step.took));
    }
    let took = seconds(took);
    println!("{:<16} {:>7} {:>7} {:>7} {took:>8}\n", "all", sum.passed, sum.failed, sum.not_run);
    let skipped = ended.iter().filter(|step| step.skipped.is_some()).count();
    let tail = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
    println!("{sum}{tail}");
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn seconds(took: Duration) -> String {
    let s = took.as_secs();
    if s < 60 { format!("{:.1} s", took.as_secs_f64()) } else { format!("{}:{:02} m", s / 60, s % 60) }
}
