//! Other servers, as their users would run them: one thread where that can be said, no persistence, no TLS.

use anyhow::{Result, ensure};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// Where a program is.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn command(program: &str) -> Command {
    Command::new(on_path(program).unwrap_or_else(|| program.into()))
}

/// Waits until somebody listens.
pub fn wait_for(address: SocketAddr) -> Result<()> {
    let began = Instant::now();
    while TcpStream::connect_timeout(&address, Duration::from_millis(50)).is_err() {
        ensure!(began.elapsed() < PATIENCE, "nobody listens on {address} after {PATIENCE:?}");
        std::thread::yield_now();
    }
    Ok(())
}

/// uWebSockets.js speaks our protocol, as far as the generator does: `peers/uws.cjs`.
pub fn uws(folder: &Path) -> Result<Command> {
    let script = folder.join("anabranch-loadtest-uws.cjs");
    std::fs::write(&script, include_str!("../../peers/uws.cjs"))?;
    let mut command = command("node");
    command.arg(script);
    Ok(command)
}

pub fn nats(folder: &Path, address: SocketAddr) -> Result<Command> {
    let file = folder.join("nats.conf");
    let text = format!(
        "listen: \"127.0.0.1:-1\"\nmax_connections: 100000\nwrite_deadline: \"60s\"\n\
         websocket {{\n  listen: \"{address}\"\n  no_tls: true\n}}\n"
    );
    std::fs::write(&file, text)?;
    let mut command = command("nats-server");
    // Two threads on one core would only take turns.
    command.arg("-c").arg(file).env("GOMAXPROCS", "1");
    Ok(command)
}

/// Debian's 2.0.11 ends when it has WebSocket listeners only, hence the second one; and its libwebsockets takes no IPv4 address to
/// listen on, hence none is given for the first.
pub fn mosquitto(folder: &Path, address: SocketAddr) -> Result<Command> {
    let file = folder.join("mosquitto.conf");
    let other = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let text = format!(
        "listener {} {}\nlistener {}\nprotocol websockets\nallow_anonymous true\nmax_queued_messages 0\n\
         set_tcp_nodelay true\npersistence false\nlog_type error\nuser root\n",
        other.port(),
        other.ip(),
        address.port()
    );
    std::fs::write(&file, text)?;
    let mut command = command("mosquitto");
    command.arg("-c").arg(file);
    Ok(command)
}

pub fn nchan(folder: &Path, address: SocketAddr, connections: usize) -> Result<Command> {
    let module =
        ["/usr/lib/nginx/modules/ngx_nchan_module.so", "/usr/share/nginx/modules/ngx_nchan_module.so"];
    let module = module.into_iter().find(|file| Path::new(file).is_file()).unwrap_or(module[0]);
    let here = folder.display();
    let file = folder.join("nginx.conf");
    let text = format!(
        "load_module {module};\ndaemon off;\nmaster_process off;\nuser root;\npid {here}/pid;\nerror_log {here}/error.log;\n\
         worker_rlimit_nofile 20000;\nevents {{ worker_connections {}; }}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {here}/body;\n  proxy_temp_path {here}/proxy;\n  fastcgi_temp_path {here}/fastcgi;\n  \
         uwsgi_temp_path {here}/uwsgi;\n  scgi_temp_path {here}/scgi;\n  keepalive_requests 100000000;\n  \
         nchan_shared_memory_size 256M;\n  server {{\n    listen {address} backlog=4096;\n    \
         location = /sub {{ nchan_subscriber websocket; nchan_channel_id $arg_id; nchan_subscriber_first_message newest; }}\n    \
         location = /pub {{ nchan_publisher; nchan_channel_id $arg_id; nchan_message_buffer_length 100; }}\n  }}\n}}\n",
        connections + 100
    );
    std::fs::write(&file, text)?;
    let mut command = command("nginx");
    command.arg("-p").arg(folder).arg("-c").arg(file);
    Ok(command)
}
