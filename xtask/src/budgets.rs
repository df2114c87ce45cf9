//! The browser client's budgets, measured by scripts of the npm package: its size alone, or all of them in a real browser.

use crate::{npm, test, tool, wasm, workspace};
use anyhow::Result;

/// Prints the size of what a browser loads, and fails over a gate.
pub fn sizes() -> Result<()> {
    wasm::build_package()?;
    tool::run(&mut npm::script(&workspace::npm_package(), "sizes"))
}

/// The same, and what the client costs in Chromium, with a real gateway.
pub fn run() -> Result<()> {
    let chromium = test::chromium()?;
    wasm::build_package()?;
    // With the whole workspace selected, so that the gateway is the one that the tests use.
    tool::run(tool::cargo("build").args(["--workspace", "--bin", "anabranch"]))?;
    let mut budgets = npm::script(&workspace::npm_package(), "budgets");
    tool::run(budgets.env("CHROMIUM", &chromium).env("ANABRANCH_BIN", workspace::built("anabranch")))
}
