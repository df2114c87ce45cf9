//! Freshness: a build step is skipped while the content of its inputs is what it was when the step last succeeded.
//! Content and not time, since `git checkout` and a fresh clone give every file a new time.

use crate::workspace;
use anyhow::{Context, Result};
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The inputs of one step, and the file under `target/xtask/` that remembers them.
pub struct Stamp {
    file: PathBuf,
    hash: String,
}

impl Stamp {
    /// Reads the inputs: files, and folders with all that is in them but hidden entries and
    /// what the steps themselves make there.
    pub fn of(name: &str, inputs: &[PathBuf]) -> Result<Stamp> {
        let mut hasher = DefaultHasher::new();
        for input in inputs {
            add(&mut hasher, input).with_context(|| format!("cannot read {}", input.display()))?;
        }
        let hash = format!("{:016x}", hasher.finish());
        Ok(Stamp { file: workspace::target().join("xtask").join(format!("{name}.stamp")), hash })
    }

    /// True when the step succeeded with these inputs and all its outputs are still there.
    pub fn is_fresh(&self, outputs: &[PathBuf]) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|old| old == self.hash) && outputs.iter().all(|o| o.exists())
    }

    /// Remembers that the step succeeded.
    pub fn write(&self) -> Result<()> {
        let parent = self.file.parent().expect("a stamp lies in a folder");
        fs::create_dir_all(parent)?;
        fs::write(&self.file, &self.hash).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

fn add(hasher: &mut DefaultHasher, path: &Path) -> io::Result<()> {
    hasher.write(path.as_os_str().as_encoded_bytes());
    if !path.is_dir() {
        hasher.write(&fs::read(path)?);
        return Ok(());
    }
    let mut entries = fs::read_dir(path)?.map(|e| Ok(e?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        if !matches!(&*name, "node_modules" | "dist" | "glue.js") && !name.starts_with('.') {
            add(hasher, &entry)?;
        }
    }
    Ok(())
}
