//! The Rust client as a customer has it: each feature by itself; packed, and used by a fresh project outside of the workspace; and wrapped for another language.

use super::count::Count;
use super::program::Program;
use super::steps::{self, Told};
use crate::progress::Log;
use crate::{tool, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The client, and what it brings of this workspace.
const CRATES: [&str; 3] = ["anabranch-protocol", "anabranch-sdk-core", "anabranch"];
/// Features that must do by themselves. The default ones are the fresh project's, and all together are in every other step.
const FEATURES: [&str; 2] = ["", "sqlite"];
/// Set, also the bindings of the UniFFI sample are written and used from Python: writing them takes a minute to compile.
const BINDINGS: &str = "UNIFFI_BINDINGS";

pub fn check(log: &Log) -> Result<Told> {
    steps::build(log)?;
    let mut count = Count::default();
    let mut judge = |what: String, verdict: Result<()>| match verdict {
        Ok(()) => {
            log.line(&format!("ok    {what}"));
            count.passed += 1;
        }
        Err(error) => {
            log.line(&format!("FAIL  {what}: {error:#}"));
            count.failed += 1;
        }
    };
    for feature in FEATURES {
        judge(format!("features {feature:?}"), alone(log, feature));
    }
    let customer = Customer::new(log)?;
    judge("the fresh project shows live data".to_string(), customer.fresh(log));
    judge("the client compiles behind UniFFI".to_string(), customer.behind_uniffi(log));
    if std::env::var_os(BINDINGS).is_some() {
        judge("Python uses the client through UniFFI".to_string(), customer.python(log));
    }
    Ok(Told::Counted(count))
}

fn alone(log: &Log, feature: &str) -> Result<()> {
    let mut cargo = tool::cargo("check");
    cargo.args([
        "--quiet",
        "--package",
        "anabranch",
        "--lib",
        "--no-default-features",
        "--features",
        feature,
    ]);
    log.run(cargo.env("RUSTFLAGS", "--deny warnings").env("CARGO_TARGET_DIR", built()))
}

/// Somebody who has the packed crates, and a gateway.
struct Customer {
    folder: PathBuf,
    /// Runs as long as this does.
    _gateway: Program,
    url: String,
    token: String,
}

impl Customer {
    fn new(log: &Log) -> Result<Customer> {
        let folder = std::env::temp_dir().join(format!("anabranch-customer-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let mut cargo = tool::cargo("package");
        // No lock: what is not published is in no registry.
        cargo.args(["--no-verify", "--exclude-lockfile", "--allow-dirty", "--quiet"]);
        CRATES.iter().for_each(|name| _ = cargo.args(["--package", name]));
        log.run(&mut cargo)?;
        for name in CRATES {
            let packed = workspace::target()
                .join("package")
                .join(format!("{name}-{}.crate", env!("CARGO_PKG_VERSION")));
            log.run(Command::new("tar").arg("-xzf").arg(&packed).arg("-C").arg(&folder))?;
        }
        let mut serve = Command::new(workspace::built("anabranch"));
        serve.args([
            "serve",
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--set",
            "shadows.enabled=true",
            "--stop-with-stdin",
        ]);
        let gateway = Program::start(log, &mut serve)?;
        let told = gateway.until(|line| line.contains("export ANABRANCH_URL="))?;
        let value = |name: &str| {
            let found = told.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            found.map(str::to_string).with_context(|| format!("no {name} in {told:?}"))
        };
        let (url, token) = (value("ANABRANCH_URL")?, value("ANABRANCH_TOKEN")?);
        Ok(Customer { folder, _gateway: gateway, url, token })
    }

    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env("ANABRANCH_URL", &self.url).env("ANABRANCH_TOKEN", &self.token);
        command
    }

    /// A copy of a sample, with the packed crates in the place of the registry's and the versions of everything else that the workspace has.
    fn project(&self, name: &str) -> Result<PathBuf> {
        let (from, to) = (workspace::root().join("sdk-rust/samples").join(name), self.folder.join(name));
        fs::create_dir_all(to.join("src"))?;
        for below in ["", "src"] {
            for entry in fs::read_dir(from.join(below))? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    fs::copy(entry.path(), to.join(below).join(entry.file_name()))?;
                }
            }
        }
        let mut manifest = fs::read_to_string(to.join("Cargo.toml"))?;
        manifest.push_str("\n[patch.crates-io]\n");
        for name in CRATES {
            let packed = self.folder.join(format!("{name}-{}", env!("CARGO_PKG_VERSION")));
            manifest.push_str(&format!("{name} = {{ path = {packed:?} }}\n"));
        }
        fs::write(to.join("Cargo.toml"), manifest)?;
        fs::copy(workspace::root().join("Cargo.lock"), to.join("Cargo.lock"))?;
        Ok(to)
    }

    fn cargo(&self, project: &Path, words: &[&str]) -> Command {
        let mut cargo = tool::cargo(words[0]);
        cargo.current_dir(project).args(&words[1..]).arg("--quiet");
        cargo.env("CARGO_TARGET_DIR", built()).env("CARGO_PROFILE_DEV_DEBUG", "0");
        cargo
    }

    fn fresh(&self, log: &Log) -> Result<()> {
        let project = self.project("fresh")?;
        log.run(&mut self.cargo(&project, &["build"]))?;
        let fresh = Program::start(log, &mut self.command(built().join("debug/fresh")))?;
        fresh.until(|line| line == "live")?;
        for n in 1..=3 {
            let payload = format!(r#"{{"n":{n}}}"#);
            log.run(self.command(workspace::built("anabranch")).args(["publish", "hello/world", &payload]))?;
            fresh.until(|line| line == format!("hello/world {payload}"))?;
        }
        fresh.ended()
    }

    fn behind_uniffi(&self, log: &Log) -> Result<()> {
        log.run(&mut self.cargo(&self.project("uniffi")?, &["check", "--lib"]))
    }

    fn python(&self, log: &Log) -> Result<()> {
        let project = self.project("uniffi")?;
        log.run(&mut self.cargo(&project, &["build", "--features", "bindgen"]))?;
        let library = "libanabranch_uniffi.so";
        fs::copy(built().join("debug").join(library), project.join(library))?;
        let mut generate = Command::new(built().join("debug/uniffi-bindgen"));
        generate.current_dir(&project).args(["generate", "--language", "python", "--no-format"]);
        log.run(generate.args(["--out-dir", ".", library]))?;
        let python = Program::start(log, self.command("python3").current_dir(&project).arg("try.py"))?;
        python.until(|line| line == "ok")?;
        python.ended()
    }
}

impl Drop for Customer {
    fn drop(&mut self) {
        // Only what was copied there.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Where customers' projects are built, kept from run to run: none of it can be the workspace's, whose crates share more features.
fn built() -> PathBuf {
    workspace::target().join("customer")
}
