//! An address that leads to one server, and later to another, as a virtual address or a balancer does.

use std::sync::{Arc, Mutex};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards connections. What is open breaks when the target changes.
pub struct Relay {
    pub port: u16,
    target: Arc<Mutex<u16>>,
    changes: watch::Sender<()>,
}

impl Relay {
    /// To a port on this machine.
    pub async fn to(port: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let relay = Relay {
            port: listener.local_addr().expect("an address").port(),
            target: Arc::new(Mutex::new(port)),
            changes: watch::Sender::new(()),
        };
        let (target, changes) = (relay.target.clone(), relay.changes.subscribe());
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let port = *target.lock().expect("not poisoned");
                let mut changes = changes.clone();
                changes.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut there) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut here, &mut there) => {}
                        _ = changes.changed() => {}
                    }
                });
            }
        });
        relay
    }

    /// From now on to another.
    pub fn switch(&self, port: u16) {
        *self.target.lock().expect("not poisoned") = port;
        self.changes.send_modify(|()| {});
    }
}
