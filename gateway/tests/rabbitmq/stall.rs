//! A broker that says nothing for a moment is no broker without a history.

use crate::kit::{open, options, server};
use anabranch_gateway::log::conformance::{Follower, append};
use anabranch_gateway::log::rabbitmq::{Options, Server};
use anabranch_gateway::log::{Log, Start};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Between a gateway and the broker: holds back what is delivered to readers of the history, until they give up.
struct Stall {
    port: u16,
    /// How many readers are still to be held up.
    left: AtomicUsize,
}

impl Stall {
    async fn start(broker: u16) -> Arc<Stall> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let stall = Arc::new(Stall { port, left: AtomicUsize::new(0) });
        let through = stall.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let broker = TcpStream::connect(("127.0.0.1", broker)).await.expect("the broker");
                tokio::spawn(through.clone().join(client, broker));
            }
        });
        stall
    }

    async fn join(self: Arc<Stall>, mut client: TcpStream, mut broker: TcpStream) {
        let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
        // What is held back, once a reader of the history has been told that it is attached.
        let mut held: Option<Vec<u8>> = None;
        let mut reads = false;
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let Ok(read @ 1..) = read else { return };
                    let bytes = &asked[..read];
                    // A heartbeat is no giving up.
                    if bytes[0] == 1 && let Some(held) = held.take() {
                        drop(client.write_all(&held).await);
                    }
                    reads = has(bytes, b".history") && has(bytes, b"x-stream-offset");
                    drop(broker.write_all(bytes).await);
                }
                read = broker.read(&mut answered) => {
                    let Ok(read @ 1..) = read else { return };
                    let mut bytes = &answered[..read];
                    // The frame of basic.consume-ok; deliveries may stand behind it.
                    if reads && has(bytes, CONSUME_OK) && self.one_more() {
                        let length = u32::from_be_bytes([bytes[3], bytes[4], bytes[5], bytes[6]]) as usize;
                        let (told, rest) = bytes.split_at(length + 8);
                        drop(client.write_all(told).await);
                        held = Some(Vec::new());
                        bytes = rest;
                    }
                    match &mut held {
                        Some(held) => held.extend_from_slice(bytes),
                        None => drop(client.write_all(bytes).await),
                    }
                }
            }
        }
    }

    fn one_more(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

const CONSUME_OK: &[u8] = &[0, 60, 0, 21];

fn has(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

#[tokio::test]
async fn a_reader_of_the_history_that_hears_nothing_resets_nobody() {
    let Some(server) = server() else { return };
    let direct = options(&server);
    let stall = Stall::start(direct.server.port).await;
    let stalled = Options { server: Server { port: stall.port, ..direct.server.clone() }, ..direct.clone() };
    let (log, other) = (open(&stalled).await, open(&direct).await);
    let before = log.id();
    append(&other, 0..20).await;
    stall.left.store(1, Ordering::Relaxed);
    let mut follower = Follower::start(&log, Start::Earliest);
    follower.until_records(20).await;
    assert_eq!(stall.left.load(Ordering::Relaxed), 0, "no reader of the history was held up");
    assert_eq!((log.id(), &follower.resets), (before, &Vec::new()));
    assert_eq!(open(&direct).await.id(), before, "and the broker's name for it stands");
}

#[tokio::test]
async fn a_start_that_hears_nothing_of_the_history_finds_its_end() {
    let Some(server) = server() else { return };
    let direct = options(&server);
    let before = open(&direct).await.id();
    let stall = Stall::start(direct.server.port).await;
    stall.left.store(1, Ordering::Relaxed);
    let stalled = Options { server: Server { port: stall.port, ..direct.server.clone() }, ..direct.clone() };
    assert_eq!(open(&stalled).await.id(), before);
    // The next one finds a deleted stream, and hears nothing either.
    crate::kit::Foreign::new(&direct).await.delete(&direct.queue).await;
    stall.left.store(1, Ordering::Relaxed);
    assert_ne!(open(&stalled).await.id(), before, "a deleted stream does not come back under its name");
}
