//! The browser client: core (Rust to wasm) → bindings → `wasm-opt` → npm package → web demo.

use crate::stamp::Stamp;
use crate::{npm, tool, workspace};
use anyhow::{Context, Result, anyhow};
use std::fs;
use std::path::Path;
use std::process::Command;
use wasm_bindgen_cli_support::Bindgen;

const TARGET: &str = "wasm32-unknown-unknown";

/// Everything up to the web demo's `dist/`.
pub fn build_all() -> Result<()> {
    build_package()?;
    npm::build(&workspace::web_demo(), vec![workspace::npm_package().join("dist")])
}

/// Everything up to the npm package's `dist/`.
pub fn build_package() -> Result<()> {
    build_core()?;
    npm::build(&workspace::npm_package(), vec![workspace::root().join("protocol/vectors")])
}

/// The core into the npm package's `core/`. The JavaScript that wasm-bindgen lays beside it is not used.
pub fn build_core() -> Result<()> {
    install_target()?;
    // As a cdylib alone: cargo quietly leaves out link-time optimisation, 5 KiB of gzip, where an rlib comes of the same run.
    let mut cargo = tool::cargo("rustc");
    cargo.args(["--package", "anabranch-sdk-wasm", "--target", TARGET, "--profile", "wasm"]);
    cargo.args(["--lib", "--crate-type", "cdylib", "--"]);
    // The stack lies at the beginning of each instance's memory, and the linker would make it eight times as large.
    cargo.args(["-C", "link-arg=-zstack-size=131072"]);
    tool::run(&mut cargo)?;
    let linked = workspace::target().join(TARGET).join("wasm/anabranch_sdk_wasm.wasm");

    npm::install()?;
    let stamp = Stamp::of("wasm-core", &[linked.clone(), workspace::root().join("package-lock.json")])?;
    let core = workspace::wasm_core();
    let wasm = core.join("core_bg.wasm");
    if stamp.is_fresh(std::slice::from_ref(&wasm)) {
        return Ok(());
    }
    if core.exists() {
        fs::remove_dir_all(&core).with_context(|| format!("cannot empty {}", core.display()))?;
    }
    bind(&linked, &core)?;
    optimise(&wasm)?;
    stamp.write()
}

/// The compiler's wasm32 target: with rustup it is added, with another installation of Rust it must be there.
pub fn install_target() -> Result<()> {
    let lib = tool::output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    if Path::new(lib.trim()).exists() {
        return Ok(());
    }
    tool::run(Command::new("rustup").args(["target", "add", TARGET]).current_dir(workspace::root()))
        .with_context(|| format!("the Rust target {TARGET} is needed to build the browser client"))
}

/// wasm-bindgen as a library: its version is that of the crate that the core was linked with, by Cargo.lock.
fn bind(linked: &Path, out: &Path) -> Result<()> {
    println!("wasm-bindgen {}", workspace::shown(linked));
    let mut bindgen = Bindgen::new();
    bindgen.input_path(linked).out_name("core").typescript(false);
    bindgen.remove_name_section(true).remove_producers_section(true);
    bindgen
        .web(true)
        .and_then(|bindgen| bindgen.generate(out))
        .map_err(|error| anyhow!("wasm-bindgen refused {}: {error:#}", workspace::shown(linked)))
}

/// Binaryen's optimiser, a development dependency of the npm package. It needs the `target_features` section, which is
/// why the wasm profile must not strip.
fn optimise(wasm: &Path) -> Result<()> {
    println!("wasm-opt -Oz {}", workspace::shown(wasm));
    let out = wasm.with_extension("opt");
    tool::run(Command::new(npm::bin("wasm-opt")).arg("-Oz").arg(wasm).arg("-o").arg(&out))?;
    fs::rename(&out, wasm).with_context(|| format!("cannot replace {}", wasm.display()))
}
