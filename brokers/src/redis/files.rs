//! What lies in a server's folder: its configuration, its certificate, its data and its log.

use super::RedisOptions;
use crate::unavailable::Unavailable;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(super) fn log(folder: &Path) -> PathBuf {
    folder.join("redis.log")
}

pub(super) fn authority(folder: &Path) -> PathBuf {
    folder.join("authority.pem")
}

/// Makes the folder ready for a start, and returns it as an absolute path.
pub(super) fn prepare(options: &RedisOptions, port: u16, bus: u16) -> Result<PathBuf, Unavailable> {
    let wrong = |error: std::io::Error| Unavailable::failed(format!("{}: {error}", options.folder.display()));
    fs::create_dir_all(&options.folder).map_err(wrong)?;
    let folder = fs::canonicalize(&options.folder).map_err(wrong)?;
    if options.tls {
        certificate(&folder)?;
    }
    fs::write(folder.join("redis.conf"), config(options, &folder, port, bus)).map_err(wrong)?;
    Ok(folder)
}

fn config(options: &RedisOptions, folder: &Path, port: u16, bus: u16) -> String {
    let listen = if options.tls {
        let file = |name: &str| folder.join(name).display().to_string();
        format!(
            "port 0\ntls-port {port}\ntls-auth-clients no\ntls-cert-file \"{}\"\ntls-key-file \"{}\"\n\
             tls-ca-cert-file \"{}\"\n",
            file("server.pem"),
            file("server.key"),
            authority(folder).display(),
        )
    } else {
        format!("port {port}\n")
    };
    // Not "everysec": while its sync of the last second runs, which takes long on a busy disk, Redis does not even write for up
    // to 2 s, and SIGKILL takes what it has confirmed meanwhile. With "no" it writes before each answer.
    let more: String = options.config.iter().map(|line| format!("{line}\n")).collect();
    format!(
        "bind 127.0.0.1\n{listen}cluster-port {bus}\ndir \"{}\"\ndaemonize no\nsave \"\"\n\
         appendonly yes\nappendfsync no\n{more}",
        folder.display()
    )
}

/// An authority, and a certificate by it. OpenSSL's program is there where a server with TLS is.
fn certificate(folder: &Path) -> Result<(), Unavailable> {
    if authority(folder).exists() {
        return Ok(());
    }
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"];
    let own = ["req", "-x509", "-keyout", "authority.key", "-out", "authority.pem"];
    let named = ["-subj", "/CN=Anabranch's tests", "-addext", "basicConstraints=critical,CA:TRUE"];
    openssl(folder, &[&own[..], &key, &named].concat())?;
    let signed = ["req", "-x509", "-CA", "authority.pem", "-CAkey", "authority.key"];
    let files = ["-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=localhost"];
    let names = [
        "-addext",
        "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    openssl(folder, &[&signed[..], &files, &key, &names].concat())
}

fn openssl(folder: &Path, args: &[&str]) -> Result<(), Unavailable> {
    let output = Command::new("openssl").args(args).current_dir(folder).stdin(Stdio::null()).output();
    let output = output
        .map_err(|_| Unavailable::Missing { program: "OpenSSL", get: "sudo apt-get install openssl" })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Unavailable::failed(format!("openssl {}: {}", args[0], said.trim())))
}
