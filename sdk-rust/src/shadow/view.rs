//! How a shadow is at one moment.

use super::State;
use anabranch_sdk_core::shadow::{Document, Stage};
use serde::de::DeserializeOwned;
use std::time::SystemTime;

/// A shadow as it is known.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    document: Option<Document>,
    desired: String,
    delta: Option<String>,
    pending: Vec<(String, Stage)>,
    known: bool,
    live: bool,
    as_of: Option<SystemTime>,
    closed: Option<crate::Closed>,
}

impl View {
    pub(super) fn of(state: &State) -> View {
        View {
            document: state.core.document().cloned(),
            desired: state.core.desired(),
            delta: state.core.delta(),
            pending: state.core.pending(),
            known: state.known,
            live: state.live,
            as_of: if state.live { Some(SystemTime::now()) } else { state.as_of },
            closed: state.closed.clone(),
        }
    }

    /// The truth as the gateway keeps it, without this client's changes on their way; `None` if there is no shadow, or nothing is known.
    pub fn document(&self) -> Option<&Document> {
        self.document.as_ref()
    }

    /// 0 if there is no shadow.
    pub fn version(&self) -> u64 {
        self.document.as_ref().map_or(0, |document| document.version)
    }

    /// What the device says of itself, as a value. A shadow that does not exist is `{}`.
    ///
    /// # Errors
    /// The state is not such a value.
    pub fn reported<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.reported_text())
    }

    /// What is desired, this client's changes on their way included.
    ///
    /// # Errors
    /// The state is not such a value.
    pub fn desired<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.desired)
    }

    /// What the device says of itself, as JSON text: `{}` if there is no shadow.
    pub fn reported_text(&self) -> &str {
        self.document.as_ref().map_or("{}", |document| &document.reported)
    }

    /// What is desired, this client's changes on their way included, as JSON text.
    pub fn desired_text(&self) -> &str {
        &self.desired
    }

    /// The desired fields that differ from what is reported, as JSON text; `None` if there are none.
    pub fn delta(&self) -> Option<&str> {
        self.delta.as_deref()
    }

    /// How far this client's change of a field has come, by JSON pointer: `/fan/rpm`. `None` if nothing is pending there.
    pub fn pending(&self, field: &str) -> Option<&Stage> {
        self.pending.iter().find(|(pending, _)| pending == field).map(|(_, stage)| stage)
    }

    /// All that is pending.
    pub fn all_pending(&self) -> &[(String, Stage)] {
        &self.pending
    }

    /// Whether it is known what the shadow is, or that there is none: from the gateway, or from the client's memory.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Whether this is the newest there is.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// When this was the newest there was; `None` if it is from an earlier run.
    pub fn as_of(&self) -> Option<SystemTime> {
        self.as_of
    }

    /// Why nothing comes any more: the gateway does not grant it, or the client is closed.
    pub fn closed(&self) -> Option<&crate::Closed> {
        self.closed.as_ref()
    }
}
