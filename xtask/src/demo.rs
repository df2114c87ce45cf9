//! `cargo xtask demo`: builds all that the demo is made of, and hands over to the `demo` program, which runs it.
//!
//! The build is cargo's `dev` profile: it optimises a little, and it is the one that the tests use, so that on a fresh
//! machine the first of `demo` and `test` pays for the other. A release build would take minutes longer for a stream of
//! ten messages a second.

use crate::brokers::{self, Which};
use crate::{DemoArgs, tool, wasm, workspace};
use anyhow::Result;
use clap::ValueEnum;
use std::process::Command;

/// What holds the demo's messages.
#[derive(Clone, Copy, ValueEnum)]
pub enum DemoLog {
    File,
    Rabbitmq,
    Redis,
}

pub fn run(args: &DemoArgs) -> Result<()> {
    let broker = broker(args)?;
    println!("Building the gateway, the device agent and the demo's launcher");
    build()?;
    println!("Building the browser client and the web demo");
    wasm::build_all()?;
    let mut demo = Command::new(workspace::built("demo"));
    demo.current_dir(workspace::root());
    demo.arg("--port").arg(args.port.to_string());
    demo.arg("--fleet").arg(args.fleet.to_string());
    demo.arg("--state").arg(workspace::target().join("demo"));
    demo.arg("--site").arg(workspace::web_demo().join("dist"));
    if let Some(broker) = broker {
        demo.arg("--log").arg(broker.url);
        if let Some(port) = broker.mqtt_port {
            demo.arg("--mqtt-port").arg(port.to_string());
        }
    }
    if args.open {
        demo.arg("--open");
    }
    if args.fresh {
        demo.arg("--fresh");
    }
    hand_over(&mut demo)
}

struct Broker {
    url: String,
    mqtt_port: Option<u16>,
}

/// The private broker, started before minutes go into building for it. A fresh one has forgotten everything.
fn broker(args: &DemoArgs) -> Result<Option<Broker>> {
    let which = match args.log {
        DemoLog::File => return Ok(None),
        DemoLog::Rabbitmq => Which::Rabbitmq,
        DemoLog::Redis => Which::Redis,
    };
    if args.fresh {
        brokers::stop(which)?;
    }
    Ok(Some(match which {
        Which::Rabbitmq => {
            let server = brokers::rabbitmq()?;
            let mqtt_port = Some(server.mqtt_port()).filter(|port| *port != 0);
            Broker { url: server.url(), mqtt_port }
        }
        Which::Redis => Broker { url: brokers::redis()?.url(), mqtt_port: None },
    }))
}

/// The native programs of the demo, in one cargo run and with the whole workspace selected: so every dependency has the
/// features that the tests need too, and is built once.
fn build() -> Result<()> {
    let mut cargo = tool::cargo("build");
    cargo.arg("--workspace");
    for program in ["anabranch", "anabranch-device-agent", "demo"] {
        cargo.args(["--bin", program]);
    }
    tool::run(&mut cargo)
}

/// Becomes the demo, where the system can: then there is one process less to end, and signals need no forwarding.
#[cfg(unix)]
fn hand_over(demo: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let error = demo.exec();
    Err(tool::missing(demo, &error))
}

#[cfg(not(unix))]
fn hand_over(demo: &mut Command) -> Result<()> {
    tool::run(demo)
}
