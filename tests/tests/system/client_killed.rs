//! A client with a store is killed again and again, at any moment: what its app is shown, and what became of what it said.

use anabranch::{Client, Event, Start};
use anabranch_tests::gateway_process::Gateway;
use anabranch_tests::tokens;
use anabranch_tests::wait::within;
use futures_util::{StreamExt, stream};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const KILLS: u64 = 200;

/// A process with one client, and what it says.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    Got(u64),
    Said(u64),
}

impl Process {
    fn start(url: &str, store: &Path, next: u64) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kept-client"));
        command.args([url, &tokens::all("killed")]).arg(store).arg(next.to_string());
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("a process");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Process { child, lines }
    }

    /// What it says next; `None` at its end.
    async fn line(&mut self) -> Option<Line> {
        let line = within("a line", self.lines.next_line()).await.expect("text")?;
        let (what, number) = line.split_once(' ').expect("two words");
        let number = || number.parse().unwrap_or_else(|_| panic!("{line}"));
        Some(match what {
            "got" => Line::Got(number()),
            "said" => Line::Said(number()),
            _ => panic!("{line}"),
        })
    }

    /// Kills it, and reads what it said before.
    async fn kill(mut self) -> Vec<Line> {
        self.child.start_kill().expect("killed");
        let mut rest = Vec::new();
        while let Some(line) = self.line().await {
            rest.push(line);
        }
        within("its end", self.child.wait()).await.expect("ended");
        rest
    }
}

/// What the app has seen and said over all its processes.
#[derive(Default)]
struct Account {
    got: u64,
    /// Of this process, nothing yet.
    fresh: bool,
    repeated: u64,
    said: Vec<u64>,
}

impl Account {
    fn enter(&mut self, line: Line) {
        match line {
            Line::Said(number) => self.said.push(number),
            Line::Got(number) => {
                // The event that the app had in hand when it was killed, and no other, may come again.
                let again = std::mem::take(&mut self.fresh) && number == self.got;
                self.repeated += u64::from(again);
                assert!(again || number == self.got + 1, "{number} after {}", self.got);
                self.got = number;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_killed_200_times_misses_nothing_and_loses_nothing_that_it_said() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);

    let other = Client::builder(gateway.url()).token(tokens::all("other")).build().expect("a client");
    other.connect();
    let mut said = other.subscribe("said").from(Start::Earliest).open().expect("a subscription");
    let published = Arc::new(AtomicU64::new(0));
    let publishing = tokio::spawn({
        let (other, published) = (other.clone(), published.clone());
        async move {
            let sends = (1u64..).map(|number| {
                let send = other.publish("heard/x").json(&number).expect("JSON").send();
                async move { send.await.map(|_| number).expect("a confirm") }
            });
            let mut confirms = stream::iter(sends).buffered(1);
            while let Some(number) = confirms.next().await {
                published.store(number, Ordering::Relaxed);
            }
        }
    });

    let mut account = Account::default();
    for round in 0..KILLS {
        account.fresh = true;
        let mut process = Process::start(&gateway.url(), &store, (round + 1) * 10_000);
        for _ in 0..random.random_range(1..60) {
            account.enter(process.line().await.expect("it lives"));
        }
        process.kill().await.into_iter().for_each(|line| account.enter(line));
    }
    publishing.abort();
    // Cancelled, it has at most one under way.
    let last = published.load(Ordering::Relaxed);
    assert!(account.got > KILLS, "it got something each time");

    account.fresh = true;
    let mut process = Process::start(&gateway.url(), &store, (KILLS + 1) * 10_000);
    while account.got < last {
        account.enter(process.line().await.expect("it lives"));
    }
    process.kill().await.into_iter().for_each(|line| account.enter(line));
    let mut process = Process::start(&gateway.url(), &store, (KILLS + 2) * 10_000);
    let end = loop {
        if let Line::Said(number) = process.line().await.expect("it lives") {
            break number;
        }
    };

    // The outbox is in order on its topic: behind this one, all before it have been published.
    let mut copies: BTreeMap<u64, u32> = BTreeMap::new();
    while !copies.contains_key(&end) {
        if let Event::Message(message) = within("what it said", said.next()).await.expect("it goes on") {
            *copies.entry(message.json().expect("a number")).or_default() += 1;
        }
    }
    let lost: Vec<&u64> = account.said.iter().filter(|number| !copies.contains_key(number)).collect();
    assert!(lost.is_empty(), "{} lost: {lost:?}", lost.len());
    assert!(copies.values().all(|copies| *copies == 1), "{copies:?}");
    println!(
        "{} messages got, {} of them once more; {} said, {} published",
        account.got,
        account.repeated,
        account.said.len(),
        copies.len()
    );
}
