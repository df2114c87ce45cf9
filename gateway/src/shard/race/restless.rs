//! A log that always has more to say, and a shard that pumps for itself.

use super::{ShardEvent, World};
use crate::drain::Slots;
use crate::hub::newest::Fold;
use crate::hub::pump::{Keeper, Pump};
use crate::log::DEADLINE;
use crate::shard::pumping::Pumped;
use futures_util::FutureExt;
use std::sync::Arc;

/// Neither the node's end nor a checkpoint that somebody asks for waits for the log.
#[test]
fn a_restless_log_does_not_hold_up_the_end() {
    // On the real clock: a turn is over when its time is.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _context = runtime.enter();
    let folder = tempfile::tempdir().expect("a folder");
    let mut world = World::new(100_000, 100_000, 300, 1 << 24);
    world.log.never_rest();
    let (keeper, ask) = Keeper::new(Some(folder.path().join("newest")));
    let node = &world.node;
    let attaching = Pump::attach(
        world.log.clone(),
        Arc::clone(&node.publisher),
        Arc::clone(&node.canary),
        Arc::clone(&node.upstream),
        None,
        Fold::new(Arc::default(), 1_000),
        keeper,
    );
    let pump = attaching.now_or_never().expect("at once").expect("attached");
    world.shard.pumping = Pumped::share(pump, vec![Arc::clone(world.handle.mailbox())], 0).pop();
    let (answer, written) = tokio::sync::oneshot::channel();
    ask.try_send(answer).expect("room for one");
    world.handle.mailbox().push(ShardEvent::Drain(Arc::new(Slots::new(world.node.clock, 1, 0, 10_000))));
    world.turn();
    assert!(world.shard.draining.is_some(), "told in the first turn");
    let written = async { tokio::time::timeout(DEADLINE, written).await.expect("asked in time") };
    runtime.block_on(written).expect("written");
}
