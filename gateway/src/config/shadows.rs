//! Section `shadows`: what devices say of themselves, and what apps want of them.

use super::reader::Reader;
use super::value::{size, switch, whole};
use crate::shadow::Limits;
use anabranch_protocol::limits;

/// Section `shadows`: the service that keeps a document for each device below `{root}/devices/{id}/shadow/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowsConfig {
    /// `shadows.enabled`: whether the gateway keeps them. Default no: the topics below `shadow/` are like any others then.
    pub enabled: bool,
    /// `shadows.document`: largest state of one device, desired and reported together, in bytes of JSON. Default 8KiB, at most 32KiB.
    /// `shadows.depth`: levels of objects and arrays in it. Default 8, at most 32.
    /// `shadows.rate`: updates of one device in a second, in the long run; as many may come at once. Default 100.
    pub limits: Limits,
}

impl ShadowsConfig {
    pub(super) fn read(reader: &mut Reader) -> ShadowsConfig {
        let d = Limits::default();
        ShadowsConfig {
            enabled: reader.read("shadows.enabled", false, switch),
            limits: Limits {
                bytes: reader.read(
                    "shadows.document",
                    d.bytes as u64,
                    size(256..=limits::ENVELOPE_BYTES as u64 / 8),
                ) as usize,
                depth: reader.read("shadows.depth", d.depth, whole(1..=limits::JSON_DEPTH / 2)),
                rate: reader.read("shadows.rate", d.rate as usize, whole(1..=1_000_000)) as u32,
            },
        }
    }
}
