//! Who may know whom (the table in `docs/ARCHITECTURE.md`), read off cargo's own resolution, off the sources and off the
//! built wasm. Each rule counts as one test.

use super::count::Count;
use super::steps::Told;
use crate::progress::Log;
use crate::{tool, workspace};
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A crate, and the crates of this workspace that its shipped part may depend on, directly or not.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("anabranch-protocol", &[]),
    ("anabranch-sdk-core", &["anabranch-protocol"]),
    ("anabranch", &["anabranch-protocol", "anabranch-sdk-core"]),
    ("anabranch-sdk-wasm", &["anabranch-protocol", "anabranch-sdk-core"]),
    // The gateway's binary brings `anabranch subscribe`, which is a client like any other.
    ("anabranch-gateway", &["anabranch", "anabranch-protocol", "anabranch-sdk-core"]),
    ("anabranch-device-agent", &["anabranch", "anabranch-protocol", "anabranch-sdk-core"]),
    ("anabranch-brokers", &[]),
    ("xtask", &["anabranch-brokers"]),
];

/// Crates that are pure: no runtime, no socket, no clock of their own, and few enough dependencies for a browser.
const PURE: &[&str] = &["anabranch-protocol", "anabranch-sdk-core", "anabranch-sdk-wasm"];
const IMPURE: &[&str] =
    &["tokio", "mio", "socket2", "rustls", "hyper", "chrono", "jiff", "web-time", "serde_json"];

/// A folder, a word, and the only place under it where the word may stand.
const ONLY_IN: &[(&str, &str, &str)] = &[
    ("gateway/src", "lapin", "gateway/src/log"),
    ("gateway/src", "redis::", "gateway/src/log"),
    ("gateway/src", "unmask", "gateway/src/socket"),
];

pub fn check(log: &Log) -> Result<Told> {
    let mut count = Count::default();
    let mut judge = |rule: String, verdict: Result<()>| match verdict {
        Ok(()) => {
            log.line(&format!("ok    {rule}"));
            count.passed += 1;
        }
        Err(error) => {
            log.line(&format!("FAIL  {rule}: {error:#}"));
            count.failed += 1;
        }
    };
    for (name, allowed) in MAY_KNOW {
        judge(format!("{name} knows at most {allowed:?}"), knows_only(name, allowed));
    }
    for name in PURE {
        judge(format!("{name} is pure"), pure(name));
    }
    for (folder, word, place) in ONLY_IN {
        judge(format!("in {folder}, only {place} says {word}"), said_only_in(folder, word, place));
    }
    judge("the web demo uses only the npm package's front door".to_string(), demo_is_a_customer());
    judge("the wasm core imports only from its own bindings".to_string(), wasm_imports());
    Ok(Told::Counted(count))
}

/// The names in a crate's tree of normal dependencies.
fn tree(name: &str) -> Result<BTreeSet<String>> {
    let mut cargo = tool::cargo("tree");
    cargo.args(["--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let printed = tool::output(&mut cargo)?;
    Ok(printed.lines().filter_map(|line| line.split(' ').next()).map(str::to_string).collect())
}

fn knows_only(name: &str, allowed: &[&str]) -> Result<()> {
    let members: BTreeSet<&str> =
        MAY_KNOW.iter().map(|(name, _)| *name).chain(["anabranch-tests", "anabranch-loadtest"]).collect();
    let tree = tree(name)?;
    let known = tree.iter().map(String::as_str).filter(|known| members.contains(known) && *known != name);
    let wrong: Vec<&str> = known.filter(|known| !allowed.contains(known)).collect();
    if !wrong.is_empty() {
        bail!("it also knows {}", wrong.join(", "));
    }
    Ok(())
}

fn pure(name: &str) -> Result<()> {
    let tree = tree(name)?;
    let wrong: Vec<&str> = IMPURE.iter().copied().filter(|impure| tree.contains(*impure)).collect();
    if !wrong.is_empty() {
        bail!("it depends on {}", wrong.join(", "));
    }
    Ok(())
}

fn said_only_in(folder: &str, word: &str, place: &str) -> Result<()> {
    let said = grep(folder, word)?;
    let wrong: Vec<&str> = said.lines().filter(|file| !file.starts_with(place)).collect();
    if !wrong.is_empty() {
        bail!("it stands in {}", wrong.join(", "));
    }
    Ok(())
}

/// The files under a folder in which a word stands outside of comments.
fn grep(folder: &str, word: &str) -> Result<String> {
    let mut files = String::new();
    let mut folders = vec![workspace::root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") && says(&fs::read_to_string(&path)?, word) {
                files += &workspace::shown(&path);
                files.push('\n');
            }
        }
    }
    Ok(files)
}

fn says(text: &str, word: &str) -> bool {
    text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word))
}

fn demo_is_a_customer() -> Result<()> {
    let source = workspace::web_demo().join("src");
    let mut folders = vec![source.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.contains("sdk-wasm/") || text.contains("core_bg") {
                bail!("{} reaches behind @anabranch/client", workspace::shown(&path));
            }
        }
    }
    Ok(())
}

/// An import from `env` or a WASI module means that a crate brought a clock, a file or a thread with it.
fn wasm_imports() -> Result<()> {
    let core: &Path = &workspace::wasm_core().join("core_bg.wasm");
    let script = "const m = new WebAssembly.Module(require('fs').readFileSync(process.argv[1]));\
                  console.log([...new Set(WebAssembly.Module.imports(m).map((i) => i.module))].join('\\n'))";
    let modules = tool::output(Command::new("node").args(["-e", script]).arg(core))?;
    let wrong: Vec<&str> =
        modules.lines().filter(|module| !matches!(*module, "" | "./core_bg.js" | "wbg")).collect();
    if !wrong.is_empty() {
        bail!("it also imports from {}", wrong.join(", "));
    }
    Ok(())
}
