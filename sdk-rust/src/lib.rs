#![doc = include_str!("../README.md")]
//!
//! # Rooms
//!
//! | module | what lives there |
//! |---|---|
//! | [`builder`] | what a client is made of |
//! | [`client`] | the handle that apps hold |
//! | [`subscription`] | a stream of events with a cursor |
//! | [`message`] | one message |
//! | [`publish`] | from a value to the gateway's confirm |
//! | [`outbox`] | what waits to be published |
//! | [`shadow`] | a device's state: reported, desired, pending |
//! | [`command`] | requests to devices, and the device that does them |
//! | [`store`] | what outlives the process |
//! | [`token`] | tokens that the app fetches when it is asked |
//! | [`error`] | one narrow error for each operation |
//! | `driver` | the one task in which socket, clock, token provider and the state machine meet |
//!
//! All decisions (when to reconnect, what is a duplicate, what is a gap) are made by the state machine of
//! `anabranch-sdk-core`, which the browser's client shares.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod builder;
pub mod client;
pub mod command;
mod driver;
pub mod error;
mod keeper;
pub mod message;
pub mod outbox;
pub mod publish;
pub mod shadow;
mod shared;
pub mod store;
pub mod subscription;
pub mod token;

pub use builder::{CacheLimits, ClientBuilder};
pub use client::{CachedRead, Client, States};
pub use command::{Commands, Job, Progress, Request, Serving};
pub use error::{BuildError, CommandError, PublishError, ServeError, SubscribeError, WaitError};
pub use keeper::Storage;
pub use message::{Message, Metadata, Transient};
pub use outbox::{Outboxed, Queued};
pub use publish::{Publish, Published};
pub use shadow::Shadow;
pub use subscription::{Closed, Event, Snapshot, Start, Subscribe, Subscription, SubscriptionHandle};
pub use token::{TokenRequest, TokenRequests};

#[doc(inline)]
pub use anabranch_protocol::code::{Code, Remedy};
#[doc(inline)]
pub use anabranch_protocol::cursor::{Cursor, Offset, Position};
#[doc(inline)]
pub use anabranch_protocol::envelope::MessageType;
#[doc(inline)]
pub use anabranch_protocol::server_frame::{Gap, GapReason, Outcome};
#[doc(inline)]
pub use anabranch_sdk_core::{Phase, State, TokenWhy};
#[cfg(feature = "tls")]
pub use rustls::RootCertStore;
