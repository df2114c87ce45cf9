//! Blocks of frames, handed to 1,000 live connections of one topic: ring, interest, due ranges, pieces and the call that sends
//! them, turn by turn, as a shard does it. Half of the blocks hold 32 frames, half a single one; the ring is so small that it
//! evicts.

use crate::{TOPIC, envelope, node, token};
use anabranch_gateway::hub::block::Block;
use anabranch_gateway::hub::newest::Values;
use anabranch_gateway::log::{MessageKey, Record};
use anabranch_gateway::node::Node;
use anabranch_gateway::shard::{Arrival, Shard, ShardEvent, ShardHandle};
use anabranch_gateway::socket::Socket;
use anabranch_gateway::socket::header::{Opcode, write_header};
use anabranch_protocol::client_frame::{ClientFrame, Hello, StartAt, Subscribe};
use anabranch_protocol::cursor::{Cursor, Fingerprint, Offset, Position};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

const CONNECTIONS: usize = 1_000;
const BLOCKS: u64 = 100;
const FRAMES: u64 = 32;
const RING_BYTES: usize = 256 * 1024;

type Running<'r> = Pin<&'r mut dyn Future<Output = ()>>;

pub fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let _context = runtime.enter();
    let node = node(RING_BYTES);
    let head = Cursor::beginning(node.log.id());
    let (shard, handle) = Shard::new(Arc::clone(&node), head.clone(), Values::new(0));
    let mut running = std::pin::pin!(shard.run());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let deaf = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let witness = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    connect(&node, &handle, &deaf, &witness);
    // Sockets are known to be writable once the runtime has asked the kernel.
    let mut idle = 0;
    while idle < 10 {
        let _ = running.as_mut().poll(&mut cx);
        runtime.block_on(tokio::task::yield_now());
        idle = if woken.take() { 0 } else { idle + 1 };
    }
    let greetings = heard(&witness).expect("an answer to its hello");
    assert!(greetings.contains("caught_up"), "it is live: {greetings}");

    let mut seen = 0;
    let blocks = blocks(&head);
    for block in blocks {
        let (frames, bytes) = (block.len(), block.end(block.len() - 1));
        counted(running.as_mut(), &mut cx, &woken, &handle, Arc::new(block));
        assert_eq!(heard(&witness).map_or(0, |text| text.len()), bytes, "a whole block in one write");
        seen += frames;
    }
    println!("fan-out: {BLOCKS} blocks, {seen} frames, {CONNECTIONS} connections");
}

/// One block, until it is with all connections.
#[inline(never)]
fn counted(
    mut shard: Running<'_>,
    cx: &mut Context<'_>,
    woken: &Woken,
    handle: &ShardHandle,
    block: Arc<Block>,
) {
    handle.mailbox().push(ShardEvent::Block(block));
    while woken.take() {
        let _ = shard.as_mut().poll(cx);
    }
}

/// Connects clients whose upgrade is behind them, and who say hello.
///
/// Their sockets are datagram sockets, which the shard cannot tell from streams: one end is enough for all, which nobody reads,
/// and no write ever waits. So the count has no retries in it. The last one sends to `witness`.
fn connect(node: &Node, handle: &ShardHandle, deaf: &UdpSocket, witness: &UdpSocket) {
    let hello = hello();
    for number in 0..CONNECTIONS {
        let peer = if number + 1 == CONNECTIONS { witness } else { deaf };
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.connect(peer.local_addr().expect("an address")).expect("connected");
        socket.set_nonblocking(true).expect("non-blocking");
        let stream = std::net::TcpStream::from(OwnedFd::from(socket));
        let stream = tokio::net::TcpStream::from_std(stream).expect("registered");
        let seat = node.registry.seat(Ipv4Addr::LOCALHOST.into()).expect("room");
        handle.connect(Arrival { socket: Socket::Plain(stream), early: hello.clone().into(), seat });
    }
}

/// The frame that says hello and subscribes, masked with zeros.
fn hello() -> Vec<u8> {
    let text = ClientFrame::Hello(Hello {
        token: token().into(),
        client_id: "counted".into(),
        sdk: "none".into(),
        cursor: None,
        subscriptions: vec![Subscribe {
            id: 1,
            filter: TOPIC.into(),
            start: StartAt::Now,
            ..Subscribe::default()
        }],
    })
    .to_json();
    let mut bytes = Vec::new();
    write_header(&mut bytes, Opcode::Text, text.len());
    bytes[1] |= 0x80;
    bytes.extend([0; 4]);
    bytes.extend(text.as_bytes());
    bytes
}

fn blocks(head: &Cursor) -> Vec<Block> {
    let mut before = head.clone();
    let mut offset = 0;
    let block = |number| {
        let frames = if number % 2 == 0 { FRAMES } else { 1 };
        let records: Vec<Record> = (1..=frames).map(|n| record(offset + n)).collect();
        offset += frames;
        let block = Block::encode(before.clone(), &records);
        before.advance(records[records.len() - 1].position);
        block
    };
    (0..BLOCKS).map(block).collect()
}

fn record(offset: u64) -> Record {
    Record {
        position: Position {
            partition: 0,
            offset: Offset(1_000_000 + offset),
            fingerprint: Some(Fingerprint(0x00c0_ffee)),
        },
        time: 0,
        topic: TOPIC.into(),
        key: MessageKey::new(TOPIC, &offset.to_string()),
        envelope: envelope(offset).into(),
    }
}

/// All that has come, if anything has.
fn heard(witness: &UdpSocket) -> Option<String> {
    witness.set_nonblocking(true).expect("non-blocking");
    let mut buffer = vec![0; 65_536];
    let mut text = None;
    while let Ok(len) = witness.recv(&mut buffer) {
        // Headers are not text; each byte becomes one character all the same.
        text.get_or_insert_with(String::new).extend(buffer[..len].iter().map(|&b| char::from(b & 0x7f)));
    }
    text
}

/// Whether the shard wants another turn.
#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
