//! `cargo xtask brokers up|down|status`: private brokers that stay, for trying things out. They are the ones that the
//! tests share (`anabranch_brokers::shared`), in `target/brokers/`.

use crate::progress::{self, Log};
use crate::{tool, workspace};
use anabranch_brokers::{RabbitMq, Redis, shared};
use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use std::time::Instant;

#[derive(Subcommand)]
pub enum Action {
    /// Start them, and print where they are; those that run are found again
    Up {
        /// Only this one
        which: Option<Which>,
    },
    /// Stop them, and forget what they hold
    Down {
        /// Only this one
        which: Option<Which>,
    },
    /// Say which run, and where
    Status,
    /// Run rabbitmqctl on the private RabbitMQ
    Rabbitmqctl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    Rabbitmq,
    Redis,
}

pub fn run(action: &Action) -> Result<()> {
    match action {
        Action::Up { which } => up(*which),
        Action::Down { which } => down(*which),
        Action::Status => status(),
        Action::Rabbitmqctl { words } => rabbitmqctl(words),
    }
}

fn wanted(which: Option<Which>, one: Which) -> bool {
    which.is_none_or(|which| which == one)
}

fn up(which: Option<Which>) -> Result<()> {
    if wanted(which, Which::Rabbitmq) {
        show_rabbitmq(&rabbitmq()?);
    }
    if wanted(which, Which::Redis) {
        show_redis(&redis()?);
    }
    println!("\nThey go on until `cargo xtask brokers down`.");
    Ok(())
}

/// The private RabbitMQ, started where it does not run.
pub fn rabbitmq() -> Result<RabbitMq> {
    with_progress("RabbitMQ", shared::rabbitmq)
}

/// The private Redis, started where it does not run.
pub fn redis() -> Result<Redis> {
    with_progress("Redis", shared::redis)
}

fn with_progress<T: Send>(
    name: &str,
    start: impl FnOnce() -> Result<T, anabranch_brokers::Unavailable> + Send,
) -> Result<T> {
    let log = Log::create(workspace::target().join("test-logs").join("brokers.log"))?;
    log.line("looks for a running one, else starts it: a few seconds");
    let started = Instant::now();
    let server = progress::show(name, &log, start)?;
    println!("{name} is ready ({:.1} s)", started.elapsed().as_secs_f64());
    Ok(server)
}

fn down(which: Option<Which>) -> Result<()> {
    if wanted(which, Which::Rabbitmq) {
        match shared::running_rabbitmq() {
            Some(server) => server.stop().map(|()| println!("RabbitMQ has stopped"))?,
            None => println!("RabbitMQ does not run"),
        }
    }
    if wanted(which, Which::Redis) {
        match shared::running_redis() {
            Some(server) => server.stop().map(|()| println!("Redis has stopped"))?,
            None => println!("Redis does not run"),
        }
    }
    Ok(())
}

fn rabbitmqctl(words: &[String]) -> Result<()> {
    let server =
        shared::running_rabbitmq().context("RabbitMQ does not run: `cargo xtask brokers up rabbitmq`")?;
    tool::run(anabranch_brokers::rabbitmq::tool(&server, "rabbitmqctl")?.args(words))
}

fn status() -> Result<()> {
    match shared::running_rabbitmq() {
        Some(server) => show_rabbitmq(&server),
        None => println!("RabbitMQ does not run; `cargo xtask brokers up rabbitmq` starts it"),
    }
    match shared::running_redis() {
        Some(server) => show_redis(&server),
        None => println!("Redis does not run; `cargo xtask brokers up redis` starts it"),
    }
    Ok(())
}

fn show_rabbitmq(server: &RabbitMq) {
    println!("\nRabbitMQ   {}", server.url());
    if let Some(pid) = server.pid() {
        println!(
            "  MQTT     mqtt://127.0.0.1:{}   for anonymous devices, exchange iotsphere",
            server.mqtt_port()
        );
        println!("  process  {pid}, in {}{}", workspace::shown(server.folder()), frozen(server.is_ready()));
    }
    println!("  try      {}", serve(&server.url()));
    println!("           cargo xtask brokers rabbitmqctl list_queues name type messages arguments");
    if server.mqtt_port() != 0 {
        println!(
            "           mosquitto_pub -p {} -t iotsphere/devices/d1/telemetry/temperature -m 21.5",
            server.mqtt_port()
        );
    }
}

fn show_redis(server: &Redis) {
    println!("\nRedis      {}", server.url());
    if let Some(pid) = server.pid() {
        println!("  process  {pid}, in {}{}", workspace::shown(server.folder()), frozen(server.is_ready()));
    }
    println!("  try      {}", serve(&server.url()));
    println!("           redis-cli -u {} info memory", server.url());
}

fn frozen(is_ready: bool) -> &'static str {
    if is_ready { "" } else { "; it does not answer" }
}

fn serve(url: &str) -> String {
    format!("target/debug/anabranch serve --dev --log {url}")
}

/// Which of the shared servers run.
#[derive(Clone, Copy)]
pub struct Running {
    rabbitmq: bool,
    redis: bool,
}

impl Running {
    pub fn now() -> Running {
        Running { rabbitmq: shared::running_rabbitmq().is_some(), redis: shared::running_redis().is_some() }
    }

    /// Stops those that have been started since. One that does not end is told of, and is no test's failure.
    pub fn restore(self) {
        let stop = |which| stop(which).unwrap_or_else(|error| eprintln!("warning: {error:#}"));
        if !self.rabbitmq {
            stop(Which::Rabbitmq);
        }
        if !self.redis {
            stop(Which::Redis);
        }
    }
}

/// Ends one, if it runs.
pub fn stop(which: Which) -> Result<()> {
    match which {
        Which::Rabbitmq => shared::running_rabbitmq().map(RabbitMq::stop).transpose()?,
        Which::Redis => shared::running_redis().map(Redis::stop).transpose()?,
    };
    Ok(())
}
