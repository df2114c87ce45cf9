//! SIGKILL, again and again, under load: nothing is lost unannounced, nothing comes twice, nothing out of order.

use crate::fleet::{Fleet, Load, Member};
use anabranch_tests::gateway_process::Gateway;
use anabranch_tests::ledger::Ledger;
use anabranch_tests::publisher::{HttpPublisher, SdkPublisher};
use anabranch_tests::tokens;
use anabranch_tests::wait::until;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

const CLIENTS: usize = 100;
const KILLS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_and_restart_20_times_under_load() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut gateway = Gateway::start().await;
    let ledger = Ledger::new();
    let url = gateway.url();
    let fleet = Fleet::live(CLIENTS, &tokens::all("fleet"), |_| url.clone()).await;

    let began = Instant::now();
    let load = Load::start(HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger.clone()));
    // Two of the clients publish, too, with the SDK's own retries.
    let publisher = |member: &Member| SdkPublisher::new(member.client.clone(), ledger.clone());
    let sdk_loads: Vec<Load> =
        fleet.members[..2].iter().map(|member| Load::start_sdk(publisher(member))).collect();

    let mut live_at_kill = 0;
    for round in 0..KILLS {
        // Kills follow progress, not time: most clients are back, and so many more messages are confirmed.
        fleet.until_live(CLIENTS * 2 / 3).await;
        let more = random.random_range(500..4_000);
        let goal = ledger.confirmed() + more;
        until("confirms", async || (ledger.confirmed() >= goal).then_some(())).await;
        live_at_kill += fleet.live_now();
        gateway.kill().await;
        gateway.start_again().await;
        // A device whose radio comes back tries at once. Every fifth does not know, and waits out its backoff.
        for (number, member) in fleet.members.iter().enumerate() {
            if (number + round) % 5 != 0 {
                member.client.pause("radio");
                member.client.resume("radio");
            }
        }
    }
    fleet.until_live(CLIENTS * 2 / 3).await;
    fleet.members.iter().for_each(|member| member.client.wake());
    let retries = load.stop().await;
    for load in sdk_loads {
        load.stop().await;
    }
    let took = began.elapsed().as_secs_f64();
    let verdict = fleet.judge(&ledger, Duration::from_secs(60)).await;
    let confirmed = ledger.confirmed();
    println!(
        "{CLIENTS} clients, {KILLS} kills, {confirmed} messages in {:.1} s ({:.0}/s), {} live clients at a kill on average, \
         {retries} publishes retried\n{verdict}",
        took,
        confirmed as f64 / took,
        live_at_kill / KILLS,
    );
    assert!(verdict.is_perfect(), "{verdict}");
    assert!(confirmed >= KILLS * 500);
}
