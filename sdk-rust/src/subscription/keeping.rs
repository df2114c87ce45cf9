//! How far the app has come with a subscription that is kept, written down before it gets the next event.

use super::queue::Queue;
use crate::shared::Shared;
use anabranch_protocol::cursor::Cursor;
use anabranch_protocol::filter::Filter;
use anabranch_sdk_core::store::StoreError;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::oneshot;

pub(super) struct Keeping {
    name: String,
    filter: Filter,
    written: Option<Cursor>,
    writing: Option<oneshot::Receiver<Result<(), StoreError>>>,
}

impl Keeping {
    pub(super) fn new(name: String, filter: Filter, written: Option<Cursor>) -> Keeping {
        Keeping { name, filter, written, writing: None }
    }

    /// Ready when the store has the app's place, or has failed: that is no reason to stop the app, which is told by
    /// [`Client::storage`](crate::Client::storage).
    pub(super) fn poll(&mut self, shared: &Shared, queue: &Queue, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(writing) = &mut self.writing {
                let _ = ready!(Pin::new(writing).poll(context));
                self.writing = None;
            }
            let place = queue.settle();
            if place.is_none() || place == self.written {
                return Poll::Ready(());
            }
            self.writing = place.clone().map(|cursor| shared.come_to(&self.name, &self.filter, cursor));
            self.written = place;
        }
    }
}
