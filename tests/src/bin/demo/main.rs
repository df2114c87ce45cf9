//! Runs the demo that `cargo xtask demo` has built: a gateway with the embedded log or a broker, a real device (this machine), and a
//! chaos proxy between the web page and the gateway. It ends them all in order, on Ctrl-C, on SIGTERM, or when one of
//! them ends. The programs it starts also end when their standard input does, and that is a pipe from here: however this
//! process dies, none of them is left behind.

mod children;
mod control;
mod fleet;
mod state;
mod tokens;

use anabranch_tests::proxy::ChaosProxy;
use children::{Child, Ended};
use clap::Parser;
use control::Control;
use state::State;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokens::Minter;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How long the gateway may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often the device's token file is written anew; its tokens live three times as long.
const RENEW_EVERY: Duration = Duration::from_secs(600);

/// Bytes that the slow link holds on their way: a link that holds more shows old values however soon the gateway knows better.
const SLOW_LINK_HOLDS: u32 = 4096;

#[derive(Parser)]
struct Args {
    /// The demo's port on 127.0.0.1. The chaos proxy has the next one, its control the one after, the slow link the third. 0 takes free ones
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where the log, the key, the tokens and the programs' output are kept
    #[arg(long, default_value = "target/demo")]
    state: PathBuf,
    /// The built web demo
    #[arg(long, default_value = "web-demo/dist")]
    site: PathBuf,
    /// Open the page in the browser
    #[arg(long)]
    open: bool,
    /// Forget the messages of earlier runs; those in a broker stay
    #[arg(long)]
    fresh: bool,
    /// The log of the gateway, a URL; else the embedded log in the demo's folder
    #[arg(long)]
    log: Option<String>,
    /// Simulated devices beside this machine
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=5000))]
    fleet: u16,
    /// Where the broker takes MQTT on 127.0.0.1, to be shown
    #[arg(long)]
    mqtt_port: Option<u16>,
}

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let port_of = |number: u16| if args.port == 0 { 0 } else { args.port.saturating_add(number) };
    let gateway_address = free(port_of(0)).await?;
    let control_listener = listen(port_of(2)).await?;
    let proxy = ChaosProxy::bind(local(port_of(1)), gateway_address).await;
    let proxy = Arc::new(proxy.map_err(|error| taken(port_of(1), &error))?);
    let slow = ChaosProxy::narrow(local(port_of(3)), gateway_address, SLOW_LINK_HOLDS).await;
    let slow = Arc::new(slow.map_err(|error| taken(port_of(3), &error))?);

    let state = State::prepare(&args.state, &args.site, args.fresh)?;
    let minter = Minter::new(&state)?;
    state.write_site_description(proxy.address(), slow.address(), control_listener.local_addr()?)?;
    state.write_gateway_config(gateway_address, args.log.as_deref())?;
    state.write_token("device.token", &minter.device(RENEW_EVERY * 3))?;
    state.write_token("developer.token", &minter.developer())?;

    let mut stop = Stop::new()?;
    let control = Control::new(proxy.clone(), slow, minter.clone(), gateway_address.port());
    let serving = tokio::spawn(control.serve(control_listener));

    let mut gateway = Child::start(&state, "anabranch", &state.gateway_arguments())?;
    tokio::select! {
        ready = ready(gateway_address) => ready?,
        ended = gateway.ended() => return Err(ended.early("the gateway").into()),
        () = stop.asked() => {
            gateway.stop().await;
            return Ok(());
        }
    }
    let url = format!("ws://{gateway_address}/v1/ws");
    let [token, journal] =
        ["device.token", "commands.journal"].map(|name| state.path(name).to_string_lossy().into_owned());
    let arguments =
        ["--url", &url, "--token-file", &token, "--command-journal", &journal, "--stop-with-stdin"];
    let mut agent = Child::start(&state, "anabranch-device-agent", &arguments.map(String::from))?;

    let fleet = match args.fleet {
        0 => None,
        count => Some(tokio::spawn(fleet::run(url.clone(), minter.clone(), usize::from(count)))),
    };

    say(&state, gateway_address, &url, &args);
    if args.open {
        open(&format!("http://localhost:{}/", gateway_address.port()));
    }
    let mut renew = tokio::time::interval(RENEW_EVERY);
    let result = loop {
        tokio::select! {
            () = stop.asked() => break Ok(()),
            ended = gateway.ended() => break Err(ended.early("the gateway")),
            ended = agent.ended() => break Err(ended.early("the device agent")),
            _ = renew.tick() => state.write_token("device.token", &minter.device(RENEW_EVERY * 3))?,
        }
    };
    println!("\nStopping: the device first, then the gateway, which lets its clients go.");
    if let Some(fleet) = fleet {
        fleet.abort();
    }
    agent.stop().await;
    gateway.stop().await;
    serving.abort();
    Ok(result?)
}

/// Ctrl-C, SIGTERM or a closed terminal.
struct Stop {
    signals: [tokio::signal::unix::Signal; 3],
}

impl Stop {
    fn new() -> Result<Stop, Failure> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [a, b, c] = kinds.map(signal);
        Ok(Stop { signals: [a?, b?, c?] })
    }

    async fn asked(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Waits until the gateway's canary has come back through its log.
async fn ready(gateway: SocketAddr) -> Result<(), Failure> {
    let asking = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            if control::status_of(gateway, "/readyz").await == Some(200) {
                return;
            }
        }
    };
    tokio::time::timeout(READY_WITHIN, asking).await.map_err(|_| {
        format!("the gateway is not ready after {} s; see its log", READY_WITHIN.as_secs()).into()
    })
}

fn say(state: &State, gateway: SocketAddr, url: &str, args: &Args) {
    let port = gateway.port();
    let program = state.shown(&state.program("anabranch"));
    let token = state.shown(&state.path("developer.token"));
    let topic = "iotsphere/devices/mine/telemetry/status";
    let stay = match &args.log {
        Some(_) => "the broker, which goes on until `cargo xtask brokers down`".to_string(),
        None => format!("{} for the next time", state.shown(&state.path("log"))),
    };
    let mqtt = args.mqtt_port.map(|port| {
        format!(
            "  Or as a device that speaks MQTT, and has never heard of Anabranch:

    mosquitto_pub -p {port} -t {topic} -m '{{\"host\": \"mine\"}}'

"
        )
    });
    let mqtt = mqtt.unwrap_or_default();
    let fleet = match args.fleet {
        0 => "this machine".to_string(),
        count => format!("this machine, and {count} that are simulated"),
    };
    println!(
        "
  Anabranch is running.

  Web demo     http://localhost:{port}/
  Gateway      {url}
  Devices      {fleet}
  Logs         {}, {}

  In a second terminal, in this folder, watch this machine's telemetry:

    export ANABRANCH_URL={url} ANABRANCH_TOKEN_FILE={token}
    {program} subscribe 'iotsphere/devices/+/telemetry/#'

  In a third, after the same export, publish to a topic of your own; it appears there and in the web demo:

    {program} publish {topic} '{{\"host\": \"mine\"}}'

{mqtt}  Ctrl-C ends everything. The messages stay in {stay}.
",
        state.shown(&state.path("anabranch.log")),
        state.shown(&state.path("anabranch-device-agent.log")),
    );
}

/// Shows the page. A machine without a browser or a desktop is no failure: the address is printed.
fn open(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let quiet = std::process::Stdio::null;
    let started =
        std::process::Command::new(program).arg(url).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn();
    if started.is_err() {
        println!("  ({program} is not here: open {url} yourself)");
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

async fn listen(port: u16) -> Result<TcpListener, Failure> {
    TcpListener::bind(local(port)).await.map_err(|error| taken(port, &error))
}

/// The address that the gateway will take. It must be known before it starts: the page's origin is in its configuration.
async fn free(port: u16) -> Result<SocketAddr, Failure> {
    Ok(listen(port).await?.local_addr()?)
}

fn taken(port: u16, error: &std::io::Error) -> Failure {
    format!("port {port} of 127.0.0.1 cannot be used ({error}); choose others: cargo xtask demo --port 8090")
        .into()
}

impl Ended {
    fn early(&self, who: &str) -> String {
        format!("{who} ended by itself ({}); the end of its log {}:\n{}", self.status, self.log, self.tail)
    }
}
