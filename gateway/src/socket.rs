//! Bytes to and from one client: the only room that knows WebSocket (RFC 6455) and TLS.
//!
//! No WebSocket library stands here, for memory: those that exist keep a read buffer for every connection (128 KiB, or
//! 4 at best). Here a whole shard shares one, and an idle connection keeps none. Server frames are shared between
//! connections, headers included ([`header`]); client frames are taken apart by [`inbound`].

pub mod header;
pub mod inbound;
#[cfg(test)]
pub mod pipe;
mod stream;

pub use stream::Socket;
