//! Messages to those who watch: one topic or many, how many clients, and how fast.

use crate::contestant::Running;
use crate::swarm::Plan;
use crate::wire::Template;
use std::time::Duration;

/// What is sent to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// One topic, 1,000 subscribers
    FanOut,
    /// One topic, 10,000 subscribers
    Wide,
    /// 5,000 connections, each with its own topic, and 100 that watch fifty of them each
    Devices,
}

/// Settings of one scenario.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Connections that watch, or devices
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub subscribers: Option<u32>,

    /// Bytes of each payload, about
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    pub payload: u32,

    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 3)]
    pub seconds: u32,

    /// Messages on their way in the closed loop that finds the maximum
    #[arg(long)]
    pub window: Option<u32>,

    /// Messages a second in the quiet phase
    #[arg(long)]
    pub rate: Option<f64>,

    /// A further setting of the gateway, KEY=VALUE; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
}

/// Connections that watch a group of devices each.
const WATCHERS: u32 = 100;
/// Connections that publish to devices: each a share of the groups, because a connection may have 256 publishes under way.
const DEVICE_PUBLISHERS: usize = 20;

/// A scenario, worked out.
pub struct Scenario {
    pub shape: Shape,
    pub subscribers: u32,
    pub window: u64,
    pub rate: f64,
    pub topics: Vec<String>,
    /// Deliveries that each message makes.
    pub fan: u64,
    pub template: Template,
    pub payload: usize,
    /// How long a maximum warms up: until the gateway's ring and memory log, 64 MiB each, are full. Before, the kernel clears a
    /// page for every eight messages, which was a sixth of the CPU of `devices`.
    pub warm_up: Duration,
}

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Shape::FanOut => "fan-out",
            Shape::Wide => "wide",
            Shape::Devices => "devices",
        }
    }

    pub fn scenario(self, args: &Args) -> Scenario {
        let (subscribers, window, rate) = match self {
            Shape::FanOut => (1_000, 32, 20.0),
            // At 20 messages a second, 10,000 sockets would keep a core busy: one `send` costs 4 to 5 µs.
            Shape::Wide => (10_000, 8, 5.0),
            Shape::Devices => (5_000, 1_024, 1_000.0),
        };
        let subscribers = args.subscribers.unwrap_or(subscribers);
        let topics = match self {
            Shape::FanOut | Shape::Wide => vec!["load/one/topic".to_owned()],
            Shape::Devices => (0..subscribers).map(device).collect(),
        };
        Scenario {
            shape: self,
            subscribers,
            window: args.window.map_or(window, u64::from),
            rate: args.rate.unwrap_or(rate),
            topics,
            fan: if self == Shape::Devices { 2 } else { subscribers.into() },
            template: Template::new(args.payload as usize),
            payload: args.payload as usize,
            warm_up: Duration::from_millis(if self == Shape::Devices { 5_000 } else { 500 }),
        }
    }
}

/// A device's topic. Its number decides its group.
fn device(number: u32) -> String {
    format!("load/g{:02}/d{number:05}", number % WATCHERS)
}

impl Scenario {
    /// Connections in all.
    pub fn connections(&self) -> usize {
        self.subscribers as usize + if self.shape == Shape::Devices { WATCHERS as usize } else { 0 }
    }

    pub fn publishers(&self) -> usize {
        if self.shape == Shape::Devices { DEVICE_PUBLISHERS } else { 1 }
    }

    /// The clients of a contestant: those that publish first, with the next message's number.
    pub fn plans(&self, server: &Running) -> Vec<Plan> {
        let mut plans: Vec<Plan> = (0..self.publishers()).map(|number| server.publisher(number)).collect();
        match self.shape {
            Shape::FanOut | Shape::Wide => {
                plans.extend((0..self.subscribers as usize).map(|number| {
                    server.subscriber(number, &self.topics[0], &self.topics[0], &self.template)
                }))
            }
            Shape::Devices => {
                let devices = u64::from(self.subscribers);
                for (number, topic) in self.topics.iter().enumerate() {
                    let plan = server.subscriber(number, topic, topic, &self.template);
                    plans.push(plan.receives(number as u64, devices));
                }
                for group in 0..WATCHERS {
                    let number = (self.subscribers + group) as usize;
                    let filter = format!("load/g{group:02}/+");
                    let plan = server.subscriber(number, &filter, &device(group), &self.template);
                    plans.push(plan.receives(u64::from(group), u64::from(WATCHERS)));
                }
            }
        }
        plans
    }
}
