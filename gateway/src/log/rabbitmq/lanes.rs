//! Connections for short reads, kept open and lent to one reader at a time.
//!
//! A record that the broker cannot deliver ends the whole connection, so whoever shares one could not tell whose record
//! it was.

use super::connect::Connector;
use super::fault::Fault;
use lapin::Connection;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most short reads at once. The others wait: a storm of clients must not become a storm of connections.
const LANES: usize = 4;

#[derive(Debug)]
pub(super) struct Lanes {
    connector: Connector,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

/// A connection of one's own for a while. It is closed if it is not given back.
pub(super) struct Lane {
    connection: Connection,
    idle: Arc<Mutex<Vec<Connection>>>,
    _permit: OwnedSemaphorePermit,
}

impl Lanes {
    pub(super) fn new(connector: Connector) -> Lanes {
        Lanes { connector, permits: Arc::new(Semaphore::new(LANES)), idle: Arc::default() }
    }

    /// Waits for its turn, and connects if no connection is idle.
    pub(super) async fn take(&self) -> Result<Lane, Fault> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| Fault::Unreachable("the log is closed".to_owned()))?;
        let idle = loop {
            let popped = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match popped {
                Some(connection) if !connection.status().connected() => {}
                other => break other,
            }
        };
        let connection = match idle {
            Some(connection) => connection,
            None => self.connector.connect("reads").await?,
        };
        Ok(Lane { connection, idle: self.idle.clone(), _permit: permit })
    }
}

impl Lane {
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Leaves the connection for the next one. Only after a read that ended well: a half-open connection looks connected.
    pub(super) fn give_back(self) {
        let Lane { connection, idle, _permit } = self;
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}
