//! A fleet of SDK clients, each with a witness, over the topics of a plant, and the load that is published to these.

use anabranch::{Client, Event, Phase};
use anabranch_tests::ledger::{Ledger, Verdict, Witness};
use anabranch_tests::publisher::{HttpPublisher, SdkPublisher};
use anabranch_tests::wait::{met_within, until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::task::{JoinHandle, JoinSet};

const HALLS: usize = 10;
const KINDS: [&str; 5] = ["temperature", "pressure", "flow", "alarm", "state"];

/// The topics that are published to, in turn.
pub fn topics() -> Vec<String> {
    let hall = |hall| KINDS.iter().map(move |kind| format!("plant/{hall}/{kind}"));
    (0..HALLS).flat_map(hall).collect()
}

/// How fast a publisher works: in batches.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub batch: usize,
    pub every: Duration,
}

/// 2,000 messages a second.
const PACE: Pace = Pace { batch: 40, every: Duration::from_millis(20) };

/// A publisher at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    publishing: JoinHandle<u64>,
}

impl Load {
    pub fn start(publisher: HttpPublisher) -> Load {
        Load::at(PACE, publisher)
    }

    /// At another pace.
    pub fn at(pace: Pace, mut publisher: HttpPublisher) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let publishing = tokio::spawn(async move {
            let topics = topics();
            let mut turn = topics.iter().map(String::as_str).cycle();
            // What an outage holds up is made up for afterwards, so that the average is the same.
            let mut ticks = tokio::time::interval(pace.every);
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                let batch: Vec<&str> = turn.by_ref().take(pace.batch).collect();
                publisher.publish(&batch).await;
            }
            publisher.retries()
        });
        Load { stop, publishing }
    }

    /// A few more messages a second, through an SDK, one after the other.
    pub fn start_sdk(publisher: SdkPublisher) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let publishing = tokio::spawn(async move {
            let topics = topics();
            let mut turn = topics.iter().cycle();
            let mut ticks = tokio::time::interval(PACE.every);
            while let Some(topic) = turn.next().filter(|_| !stopped.load(Ordering::Relaxed)) {
                ticks.tick().await;
                publisher.publish(topic).await;
            }
            0
        });
        Load { stop, publishing }
    }

    /// Stops when everything is confirmed; how many requests had to be sent again.
    pub async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.publishing.await.expect("the publisher")
    }
}

/// Which filter the client of this number has: of 100 clients, 5 want everything, 10 one kind of all halls, 25 all of one
/// hall, and 60 one topic.
fn filter(number: usize) -> String {
    match number % 20 {
        0 => "plant/#".into(),
        1 | 2 => format!("plant/+/{}", KINDS[number / 20 % KINDS.len()]),
        3..8 => format!("plant/{}/#", number % HALLS),
        _ => format!("plant/{}/{}", number % HALLS, KINDS[number / HALLS % KINDS.len()]),
    }
}

/// A client, its one subscription, and what its app saw.
pub struct Member {
    pub client: Client,
    witness: Arc<Mutex<Witness>>,
}

impl Member {
    pub fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn is_live(&self) -> bool {
        self.client.state().phase == Phase::Live
    }
}

/// The clients of one test. Dropping it ends them.
pub struct Fleet {
    pub members: Vec<Member>,
    /// The apps: each takes its subscription's events to its witness.
    _apps: JoinSet<()>,
}

impl Fleet {
    /// As many clients, of which each goes where `url` says. All are live when it returns.
    pub async fn live(clients: usize, token: &str, mut url: impl FnMut(usize) -> String) -> Fleet {
        let mut apps = JoinSet::new();
        let mut members = Vec::new();
        for number in 0..clients {
            let builder = Client::builder(url(number)).token(token).client_id(format!("client-{number}"));
            let client = builder.build().expect("a client");
            let filter = filter(number);
            let mut subscription = client.subscribe(&filter).open().expect("a subscription");
            let witness = Arc::new(Mutex::new(Witness::new(&filter)));
            let app = Arc::clone(&witness);
            apps.spawn(async move {
                while let Some(event) = subscription.next().await {
                    if matches!(event, Event::Closed(anabranch::Closed::Client)) {
                        return;
                    }
                    app.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).event(&event);
                }
            });
            client.connect();
            members.push(Member { client, witness });
        }
        let fleet = Fleet { members, _apps: apps };
        fleet.until_live(clients).await;
        fleet
    }

    /// Waits until at least so many are live.
    pub async fn until_live(&self, clients: usize) {
        until(&format!("{clients} live clients"), async || (self.live_now() >= clients).then_some(())).await;
    }

    /// Every client that is not connected tries at once, as when a device's radio comes back.
    pub fn radio(&self) {
        for member in self.members.iter().filter(|member| member.client.state().phase == Phase::Offline) {
            member.client.pause("radio");
            member.client.resume("radio");
        }
    }

    pub fn live_now(&self) -> usize {
        self.members.iter().filter(|member| member.is_live()).count()
    }

    /// Waits until nothing that was confirmed is still to come, at most so long, and judges.
    pub async fn judge(&self, ledger: &Ledger, patience: Duration) -> Verdict {
        let mut total = Verdict::default();
        let deadline = tokio::time::Instant::now() + patience;
        for member in &self.members {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            // Under load the next look may find something newly confirmed: the look that was satisfied counts.
            let mut verdict = Verdict::default();
            let complete = async || {
                verdict = ledger.judge(&member.witness());
                verdict.lost_unannounced == 0
            };
            met_within(left, complete).await;
            total += verdict;
        }
        total
    }
}
