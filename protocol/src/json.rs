//! Just enough JSON: read a frame's own fields, pass every payload through as the text that it is.
//!
//! Why not a general library: the gateway must not parse payloads, the browser's core must stay under 40 KiB, and both
//! sides want the same limits (depth, no duplicate fields). `tests/json.rs` holds it against `serde_json`.

mod members;
mod plain;
mod scan;
mod write;

pub use members::{Members, members};
pub use scan::{JsonError, Scanner, has_lone_surrogate};
pub(crate) use write::write_hexadecimal;
pub use write::{ObjectWriter, Plain, write_number, write_string};
