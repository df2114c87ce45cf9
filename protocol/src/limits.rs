//! Every maximum in the system that both sides must know, in one place.
//!
//! A gateway may be configured to be stricter (it says so in `welcome`), never laxer.

/// Longest topic or filter, in bytes of UTF-8. AMQP 0.9.1 routing keys end here, and so do we.
pub const TOPIC_BYTES: usize = 255;
/// Most levels (parts between `/`) in a topic or filter: bounds the depth of every trie walk.
pub const TOPIC_LEVELS: usize = 32;
/// Largest envelope, in bytes of JSON.
pub const ENVELOPE_BYTES: usize = 256 * 1024;
/// Largest frame a client may send: an envelope and what stands around it.
pub const CLIENT_FRAME_BYTES: usize = ENVELOPE_BYTES + 16 * 1024;
/// Deepest nesting of arrays and objects in any frame. At most 64: the scanner keeps one bit a level. An envelope counts
/// as standing in a frame, however it arrived: what is accepted can be delivered.
pub const JSON_DEPTH: usize = 64;
/// Longest `messageId`, `correlationId`, `source` or other single metadata string, in bytes.
pub const METADATA_FIELD_BYTES: usize = 256;
/// Most metadata fields that we do not know but pass on.
pub const METADATA_UNKNOWN_FIELDS: usize = 32;
/// Longest token, in bytes.
pub const TOKEN_BYTES: usize = 16 * 1024;
/// Longest client id or SDK name, in bytes.
pub const CLIENT_ID_BYTES: usize = 128;
/// Subscriptions on one connection.
pub const SUBSCRIPTIONS: usize = 256;
/// Publishes of one connection that wait for their confirm.
pub const PUBLISHES_IN_FLIGHT: usize = 256;
/// Partitions of one log, hence entries of one cursor.
pub const PARTITIONS: usize = 64;
/// Longest cursor as text: the log id and `PARTITIONS` positions of at most 35 characters.
pub const CURSOR_BYTES: usize = 17 + PARTITIONS * 36;
/// Longest time for which a client may have its state topics conflated on purpose, in milliseconds. A longer one counts as this.
pub const CONFLATE_MS: usize = 60_000;
/// How long everything may wait for a client that is hidden, in milliseconds.
pub const HIDDEN_MS: usize = 1_000;
/// Envelopes in one HTTP publish.
pub const HTTP_BATCH: usize = 1024;
/// Largest body of an HTTP publish, in bytes.
pub const HTTP_BODY_BYTES: usize = 4 * 1024 * 1024;
