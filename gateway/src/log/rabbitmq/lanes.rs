//! Connections for short reads, kept open and lent to one reader at a time.
//!
//! A record that the broker cannot deliver ends the whole connection, so whoever shares one could not tell whose record
//! it was.

use super::connect::Connector;
use super::fault::Fault;
use lapin::Connection;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most reads at once. The others wait: a storm of clients must not become a storm of connections.
pub(super) const READS: usize = 4;

/// Most questions at once about where something begins or ends. They have lanes of their own: a read asks such questions while
/// it holds its lane, and as many reads as there are lanes would wait for each other for ever.
pub(super) const QUESTIONS: usize = 2;

#[derive(Debug)]
pub(super) struct Lanes {
    connector: Connector,
    purpose: &'static str,
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
    /// So many at most. `purpose` is what the broker's operator sees.
    pub(super) fn new(connector: Connector, purpose: &'static str, most: usize) -> Lanes {
        Lanes { connector, purpose, permits: Arc::new(Semaphore::new(most)), idle: Arc::default() }
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
            None => self.connector.connect(self.purpose).await?,
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
