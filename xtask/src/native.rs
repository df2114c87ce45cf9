//! What the native client weighs: a library and an app, built for this alone as one ships them, and the app's memory, which `anabranch-loadtest client`
//! judges.

use crate::{tool, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of the library: what we aim at, and what we accept. Both are meant for arm64.
const TARGET: u64 = 3 << 20;
const GATE: u64 = 9 << 19;

const MANIFEST: &str = r#"[package]
name = "anabranch-native"
version = "0.0.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]
path = "library.rs"

[[bin]]
name = "app"
path = "app.rs"

[dependencies]
anabranch = { path = "SDK", features = ["sqlite"] }
serde_json = "1"
tokio = { version = "1", features = ["rt", "time"] }

[profile.release]
opt-level = "z"
lto = "fat"
codegen-units = 1
panic = "abort"
strip = true

[workspace]
"#;

/// Calls whatever an app can call, behind one exported function, so that the linker keeps it. Not a crate of the workspace, which forbids such exports.
const LIBRARY: &str = include_str!("native/library.rs");
const APP: &str = include_str!("native/app.rs");

/// Prints what the library weighs and what a client costs in memory, and fails over a gate.
pub fn check() -> Result<()> {
    let built = build()?;
    let (before, after) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let bytes = fs::metadata(built.join(format!("{before}anabranch_native{after}")))?.len();
    println!(
        "library with TLS and SQLite, stripped, {}: {bytes} bytes (target {TARGET}, gate {GATE})",
        std::env::consts::ARCH
    );
    if bytes > GATE {
        bail!("the library is {bytes} bytes, over the gate of {GATE}");
    }
    tool::run(tool::cargo("build").args([
        "--workspace",
        "--bin",
        "anabranch",
        "--bin",
        "anabranch-loadtest",
    ]))?;
    for plain in [&[][..], &["--plain"]] {
        println!("\nloadtest client {}", plain.join(" "));
        let mut loadtest = Command::new(workspace::built("anabranch-loadtest"));
        loadtest.arg("client").arg("--app").arg(built.join("app"));
        tool::run(loadtest.arg("--gateway").arg(workspace::built("anabranch")).args(plain))?;
    }
    Ok(())
}

/// Builds both in a folder of their own, with the versions of the workspace; where they are.
fn build() -> Result<PathBuf> {
    let folder = workspace::target().join("native");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let sdk = workspace::root().join("sdk-rust");
    put(&folder.join("Cargo.toml"), &MANIFEST.replace("SDK", &sdk.display().to_string()))?;
    put(&folder.join("library.rs"), LIBRARY)?;
    put(&folder.join("app.rs"), APP)?;
    fs::copy(workspace::root().join("Cargo.lock"), folder.join("Cargo.lock")).context("the versions")?;
    let target = folder.join("target");
    let mut cargo = tool::cargo("build");
    cargo.args(["--release", "--quiet", "--manifest-path"]).arg(folder.join("Cargo.toml"));
    tool::run(cargo.env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("release"))
}

/// Writes a file if it is not so already: cargo looks at its time.
fn put(file: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
