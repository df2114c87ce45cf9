//! What passes and is not kept: beside the log, past the ring, straight to whoever is there.

use super::mailbox::Mailbox;
use crate::log::Transient;
use crate::shard::ShardEvent;
use crate::socket::header::{Opcode, write_frame};
use anabranch_protocol::server_frame::ServerFrame;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::sync::Arc;

/// A message and its frame, encoded once for everyone.
pub struct Passing {
    pub topic: Arc<str>,
    pub frame: Vec<u8>,
}

impl Passing {
    fn new(message: Transient) -> Option<Passing> {
        let envelope = std::str::from_utf8(&message.envelope).ok()?;
        let mut frame = Vec::new();
        write_frame(&mut frame, Opcode::Text, ServerFrame::Transient { envelope }.to_json().as_bytes());
        Some(Passing { topic: message.topic, frame })
    }
}

/// Hands each message to every shard, until the source ends.
pub async fn run(mut source: BoxStream<'static, Transient>, shards: Vec<Arc<Mailbox<ShardEvent>>>) {
    while let Some(message) = source.next().await {
        let Some(passing) = Passing::new(message) else { continue };
        metrics::counter!("anabranch_transient_messages_total").increment(1);
        let passing = Arc::new(passing);
        for shard in &shards {
            shard.push(ShardEvent::Transient(Arc::clone(&passing)));
        }
    }
}
