//! A herd of 2,000 clients loses its gateway: nobody comes back before its time, and the times are spread as they should be.
//!
//! What is judged are the moments at which the cores decide, which no load on the machine can move, by a test of their spread that cries wolf less than
//! once in a million runs (`anabranch_tests::spread`). What was dialed is also judged from one side: a loaded machine makes it late, nothing makes it early. The door
//! that all go through counts connections for itself.

use crate::fleet::{Load, Pace};
use anabranch_sdk_core::backoff::{BASE_MS, CAP_MS, FLOOR_MS};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::herd::{Diary, Herd, Moment, Note, Plan, raise_file_limit};
use anabranch_tests::ledger::Ledger;
use anabranch_tests::proxy::ChaosProxy;
use anabranch_tests::publisher::HttpPublisher;
use anabranch_tests::spread::{Spread, even};
use anabranch_tests::tokens;
use anabranch_tests::wait::{met_within, until};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const CLIENTS: usize = 2_000;
/// A client, and both sides of its connection through the door; and what else is open.
const FILES: u64 = 3 * CLIENTS as u64 + 500;
/// Each message goes to all of them.
const PACE: Pace = Pace { batch: 1, every: Duration::from_millis(250) };
/// Until everybody is where it should be, on a machine with other work to do.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of so few draws nothing is known.
const ENOUGH: usize = 200;

/// The clients, their door, and what is published to them.
struct Pasture {
    seed: u64,
    herd: Herd,
    door: ChaosProxy,
    /// How many connections the door had when everyone was live.
    accepted: u64,
    ledger: Arc<Ledger>,
    load: Load,
}

impl Pasture {
    /// Clients that are live on this gateway, and something for them to miss.
    async fn live(gateway: &Gateway) -> Pasture {
        raise_file_limit(FILES);
        let seed = rand::random::<u64>();
        println!("seed {seed}");
        let door = ChaosProxy::start(gateway.address()).await.expect("a door");
        let plan = Plan { clients: CLIENTS, seed, door: door.address(), filter: "plant/#" };
        let herd = Herd::start(&plan, tokens::all);
        assert!(met_within(PATIENCE, async || herd.live() == CLIENTS).await, "{} are live", herd.live());
        let accepted = door.accepted();
        let ledger = Ledger::new();
        let publisher = HttpPublisher::new(gateway.address(), &tokens::all("plant"), ledger.clone());
        let load = Load::at(PACE, publisher);
        until("confirms", async || (ledger.confirmed() >= 4).then_some(())).await;
        Pasture { seed, herd, door, accepted, ledger, load }
    }

    fn all(&self, met: impl Fn(&Diary) -> bool) -> bool {
        self.herd.diaries().all(|diary| met(&diary))
    }

    /// Waits until all have come again since that moment, and judges what they saw and who came early.
    async fn all_back(self, since: Moment, gateway: &Gateway) -> Herd {
        let back = || self.herd.diaries().filter(|diary| diary.is_back(since)).count();
        assert!(met_within(PATIENCE, async || back() == CLIENTS).await, "{} of {CLIENTS} are back", back());
        let more = self.ledger.confirmed() + 4;
        until("confirms", async || (self.ledger.confirmed() >= more).then_some(())).await;
        self.load.stop().await;
        let verdict = self.herd.judge(&self.ledger, PATIENCE).await;
        println!("{} messages: {verdict}", self.ledger.confirmed());
        assert!(verdict.is_perfect(), "{verdict}");
        assert_eq!(verdict.expected_and_seen, (CLIENTS * self.ledger.confirmed()) as u64, "everyone saw all");

        let early: Vec<u64> = self.herd.diaries().flat_map(|diary| diary.early()).collect();
        assert!(early.is_empty(), "early, by milliseconds: {early:?}");
        let refused = self.herd.diaries().flat_map(|diary| diary.notes.clone());
        let refused: Vec<Note> = refused.filter(|note| matches!(note, Note::Refused(_))).collect();
        assert!(refused.is_empty(), "{refused:?}");
        let count = |one: fn(&Note) -> bool| -> usize {
            self.herd.diaries().map(|diary| diary.since(since).filter(one).count()).sum()
        };
        let dialed = count(|note| matches!(note, Note::Dial { .. }));
        let opened = count(|note| matches!(note, Note::Open { .. }));
        let at_the_door = (self.door.accepted() - self.accepted) as usize;
        println!("{dialed} attempts, {at_the_door} connections at the door, {opened} opened");
        // A gateway that ends may still take a connection and not answer it.
        assert!(
            (opened..=dialed).contains(&at_the_door),
            "the door has seen something else than the diaries say"
        );
        // Each has one connection, at the door as at the gateway.
        let one_each = async || {
            let open = gateway.metric("anabranch_connections").await;
            (self.door.connections() == CLIENTS && open == Some(CLIENTS as f64)).then_some(())
        };
        until("one connection for each", one_each).await;
        self.herd
    }
}

/// The share of a herd that should be back at `x`, if slots lie evenly from 0 to 1 and up to a fifth is added to each.
fn slots_and_a_fifth(x: f64) -> f64 {
    match x {
        ..=0.0 => 0.0,
        ..=1.0 => 5.0 * x * 1.2_f64.ln(),
        ..1.2 => 5.0 * (x * (1.2 / x).ln() + x - 1.0),
        _ => 1.0,
    }
}

/// The slots that were given since that moment over `spread` milliseconds, what the cores made of them, and when they came.
fn judge_slots(herd: &Herd, since: Moment, spread: u64, seed: u64) {
    let share = |ms: u64| ms as f64 / spread as f64;
    let told: Vec<(Moment, u64, Moment)> =
        herd.diaries().map(|diary| diary.slot_since(since).expect("a slot for each")).collect();
    let mut slots: Vec<u64> = told.iter().map(|(_, after, _)| *after).collect();
    slots.sort_unstable();
    assert!(slots.windows(2).all(|pair| pair[0] < pair[1]), "two clients have one slot: {slots:?}");
    assert!(slots.last().is_some_and(|last| *last <= spread), "{slots:?}");

    let given = Spread::of(slots.into_iter().map(share)).against(even);
    let added = told.iter().map(|(at, after, until)| {
        // One is for what the clock rounds off, the rest is drawn.
        let added = until.checked_sub(at + after + 1);
        (added.expect("nobody means to come before its slot"), after / 5)
    });
    let added = Spread::of_draws(added, seed).against(even);
    let meant = Spread::of(told.iter().map(|(at, _, until)| share(until - at))).against(slots_and_a_fifth);
    // The clock counts whole milliseconds.
    let first = |diary: &Diary| diary.dials_since(since).next().expect("an attempt") + 1 - since;
    let dialed = Spread::of(herd.diaries().map(|diary| share(first(&diary))));
    let came = dialed.against(slots_and_a_fifth);
    println!("slots given: {given}\nadded by the cores: {added}\nmeant: {meant}\ndialed: {came}");
    println!("first attempts, in spreads of {spread} ms:\n{}", dialed.histogram(1.2, 24, slots_and_a_fifth));
    assert!(given.is_chance(), "slots given: {given}");
    assert!(added.is_chance(), "added by the cores: {added}");
    assert!(meant.is_chance(), "meant: {meant}");
    assert!(came.is_late_at_most(), "dialed: {came}");
}

/// The waits that the cores drew since that moment: evenly up to a ceiling that doubles with each attempt. How many were drawn after so many attempts.
fn judge_backoff(herd: &Herd, since: Moment, seed: u64) -> BTreeMap<u32, usize> {
    let mut draws: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    for (ms, attempts) in herd.diaries().flat_map(|diary| diary.draws_since(since)) {
        let ceiling = (BASE_MS << (attempts - 1)).min(CAP_MS);
        let above = ms.checked_sub(FLOOR_MS).expect("no attempt before the floor");
        draws.entry(attempts).or_default().push((above, ceiling - FLOOR_MS));
    }
    let counts: BTreeMap<u32, usize> =
        draws.iter().map(|(attempts, draws)| (*attempts, draws.len())).collect();
    for (attempts, draws) in draws.into_iter().filter(|(_, draws)| draws.len() >= ENOUGH) {
        let distance = Spread::of_draws(draws, seed).against(even);
        println!("waits after attempt {attempts}: {distance}");
        assert!(distance.is_chance(), "after attempt {attempts}: {distance}");
    }
    println!("waits after so many attempts: {counts:?}");
    counts
}

/// Drained: everyone is given a slot, and its connection ends. The gateway is back before most slots are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drained_and_started_again_and_not_killed() {
    const SPREAD: u64 = 6_000;
    raise_file_limit(FILES);
    let settings = Settings::default().set("drain.spread", &format!("\"{SPREAD}ms\""));
    let mut gateway = Gateway::with(settings).await;
    let pasture = Pasture::live(&gateway).await;

    let (seed, since) = (pasture.seed, pasture.herd.now());
    gateway.terminate();
    let status = gateway.ended().await;
    assert!(status.success(), "the gateway ended with {status}");
    gateway.start_again().await;
    let herd = pasture.all_back(since, &gateway).await;
    judge_slots(&herd, since, SPREAD, seed);
    // Of those whose slots came while the gateway was away.
    judge_backoff(&herd, since, seed);
}

/// Killed: there are no slots, and the cores' jitter alone keeps them apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_started_again() {
    raise_file_limit(FILES);
    let mut gateway = Gateway::start().await;
    let pasture = Pasture::live(&gateway).await;

    let (seed, since) = (pasture.seed, pasture.herd.now());
    gateway.kill().await;
    // Everybody has tried in vain, and waits again.
    let twice = async || pasture.all(|diary| diary.draws_since(since).len() >= 2);
    assert!(met_within(PATIENCE, twice).await, "not everybody has tried again");
    gateway.start_again().await;
    let herd = pasture.all_back(since, &gateway).await;

    let counts = judge_backoff(&herd, since, seed);
    // On a very busy machine some had to try twice before they were first live.
    assert!(counts.get(&1).is_some_and(|count| *count > CLIENTS / 2), "{counts:?}");
    let window = (BASE_MS - FLOOR_MS) as f64;
    let first = |diary: &Diary| diary.dials_since(since).next().expect("an attempt") + 1 - since;
    let dialed = Spread::of(herd.diaries().map(|diary| (first(&diary) as f64 - FLOOR_MS as f64) / window));
    let came = dialed.against(even);
    println!(
        "dialed: {came}\nfirst attempts, in windows of {window} ms:\n{}",
        dialed.histogram(1.2, 24, even)
    );
    assert!(came.is_late_at_most(), "dialed: {came}");
}
