//! Where things lie in the workspace.

use std::path::{Path, PathBuf};

/// The workspace's root folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ lies in the workspace")
}

/// Where cargo builds: `CARGO_TARGET_DIR`, else `target/`.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A program built by cargo's `dev` profile.
pub fn built(program: &str) -> PathBuf {
    target().join("debug").join(program)
}

/// The npm package of the browser client.
pub fn npm_package() -> PathBuf {
    root().join("sdk-wasm/npm")
}

/// What wasm-bindgen writes, and the npm package is built from.
pub fn wasm_core() -> PathBuf {
    npm_package().join("core")
}

pub fn web_demo() -> PathBuf {
    root().join("web-demo")
}

/// A path as the developer types it at the root.
pub fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
