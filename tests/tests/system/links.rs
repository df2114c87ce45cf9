//! Links that misbehave: whatever a network does to a connection, the ledger stays perfect.

use crate::fleet::{Fleet, Load};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::ledger::Ledger;
use anabranch_tests::proxy::{ChaosProxy, Flow, Side, Weather};
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use std::time::Duration;

const CLIENTS: usize = 20;

/// One-time faults, and lasting ones.
enum Fault {
    Strike(fn(&ChaosProxy)),
    Weather(Weather),
}

fn down(down: Flow) -> Fault {
    Fault::Weather(Weather { down, ..Weather::default() })
}

fn up(up: Flow) -> Fault {
    Fault::Weather(Weather { up, ..Weather::default() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_misbehave_lose_nothing() {
    let settings = Settings::default()
        .set("heartbeat.interval", "\"500ms\"")
        .set("heartbeat.grace", "\"700ms\"")
        .set("limits.ring", "\"1MiB\"");
    let gateway = Gateway::with(settings).await;
    let proxy = ChaosProxy::start(gateway.address()).await.expect("a proxy");
    let ledger = Ledger::new();
    let url = format!("ws://{}", proxy.address());
    let fleet = Fleet::live(CLIENTS, &tokens::all("fleet"), |_| url.clone()).await;
    let load = Load::start(HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger.clone()));
    let faults = [
        ("cut in order", Fault::Strike(ChaosProxy::cut)),
        ("reset", Fault::Strike(ChaosProxy::reset)),
        ("half closed towards the clients", Fault::Strike(|proxy| proxy.half_close(Side::Client))),
        ("half closed towards the gateway", Fault::Strike(|proxy| proxy.half_close(Side::Upstream))),
        ("late", down(Flow::Delay(Duration::from_millis(100)))),
        ("byte by byte, upwards", up(Flow::Bytewise)),
        ("frozen downwards", down(Flow::Stop)),
        ("frozen upwards", up(Flow::Stop)),
        ("refused", Fault::Weather(Weather { refuse: true, ..Weather::default() })),
    ];
    for (name, fault) in faults {
        let connections = proxy.accepted();
        match fault {
            Fault::Strike(strike) => {
                strike(&proxy);
                // Every client has noticed, and come back.
                let back = async || (proxy.accepted() >= connections + CLIENTS as u64).then_some(());
                until(&format!("{name}: new connections"), back).await;
            }
            Fault::Weather(weather) => {
                proxy.set(weather);
                if weather.refuse {
                    proxy.cut_and_refuse();
                }
                if weather.refuse || weather.down == Flow::Stop || weather.up == Flow::Stop {
                    until(&format!("{name}: noticed"), async || (fleet.live_now() == 0).then_some(())).await;
                }
                let goal = ledger.confirmed() + 500;
                until("confirms", async || (ledger.confirmed() >= goal).then_some(())).await;
                proxy.heal();
            }
        }
        fleet.radio();
        fleet.until_live(CLIENTS).await;
    }
    load.stop().await;
    let verdict = fleet.judge(&ledger, Duration::from_secs(60)).await;
    println!(
        "{CLIENTS} clients, 9 faults, {} connections, {} messages\n{verdict}",
        proxy.accepted(),
        ledger.confirmed()
    );
    assert!(verdict.is_perfect(), "{verdict}");
}
