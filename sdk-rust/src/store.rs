//! What outlives the process: the trait, and what implements it.
//!
//! The client decides what is kept and what is dropped; a store writes it down, a batch at a time. [`MemoryStore`] is the smallest one:
//!
//! ```
//! # anabranch_gateway::testing::example(async |url, token| {
//! # use anabranch::{Client, Storage, store::MemoryStore};
//! let client = Client::builder(url).token(token).store(MemoryStore::default()).build()?;
//! client.publish("site/door").payload_text("\"open\"").queue().await?;
//! client.flush().await?;                               // the store has it
//! assert_eq!(client.storage(), Storage::Durable);      // it has not failed
//! # Ok(()) });
//! ```

#[cfg(feature = "sqlite")]
mod sqlite;

pub use anabranch_sdk_core::store::{
    Kept, KeptMessage, KeptPublish, MemoryStore, Place, Store, StoreError, Write,
};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteStore;
