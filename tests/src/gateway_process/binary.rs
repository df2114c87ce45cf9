//! Where the workspace's programs are, built anew so that no test runs against an old one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The gateway.
pub const GATEWAY: &str = "anabranch";
/// The device agent.
pub const AGENT: &str = "anabranch-device-agent";

/// The path of one of the programs: in the folder of `ANABRANCH_BIN`, which names a gateway, if that is set; else beside
/// this test, built if need be.
pub fn path(program: &str) -> PathBuf {
    folder().join(program)
}

/// The examples of the Rust client.
const EXAMPLES: [&str; 5] = ["subscribe", "offline", "shadow", "commands", "device"];

/// The path of one of the examples of the Rust client.
pub fn example(name: &str) -> PathBuf {
    assert!(EXAMPLES.contains(&name), "{name} is not built");
    folder().join("examples").join(name)
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match std::env::var_os("ANABRANCH_BIN") {
        Some(gateway) => Path::new(&gateway).parent().unwrap_or(Path::new("")).to_owned(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    // target/PROFILE/deps/test
    let folder = test.ancestors().nth(2).expect("a folder of build results");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--bin", GATEWAY, "--bin", AGENT]);
    EXAMPLES.iter().for_each(|example| _ = command.args(["--example", example]));
    if folder.ends_with("release") {
        command.arg("--release");
    }
    // What cargo tells a test of its package would be news to the build scripts that look at it (ring's), and half of the
    // workspace would be compiled again, here and at the next call.
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo");
    assert!(status.success(), "the programs do not compile");
    folder.to_owned()
}
