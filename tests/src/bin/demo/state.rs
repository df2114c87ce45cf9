//! The demo's folder: log, key, tokens, configuration, and the site as it is served. Nothing is written to the source tree.

use crate::Failure;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const KEY_BYTES: usize = 32;

pub struct State {
    folder: PathBuf,
    programs: PathBuf,
}

impl State {
    /// Makes the folder, for this user only, with a key and a fresh copy of the site. The log and the key of earlier
    /// runs are kept unless `fresh`.
    pub fn prepare(folder: &Path, site: &Path, fresh: bool) -> Result<State, Failure> {
        if !site.join("index.html").is_file() {
            return Err(format!("{} holds no built web demo; run `cargo xtask demo`", site.display()).into());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let folder = folder.canonicalize()?;
        let programs =
            std::env::current_exe()?.parent().ok_or("this program lies in no folder")?.to_path_buf();
        let state = State { folder, programs };
        if fresh {
            remove(&state.path("log"))?;
        }
        state.make_key()?;
        remove(&state.path("www"))?;
        copy(site, &state.path("www"))?;
        Ok(state)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A program that was built beside this one.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// A path as one types it here.
    pub fn shown(&self, path: &Path) -> String {
        let here = std::env::current_dir().ok();
        let short = here.as_deref().and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path);
        short.display().to_string()
    }

    pub fn key(&self) -> io::Result<Vec<u8>> {
        fs::read(self.path("key"))
    }

    /// The key as hexadecimal text: such a file can be shown and copied without harm to its content.
    fn make_key(&self) -> Result<(), Failure> {
        if self.path("key").is_file() {
            return Ok(());
        }
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(|error| format!("this system gives no random bytes: {error}"))?;
        let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.write_secret("key", text.as_bytes())?)
    }

    /// Replaces a token file at once: whoever reads it sees the old token or the new one.
    pub fn write_token(&self, name: &str, token: &str) -> io::Result<()> {
        self.write_secret(name, format!("{token}\n").as_bytes())
    }

    fn write_secret(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.path(&format!("{name}.new"));
        remove(&new)?;
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        fs::rename(new, self.path(name))
    }

    /// `demo.json`, by which the page finds the proxy, the slow link and their control.
    pub fn write_site_description(
        &self,
        proxy: SocketAddr,
        slow: SocketAddr,
        control: SocketAddr,
    ) -> io::Result<()> {
        let description = json!({
            "wsUrl": format!("ws://127.0.0.1:{}/v1/ws", proxy.port()),
            "slowUrl": format!("ws://127.0.0.1:{}/v1/ws", slow.port()),
            "controlUrl": format!("http://127.0.0.1:{}", control.port()),
        });
        fs::write(self.path("www").join("demo.json"), format!("{description:#}\n"))
    }

    /// The gateway's configuration: a file that a newcomer can read, and start from.
    pub fn write_gateway_config(&self, gateway: SocketAddr, log: Option<&str>) -> io::Result<()> {
        let port = gateway.port();
        let log = log.unwrap_or("file:log?retention=256MiB&age=1d");
        let config = format!(
            "# Written by `cargo xtask demo` at every start. `anabranch serve --help` explains each setting.
listen = \"{gateway}\"
origins = [\"http://localhost:{port}\", \"http://127.0.0.1:{port}\"]
static_files = \"www\"
log = \"{log}\"

[shadows]
enabled = true

[[auth.keys]]
algorithm = \"HS256\"
file = \"key\"
"
        );
        fs::write(self.path("gateway.toml"), config)
    }

    pub fn gateway_arguments(&self) -> Vec<String> {
        let config = self.path("gateway.toml").to_string_lossy().into_owned();
        ["serve", "--config", &config, "--stop-with-stdin"].map(String::from).to_vec()
    }
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let result = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
