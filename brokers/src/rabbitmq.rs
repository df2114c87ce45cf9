//! A private RabbitMQ.

mod control;
mod files;
mod greeting;

use crate::installation::{self, Installation};
use crate::ports;
use crate::process::{self, Process};
use crate::server::Server;
use crate::state::State;
use crate::unavailable::Unavailable;
use crate::wait::until;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A first start takes 6 to 10 s on two idle cores; tests that start several at once wait longer.
const START: Duration = Duration::from_secs(120);

/// The MQTT plugin publishes to its exchange, and does not declare it; nothing happens where it exists.
const DECLARE_EXCHANGE: &str = "rabbit_exchange:declare(rabbit_misc:r(<<\"/\">>, exchange, <<\"iotsphere\">>), \
                                topic, true, false, false, [], <<\"tests\">>)";

/// How to start a server.
#[derive(Clone, Debug)]
pub struct RabbitMqOptions {
    /// Its folder: made when missing; what an earlier server left there is taken up again.
    pub folder: PathBuf,
    /// More lines for `rabbitmq.conf`.
    pub config: Vec<String>,
}

impl RabbitMqOptions {
    /// The usual server, in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> RabbitMqOptions {
        RabbitMqOptions { folder: folder.into(), config: Vec::new() }
    }
}

/// A RabbitMQ on 127.0.0.1 with user `guest`, password `guest`, the MQTT plugin (whose exchange is `iotsphere`, for
/// anonymous devices too) and the consistent-hash exchange.
///
/// One that was started here ends when this is dropped; one that [`crate::shared`] found goes on.
#[derive(Debug)]
pub struct RabbitMq {
    folder: PathBuf,
    ports: Ports,
    /// Given by `ANABRANCH_RABBITMQ`: a server of which we know nothing but this.
    foreign: Option<String>,
    server: Server,
    /// The Erlang port mapper, which would else be started as a daemon, for everyone and for ever.
    epmd: Server,
    detached: bool,
}

/// Where it listens; the same after a restart.
#[derive(Clone, Copy, Debug, Default)]
struct Ports {
    amqp: u16,
    mqtt: u16,
    epmd: u16,
    distribution: u16,
}

impl RabbitMq {
    /// Starts a server of the caller's own, and returns when it answers.
    pub fn start(options: RabbitMqOptions) -> Result<RabbitMq, Unavailable> {
        RabbitMq::start_as(options, false)
    }

    pub(crate) fn start_as(options: RabbitMqOptions, detached: bool) -> Result<RabbitMq, Unavailable> {
        control::installed()?;
        let [amqp, mqtt, epmd, distribution] =
            ports::free().map_err(|error| Unavailable::failed(error.to_string()))?;
        let ports = Ports { amqp, mqtt, epmd, distribution };
        let folder = files::prepare(&options, ports)
            .map_err(|error| Unavailable::failed(format!("{}: {error}", options.folder.display())))?;
        let mut started = RabbitMq {
            folder,
            ports,
            foreign: None,
            server: Server::default(),
            epmd: Server::default(),
            detached,
        };
        if let Err(error) = started.restart() {
            // What has been started of it would else go on, and nobody would know it.
            started.end()?;
            return Err(error);
        }
        Ok(started)
    }

    /// A server at an address that somebody else looks after: it has a [`RabbitMq::url`], and the port in it.
    pub(crate) fn foreign(url: String) -> RabbitMq {
        let (folder, ports) = (PathBuf::new(), Ports { amqp: port_in(&url, 5672), ..Ports::default() });
        RabbitMq {
            folder,
            ports,
            foreign: Some(url),
            server: Server::default(),
            epmd: Server::default(),
            detached: true,
        }
    }

    /// The server that runs in a folder, started by whichever process.
    pub(crate) fn attach(folder: &Path) -> Option<RabbitMq> {
        let state = State::read(folder)?;
        let process = |name| Process::from_text(&state.get::<String>(name)?);
        let port = |name| state.get::<u16>(name);
        // A process that died between two starts leaves one of them.
        let server = |name| process(name).map(Server::attached).unwrap_or_default();
        let (server, epmd) = (server("server"), server("epmd_process"));
        let (amqp, mqtt) = (port("amqp")?, port("mqtt")?);
        let ports = Ports { amqp, mqtt, epmd: port("epmd")?, distribution: port("distribution")? };
        let folder = folder.to_path_buf();
        Some(RabbitMq { folder, ports, foreign: None, server, epmd, detached: true })
    }

    /// It was started from the programs that the environment names now.
    pub(crate) fn is_wanted(&self) -> bool {
        let installation = State::read(&self.folder).and_then(|state| state.get::<String>("installation"));
        installation.unwrap_or_default() == installation::name(Installation::RabbitMq)
    }

    /// For AMQP clients: the virtual host `/`.
    pub fn url(&self) -> String {
        match &self.foreign {
            Some(url) => url.clone(),
            None => format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports.amqp),
        }
    }

    /// Makes a virtual host in which guest may do everything, and returns its URL. The name is letters, digits, `-`, `_`.
    pub fn vhost(&self, name: &str) -> Result<String, Unavailable> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(Unavailable::failed(format!("no plain name for a virtual host: {name:?}")));
        }
        self.eval(&format!(
            "rabbit_vhost:add(<<\"{name}\">>, <<\"tests\">>), \
             rabbit_auth_backend_internal:set_permissions(<<\"guest\">>, <<\"{name}\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"tests\">>)"
        ))?;
        Ok(format!("amqp://guest:guest@127.0.0.1:{}/{name}", self.ports.amqp))
    }

    /// The port of AMQP 0.9.1.
    pub fn amqp_port(&self) -> u16 {
        self.ports.amqp
    }

    /// The port of MQTT on 127.0.0.1; 0 for a server that somebody else looks after.
    pub fn mqtt_port(&self) -> u16 {
        self.ports.mqtt
    }

    /// The process of the broker; None between [`RabbitMq::kill`] and [`RabbitMq::restart`].
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// True while the broker's process exists.
    pub fn is_alive(&self) -> bool {
        self.server.is_alive()
    }

    /// Where all that it writes lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Evaluates Erlang expressions, separated by commas, in the broker: within milliseconds, where `rabbitmqctl` takes
    /// a second. Returns what the last one yields, as Erlang prints it.
    pub fn eval(&self, expressions: &str) -> Result<String, Unavailable> {
        control::eval(&self.folder, self.ports, expressions)
    }

    /// Runs `rabbitmqctl`, and returns what it printed.
    pub fn ctl(&self, args: &[&str]) -> Result<String, Unavailable> {
        control::ctl(&self.folder, self.ports, args)
    }

    /// Raises the memory alarm, which blocks all who publish, or clears it. Returns when the alarm is there, or gone.
    pub fn memory_alarm(&self, raised: bool) -> Result<(), Unavailable> {
        let watermark = if raised { "0.0" } else { "0.6" };
        self.eval(&format!("vm_memory_monitor:set_vm_memory_high_watermark({watermark})"))?;
        until("the memory alarm", Duration::from_secs(20), || {
            let alarms = self.eval("rabbit_alarm:get_alarms()")?;
            Ok((alarms.contains("memory") == raised).then_some(()))
        })
    }

    /// Ends the broker with SIGKILL, as a crash would, and returns when it is gone. The port mapper stays.
    pub fn kill(&mut self) -> Result<(), Unavailable> {
        self.server.kill()
    }

    /// Stops the broker in its tracks, with its sockets open, until [`RabbitMq::thaw`].
    pub fn freeze(&self) -> Result<(), Unavailable> {
        self.server.freeze()
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<(), Unavailable> {
        self.server.thaw()
    }

    /// Starts it again after a kill, with the data and the ports it had, and returns when it answers.
    pub fn restart(&mut self) -> Result<(), Unavailable> {
        if self.foreign.is_some() {
            return Err(Unavailable::failed("this server is somebody else's"));
        }
        self.kill()?;
        if !self.epmd.is_alive() {
            control::start_epmd(&mut self.epmd, &self.folder, self.ports, self.detached)?;
            self.write_state()?;
        }
        let mut command = process::command(control::program("rabbitmq-server")?, self.detached);
        control::environment(&mut command, &self.folder, self.ports);
        self.server.start(&mut command, &files::output(&self.folder))?;
        // At once: whoever looks next can end it if this process does not live to see it ready.
        self.write_state()?;
        self.wait_ready(START).map_err(|error| error.with_log(files::log(&self.folder)))?;
        self.eval(DECLARE_EXCHANGE).map(drop)
    }

    /// Waits until the broker has started everything, AMQP greets and MQTT listens.
    pub fn wait_ready(&self, patience: Duration) -> Result<(), Unavailable> {
        until("RabbitMQ ready", patience, || {
            if !self.is_alive() {
                return Err(Unavailable::failed("RabbitMQ ended while starting"));
            }
            Ok(self.is_ready().then_some(()))
        })
    }

    /// Ready right now.
    pub fn is_ready(&self) -> bool {
        let booted = || self.eval("rabbit:is_booted()").is_ok_and(|answer| answer == "true");
        greeting::listens(self.ports.mqtt) && greeting::amqp(self.ports.amqp) && booted()
    }

    /// Ends the broker and its port mapper; its folder stays.
    pub fn stop(mut self) -> Result<(), Unavailable> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Unavailable> {
        let ended = self.kill();
        ended.and(self.epmd.kill())?;
        // Last: until then, whoever looks can still find what is left to be ended.
        State::remove(&self.folder);
        Ok(())
    }

    fn write_state(&self) -> Result<(), Unavailable> {
        let state = State::default().set("server", self.server.to_text());
        let state = state.set("epmd_process", self.epmd.to_text());
        let Ports { amqp, mqtt, epmd, distribution } = self.ports;
        let state = state.set("amqp", amqp).set("mqtt", mqtt).set("epmd", epmd);
        let state = state.set("installation", installation::name(Installation::RabbitMq));
        let written = state.set("distribution", distribution).write(&self.folder);
        written.map_err(|error| Unavailable::failed(error.to_string()))
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        if !self.detached {
            // Nobody is left to tell; and a process that would not end was sent SIGKILL.
            let _ = self.end();
        }
    }
}

/// The port in a URL such as `amqp://user:password@host:5672/vhost`.
pub(crate) fn port_in(url: &str, default: u16) -> u16 {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or_default();
    authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(default)
}

/// A command of RabbitMQ's for this server, as `rabbitmqctl`, with its environment set.
pub fn tool(server: &RabbitMq, program: &str) -> Result<Command, Unavailable> {
    let mut command = Command::new(control::program(program)?);
    control::environment(&mut command, &server.folder, server.ports);
    Ok(command)
}
