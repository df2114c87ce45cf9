//! The log that the configuration names.

use super::Log;
use super::embedded::{self, EmbeddedLog};
use super::memory::{self, MemoryLog};
#[cfg(any(feature = "rabbitmq", feature = "redis"))]
use super::verified::Patience;
use crate::config::LogConfig;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// A log, and how to close it.
pub struct Opened {
    pub log: Arc<dyn Log>,
    close: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder of the embedded log.
    #[error("{0}")]
    File(#[from] embedded::OpenError),
    /// The broker does not answer; it may do so later.
    #[error("{0}")]
    Unreachable(String),
    /// The broker answers, and trying again changes nothing: the configuration or the broker must be changed.
    #[error("{0}")]
    Wrong(String),
}

impl Opened {
    fn new<L, F>(log: Arc<L>, close: impl FnOnce(Arc<L>) -> F + Send + 'static) -> Opened
    where
        L: Log,
        F: Future<Output = ()> + Send + 'static,
    {
        let handle = Arc::clone(&log);
        Opened { log, close: Box::new(move || close(handle).boxed()) }
    }

    /// Writes out what is pending, and marks the log as closed in order.
    pub async fn close(self) {
        (self.close)().await;
    }
}

/// Opens the log, once.
pub async fn open(config: &LogConfig) -> Result<Opened, OpenError> {
    Ok(match config {
        LogConfig::Memory(memory) => {
            let log = MemoryLog::new(memory::Options::from(memory));
            Opened::new(log, |log| async move { log.close() })
        }
        LogConfig::File(file) => {
            let log = EmbeddedLog::open(embedded::Options::from(file))?;
            Opened::new(log, |log| async move { log.close().await })
        }
        #[cfg(feature = "rabbitmq")]
        LogConfig::RabbitMq(rabbitmq) => {
            let log = super::rabbitmq::open(rabbitmq.clone(), Patience::default()).await?;
            Opened::new(Arc::new(log), |log| async move { log.close() })
        }
        #[cfg(feature = "redis")]
        LogConfig::Redis(options) => {
            let log = super::redis::open(options.clone(), Patience::default()).await?;
            Opened::new(Arc::new(log), |log| async move { log.close() })
        }
    })
}
