//! What the parts of one opened RabbitMQ log have in common.

use super::connect::Connector;
use super::echo::EchoBoard;
use super::history;
use super::lanes::{self, Lanes};
use super::options::Options;
use super::sight::Sight;
use crate::log::Health;
use crate::log::ingest::Ward;
use anabranch_protocol::cursor::Partition;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

pub(super) struct Shared {
    pub(super) options: Arc<Options>,
    pub(super) connector: Connector,
    /// For reads. Whoever holds one may ask questions, and nothing else that takes one of these.
    pub(super) lanes: Lanes,
    /// For questions: whoever holds one waits for nobody but the broker.
    pub(super) questions: Lanes,
    pub(super) ward: Ward,
    pub(super) echoes: EchoBoard,
    /// How the publishing connection is doing.
    pub(super) health: watch::Sender<Health>,
    /// The names of the histories, as they were read last.
    pub(super) history: history::Read,
    /// Held while exchange and streams are declared.
    pub(super) declaring: Mutex<()>,
    sights: Vec<Sight>,
    streams: Vec<String>,
}

impl Shared {
    pub(super) fn new(options: Options, writer: u64) -> Shared {
        let options = Arc::new(options);
        let connector = Connector::new(options.clone());
        let streams: Vec<_> = options.streams(options.partitions).collect();
        Shared {
            lanes: Lanes::new(connector.clone(), "reads", lanes::READS),
            questions: Lanes::new(connector.clone(), "questions", lanes::QUESTIONS),
            connector,
            ward: Ward::default(),
            echoes: EchoBoard::new(writer),
            health: watch::Sender::new(Health::Connected),
            declaring: Mutex::new(()),
            history: history::Read::default(),
            sights: streams.iter().map(|_| Sight::default()).collect(),
            streams,
            options,
        }
    }

    pub(super) fn has(&self, partition: Partition) -> bool {
        usize::from(partition) < self.streams.len()
    }

    /// What was seen of a partition that exists.
    pub(super) fn sight(&self, partition: Partition) -> &Sight {
        &self.sights[usize::from(partition)]
    }

    pub(super) fn sights(&self) -> &[Sight] {
        &self.sights
    }

    /// The stream of a partition that exists.
    pub(super) fn stream(&self, partition: Partition) -> &str {
        &self.streams[usize::from(partition)]
    }
}
