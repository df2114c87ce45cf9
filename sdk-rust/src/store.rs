//! What outlives the process: the trait, and what implements it.

#[cfg(feature = "sqlite")]
mod sqlite;

pub use anabranch_sdk_core::store::{
    Kept, KeptMessage, KeptPublish, MemoryStore, Place, Store, StoreError, Write,
};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
