//! When a running program should end.

use tokio::sync::oneshot;

/// Waits for Ctrl-C or SIGTERM, and `with_stdin` for the end of standard input too: a parent process holds the other end
/// of that pipe, and however it dies, no gateway is left behind. Call it in a tokio runtime with I/O, once. Cancel safe.
pub async fn stop_asked(with_stdin: bool) {
    let stdin_ends = async {
        if !with_stdin {
            return std::future::pending().await;
        }
        // A thread of its own: tokio's would keep the process alive until the read returns.
        let (ended, waiting) = oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            let _ = ended.send(());
        });
        let _ = waiting.await;
    };
    tokio::select! {
        () = stdin_ends => tracing::info!("standard input ended: stopping"),
        name = signalled() => tracing::info!(signal = name, "asked to stop"),
    }
}

#[cfg(unix)]
async fn signalled() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(mut interrupt), Ok(mut terminate)) => tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        },
        // Without a handler the system's own ends the process, without a drain.
        _ => std::future::pending().await,
    }
}

#[cfg(not(unix))]
async fn signalled() -> &'static str {
    match tokio::signal::ctrl_c().await {
        Ok(()) => "Ctrl-C",
        Err(_) => std::future::pending().await,
    }
}
