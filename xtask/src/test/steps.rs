//! The steps of `cargo xtask test`, in their order: what fails fast comes first.

use super::count::Count;
use super::{browser, crates, install, instructions, lengths, rooms, websocket};
use crate::progress::Log;
use crate::{npm, tool, wasm, workspace};
use anyhow::{Context, Result};
use std::fs;

pub struct Step {
    pub name: &'static str,
    pub about: &'static str,
    /// Also in the tier that ends within five minutes.
    pub fast: bool,
    /// The second argument is true in the fast tier.
    pub run: fn(&Log, bool) -> Result<Told>,
}

/// What a step that did not fail tells.
pub enum Told {
    /// It is one check, and it holds.
    Check,
    /// It counted its tests.
    Counted(Count),
    /// Its log ends with a runner's closing line.
    Runner,
    /// It only made things ready.
    Prepared,
    /// It could not run here, and that is no failure: why.
    Skipped(String),
}

pub const ALL: &[Step] = &[
    Step { name: "tools", about: "installs what the tests need", fast: true, run: tools },
    Step { name: "format", about: "cargo fmt --check", fast: true, run: format },
    Step {
        name: "lengths",
        about: "no source file over 600 lines",
        fast: true,
        run: |_, _| lengths::check(),
    },
    Step { name: "lints", about: "clippy, warnings are errors", fast: true, run: lints },
    Step { name: "wasm", about: "builds the browser client and the web demo", fast: true, run: build_wasm },
    Step { name: "sizes", about: "gates the browser client's size", fast: true, run: sizes },
    Step { name: "rooms", about: "who may know whom", fast: true, run: |log, _| rooms::check(log) },
    Step { name: "build", about: "compiles every program and every test", fast: true, run: compile },
    Step { name: "rust", about: "every Rust test", fast: true, run: rust },
    Step { name: "doctests", about: "the examples in the documentation", fast: true, run: doctests },
    Step {
        name: "instructions",
        about: "what the two hottest paths cost, counted by callgrind",
        fast: true,
        run: |log, _| instructions::check(log),
    },
    Step {
        name: "browser client",
        about: "the npm package's tests, golden vectors too",
        fast: true,
        run: client,
    },
    Step {
        name: "websocket",
        about: "Autobahn's cases against our WebSocket",
        fast: true,
        run: |log, _| websocket::check(log),
    },
    Step {
        name: "browser story",
        about: "the npm package and the web demo in Chromium",
        fast: false,
        run: |log, _| browser::story(log),
    },
    Step {
        name: "packages",
        about: "the packed npm package in five fresh projects",
        fast: false,
        run: |log, _| browser::packages(log),
    },
    Step {
        name: "crate",
        about: "the packed crate in fresh projects, and each feature by itself",
        fast: false,
        run: |log, _| crates::check(log),
    },
    Step {
        name: "budgets",
        about: "gates what the browser client costs in Chromium",
        fast: false,
        run: budgets,
    },
    Step { name: "native", about: "gates the Rust client's library and memory", fast: false, run: native },
    Step {
        name: "supply chain",
        about: "cargo deny: bans, licenses, sources",
        fast: true,
        run: supply_chain,
    },
];

fn tools(log: &Log, fast: bool) -> Result<Told> {
    wasm::install_target()?;
    npm::install_with(|command| log.run(command))?;
    if !fast {
        install::chromium(log)?;
    }
    install::brokers(log);
    install::valgrind(log);
    install::venv(log)?;
    Ok(Told::Prepared)
}

fn format(log: &Log, _: bool) -> Result<Told> {
    log.run(tool::cargo("fmt").args(["--all", "--check"])).context("run `cargo fmt`")?;
    Ok(Told::Check)
}

fn lints(log: &Log, _: bool) -> Result<Told> {
    let mut cargo = tool::cargo("clippy");
    log.run(cargo.args(["--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"]))?;
    Ok(Told::Check)
}

// The tasks that are also commands run as such, so that what they print goes to the log. By way of cargo: a build of the whole workspace
// puts another xtask in this one's place.

fn build_wasm(log: &Log, _: bool) -> Result<Told> {
    log.run(tool::cargo("xtask").arg("wasm"))?;
    Ok(Told::Check)
}

fn compile(log: &Log, _: bool) -> Result<Told> {
    build(log)?;
    Ok(Told::Check)
}

fn sizes(log: &Log, _: bool) -> Result<Told> {
    log.run(tool::cargo("xtask").arg("sizes"))?;
    Ok(Told::Check)
}

fn budgets(log: &Log, _: bool) -> Result<Told> {
    build(log)?;
    log.run(tool::cargo("xtask").arg("budgets"))?;
    Ok(Told::Check)
}

fn native(log: &Log, _: bool) -> Result<Told> {
    build(log)?;
    log.run(tool::cargo("xtask").arg("native"))?;
    Ok(Told::Check)
}

/// Every program and every test, as the tests need them: building only the programs would leave out features that the
/// tests' dependencies turn on, and build the gateway twice.
pub fn build(log: &Log) -> Result<()> {
    log.run(tool::cargo("build").args(["--workspace", "--all-targets"]))
}

/// What the names of tests have that the fast tier leaves out: they kill gateways in a loop, or move clients among nodes for a minute.
const LONG: [&str; 2] = ["kill", "moved_at_random"];

/// The kill loops have `kill` in their names, and a test group of their own in `.config/nextest.toml`.
fn rust(log: &Log, fast: bool) -> Result<Told> {
    // Else the tests' kit would ask cargo for the gateway, in the process of every test.
    build(log)?;
    let mut cargo;
    if tool::cargo_has("nextest") {
        cargo = tool::cargo("nextest");
        cargo.args(["run", "--workspace", "--no-fail-fast", "--no-tests", "fail"]);
        if fast {
            cargo.args(["--filterset", &format!("not test(/{}/)", LONG.join("|"))]);
        }
    } else {
        cargo = tool::cargo("test");
        cargo.args(["--workspace", "--all-targets", "--no-fail-fast", "--"]);
        if fast {
            LONG.iter().for_each(|name| _ = cargo.args(["--skip", name]));
        }
    }
    let not_run = workspace::target().join("test-logs").join("not-run.txt");
    fs::write(&not_run, "").with_context(|| format!("cannot write {}", not_run.display()))?;
    cargo.env("ANABRANCH_BIN", workspace::built("anabranch")).env("ANABRANCH_NOT_RUN", &not_run);
    let ended = log.run(&mut cargo);
    // The runners show nothing of what a test printed that they take for passed.
    fs::read_to_string(&not_run).unwrap_or_default().lines().for_each(|line| log.line(line));
    ended.map(|()| Told::Runner)
}

fn doctests(log: &Log, _: bool) -> Result<Told> {
    log.run(tool::cargo("test").args(["--workspace", "--doc", "--no-fail-fast"]))?;
    Ok(Told::Runner)
}

fn client(log: &Log, _: bool) -> Result<Told> {
    let package = workspace::npm_package();
    log.run(&mut npm::script(&package, "check"))?;
    log.run(&mut npm::script(&package, "test"))?;
    Ok(Told::Runner)
}

/// The advisories are left out: their database is a git repository, and the tests reach package registries only.
fn supply_chain(log: &Log, _: bool) -> Result<Told> {
    if !tool::cargo_has("deny") {
        return Ok(Told::Skipped(
            "cargo-deny is not installed (cargo install cargo-deny --locked)".to_string(),
        ));
    }
    log.run(tool::cargo("deny").args(["--offline", "check", "bans", "licenses", "sources"]))?;
    Ok(Told::Check)
}
