//! A reader learns the system from `ls`: no source file may outgrow a room.

use super::steps::Told;
use crate::{tool, workspace};
use anyhow::{Result, bail};
use std::fs;
use std::process::Command;

const LIMIT: usize = 600;
const SOURCES: [&str; 7] = ["*.rs", "*.ts", "*.tsx", "*.mjs", "*.css", "*.html", "*.sh"];

/// Measures every source file that git knows or would add.
pub fn check() -> Result<Told> {
    let mut git = Command::new("git");
    git.current_dir(workspace::root()).args(["ls-files", "--cached", "--others", "--exclude-standard", "--"]);
    let mut long = Vec::new();
    for file in tool::output(git.args(SOURCES))?.lines() {
        // A file that was deleted and not committed yet is still listed.
        let Ok(text) = fs::read_to_string(workspace::root().join(file)) else { continue };
        let lines = text.lines().count();
        if lines > LIMIT {
            long.push(format!("{file} has {lines} lines"));
        }
    }
    if !long.is_empty() {
        bail!("the limit is {LIMIT} lines a file: {}", long.join(", "));
    }
    Ok(Told::Check)
}
