use super::*;
use std::future::Future;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(10);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: nothing within {DEADLINE:?}"))
}

/// A server that sends everything back, a proxy before it, and a client of the proxy.
async fn echo() -> (ChaosProxy, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let proxy = ChaosProxy::start(upstream).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    (proxy, client)
}

async fn round_trip(client: &mut TcpStream, text: &[u8]) {
    client.write_all(text).await.unwrap();
    let mut back = vec![0; text.len()];
    soon("the echo", client.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, text);
}

#[tokio::test]
async fn it_forwards_in_any_size_of_pieces() {
    let (proxy, mut client) = echo().await;
    let text: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
    for flow in [Flow::Pass, Flow::Bytewise, Flow::Delay(Duration::from_millis(1)), Flow::Throttle(2_000_000)]
    {
        proxy.set(Weather { up: flow, down: Flow::Pass, refuse: false });
        round_trip(&mut client, &text[..1000]).await;
    }
    proxy.heal();
    let (mut read, mut write) = client.split();
    let mut back = vec![0; text.len()];
    let (_, wrote) =
        soon("a long echo", async { tokio::join!(read.read_exact(&mut back), write.write_all(&text)) }).await;
    wrote.unwrap();
    assert_eq!(back, text);
    assert_eq!(proxy.forwarded(), (104_000, 104_000));
}

#[tokio::test]
async fn frozen_bytes_arrive_after_healing() {
    let (proxy, mut client) = echo().await;
    round_trip(&mut client, b"before").await;
    proxy.freeze();
    client.write_all(b"meanwhile").await.unwrap();
    let mut back = [0; 9];
    // Another connection through another proxy takes its whole round trip, and this one still stands.
    let (_other, mut witness) = echo().await;
    round_trip(&mut witness, b"witness").await;
    assert_eq!(client.try_read(&mut back).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(proxy.connections(), 1);
    proxy.heal();
    soon("what was frozen", client.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"meanwhile");
}

#[tokio::test]
async fn one_way_stops_one_way() {
    let (proxy, mut client) = echo().await;
    round_trip(&mut client, b"before").await;
    proxy.set(Weather { up: Flow::Pass, down: Flow::Stop, refuse: false });
    client.write_all(b"lost?").await.unwrap();
    let arrived = async {
        while proxy.forwarded().0 < 11 {
            tokio::task::yield_now().await;
        }
    };
    soon("the way up", arrived).await;
    assert_eq!(proxy.forwarded().1, 6);
}

#[tokio::test]
async fn a_cut_is_an_orderly_end_and_refusing_lasts_until_healed() {
    let (proxy, mut client) = echo().await;
    round_trip(&mut client, b"before").await;
    proxy.cut_and_refuse();
    assert_eq!(soon("the end", client.read(&mut [0; 8])).await.unwrap(), 0);
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(soon("the refusal", refused.read(&mut [0; 8])).await.is_err());
    proxy.heal();
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut again, b"after").await;
    assert_eq!(proxy.accepted(), 2);
}

#[tokio::test]
async fn a_reset_is_an_error() {
    let (proxy, mut client) = echo().await;
    round_trip(&mut client, b"before").await;
    proxy.reset();
    let error = soon("the reset", client.read(&mut [0; 8])).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn stranded_connections_stay_open_and_silent_while_new_ones_pass() {
    let (proxy, mut client) = echo().await;
    round_trip(&mut client, b"before").await;
    proxy.strand();
    client.write_all(b"lost").await.unwrap();
    let mut again = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut again, b"anew").await;
    proxy.heal();
    round_trip(&mut again, b"more").await;
    assert_eq!(client.try_read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!((proxy.connections(), proxy.forwarded()), (2, (14, 14)));
}

#[tokio::test]
async fn after_a_half_close_the_other_half_works() {
    let (proxy, mut client) = echo().await;
    round_trip(&mut client, b"before").await;
    proxy.half_close(Side::Client);
    assert_eq!(soon("the half close", client.read(&mut [0; 8])).await.unwrap(), 0);
    client.write_all(b"still heard").await.unwrap();
    let heard = async {
        while proxy.forwarded().0 < 17 {
            tokio::task::yield_now().await;
        }
    };
    soon("the other half", heard).await;
}

#[tokio::test]
async fn new_connections_go_where_the_upstream_is_now() {
    let (proxy, _client) = echo().await;
    let (other, _) = echo().await;
    proxy.retarget(other.address());
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    round_trip(&mut client, b"elsewhere").await;
    assert_eq!(other.forwarded(), (9, 9));
}
