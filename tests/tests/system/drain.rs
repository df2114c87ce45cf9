//! SIGTERM: each client is given a slot, nobody comes back before it, and nothing is lost.

use crate::fleet::{Fleet, Load};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::ledger::Ledger;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const CLIENTS: usize = 100;
const DRAINS: usize = 3;

/// A door of its own for one client: it forwards bytes, reads `go_away` on the way, and notes when the client comes back.
#[derive(Clone)]
struct Watch {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// Not before this moment.
    slot: Option<Instant>,
    slots: Vec<u64>,
    early: Vec<Duration>,
    connections: usize,
}

impl Watch {
    async fn before(upstream: SocketAddr, tasks: &mut JoinSet<()>) -> Watch {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let watch = Watch { address: listener.local_addr().expect("an address"), seen: Arc::default() };
        let door = watch.clone();
        tasks.spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                door.came_back();
                let door = door.clone();
                links.spawn(async move {
                    if let Ok(gateway) = TcpStream::connect(upstream).await {
                        door.forward(client, gateway).await;
                    }
                });
            }
        });
        watch
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn came_back(&self) {
        let mut seen = self.seen();
        seen.connections += 1;
        if let Some(slot) = seen.slot.take() {
            let early = slot.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                seen.early.push(early);
            }
        }
    }

    async fn forward(&self, client: TcpStream, gateway: TcpStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_gateway, mut to_gateway) = gateway.into_split();
        let up = async move {
            let _ = tokio::io::copy(&mut from_client, &mut to_gateway).await;
        };
        let down = async move {
            let mut piece = vec![0; 16 * 1024];
            // The end of what came before: a frame may be cut anywhere.
            let mut tail = Vec::new();
            while let Ok(n) = from_gateway.read(&mut piece).await {
                if n == 0 {
                    break;
                }
                // Before the client can know it.
                tail.extend_from_slice(&piece[..n]);
                if let Some(after_ms) = go_away(&tail) {
                    let mut seen = self.seen();
                    seen.slot = Some(Instant::now() + Duration::from_millis(after_ms));
                    seen.slots.push(after_ms);
                    tail.clear();
                }
                tail.drain(..tail.len().saturating_sub(128));
                if to_client.write_all(&piece[..n]).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    }
}

/// The slot that a `go_away` within these bytes gives, in milliseconds.
fn go_away(bytes: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(bytes);
    let (_, frame) = text.split_once(r#""type":"go_away""#)?;
    let (_, number) = frame.split_once(r#""reconnectAfterMs":"#)?;
    let end = number.find('}')?;
    number[..end].parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_by_sigterm_and_no_kill() {
    let settings = Settings::default().set("drain.spread", "\"2s\"").set("drain.patience", "\"5s\"");
    let mut gateway = Gateway::with(settings).await;
    let ledger = Ledger::new();
    let mut doors = JoinSet::new();
    let mut watches = Vec::new();
    for _ in 0..CLIENTS {
        watches.push(Watch::before(gateway.address(), &mut doors).await);
    }
    let fleet =
        Fleet::live(CLIENTS, &tokens::all("fleet"), |number| format!("ws://{}", watches[number].address))
            .await;
    let load = Load::start(HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger.clone()));
    for _ in 0..DRAINS {
        fleet.until_live(CLIENTS).await;
        let goal = ledger.confirmed() + 500;
        until("confirms", async || (ledger.confirmed() >= goal).then_some(())).await;
        gateway.terminate();
        let status = gateway.ended().await;
        assert!(status.success(), "the gateway ended with {status}");
        gateway.start_again().await;
    }
    fleet.until_live(CLIENTS).await;
    load.stop().await;
    let verdict = fleet.judge(&ledger, Duration::from_secs(60)).await;
    let (mut slots, mut early, mut connections) = (Vec::<u64>::new(), Vec::<Duration>::new(), 0);
    for watch in &watches {
        let seen = watch.seen();
        slots.extend(&seen.slots);
        early.extend(seen.early.clone());
        connections += seen.connections;
    }
    slots.sort_unstable();
    println!(
        "{CLIENTS} clients, {DRAINS} drains, {} slots from {:?} to {:?} ms, {} came early, {connections} connections, {} messages\n{verdict}",
        slots.len(),
        slots.first(),
        slots.last(),
        early.len(),
        ledger.confirmed(),
    );
    assert!(early.is_empty(), "before their slots: {early:?}");
    assert_eq!(slots.len(), CLIENTS * DRAINS, "every client is told once a drain");
    assert!(verdict.is_perfect(), "{verdict}");
}
