//! The client used from a thread that has no runtime, by an executor that knows nothing of tokio, as another language's runtime would.

use anabranch::shadow::Settled;
use anabranch::{Client, Event, Progress, Start, TokenWhy};
use anabranch_gateway::testing::Playground;
use serde_json::{Value, json};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

const PATIENCE: Duration = Duration::from_secs(30);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor there is.
fn wait<T>(what: &str, future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Before it is asked again: what comes without a wake has not come.
        assert!(!left.is_zero(), "waited in vain for {what}");
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        thread::park_timeout(left);
    }
}

fn world() -> (Runtime, Playground) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let gateway = runtime.block_on(Playground::start());
    (runtime, gateway)
}

#[test]
fn everything_works_without_a_runtime_and_without_callbacks() {
    let (runtime, gateway) = world();
    assert!(tokio::runtime::Handle::try_current().is_err());
    let (builder, mut requests) = Client::builder(gateway.url()).token_requests();
    let client = builder.runtime(runtime.handle().clone()).build().expect("a client");
    client.connect();
    let request = wait("a request for a token", requests.next()).expect("one");
    assert_eq!(request.why(), TokenWhy::First);
    request.answer(gateway.token());
    wait("live", client.wait_live(PATIENCE)).expect("live");

    let sent = client.publish("a/b").payload_text("1").send();
    wait("a confirm", sent).expect("stored");
    let mut all = client.subscribe("a/#").from(Start::Earliest).open().expect("a filter");
    let message = wait("a message", all.next_message()).expect("one");
    assert_eq!(message.payload_text(), "1");

    let mut serving = client.serve_commands("iotsphere", "d1").open().expect("a journal");
    wait("live again", client.wait_live(PATIENCE)).expect("live");
    let commands = client.commands("iotsphere", "dev").expect("a filter");
    let mut job = commands.send("d1", "double", &21, PATIENCE).expect("queued");
    let request = wait("a command", serving.next_request()).expect("served").expect("one");
    serving.answer(Ok(json!(2 * request.json::<i64>().expect("a number")))).expect("written");
    assert_eq!(wait("the answer", job.ended()), Progress::Done("42".into()));

    let shadow = client.shadow("d1").open().expect("a device");
    wait("the shadow", shadow.ready());
    let wish = json!({ "on": true });
    let mut change = wait("the outbox", shadow.set_desired(&wish)).expect("queued");
    assert_eq!(wait("too short a time", change.settled(Duration::from_millis(1))), Settled::StillPending);
    wait("a report", shadow.report(&wish)).expect("stored");
    let settled = wait("the end", change.settled(PATIENCE));
    assert!(matches!(settled, Settled::Applied { .. }), "{settled:?}");
    assert_eq!(wait("the same", change.settled(PATIENCE)), settled, "asked again, it says the same");
    assert_eq!(shadow.view().reported::<Value>().expect("JSON"), wish);
    wait("the end", client.close());
    assert!(wait("the end of requests", requests.next()).is_none());
}

#[test]
fn a_subscription_is_ended_while_another_thread_waits_for_it() {
    let (runtime, gateway) = world();
    let builder = Client::builder(gateway.url()).token(gateway.token()).runtime(runtime.handle().clone());
    let client = builder.build().expect("a client");
    client.connect();
    let mut all = client.subscribe("a/#").keep_as("all").open().expect("a filter");
    let handle = all.handle();
    let reading = thread::spawn(move || {
        let mut seen = 0;
        while let Some(event) = wait("an event", all.next_event()) {
            seen += usize::from(matches!(event, Event::Message(_)));
        }
        (seen, all)
    });
    wait("live", client.wait_live(PATIENCE)).expect("live");
    wait("a confirm", client.publish("a").send()).expect("stored");
    // It has come when the cursor covers it, for which the reader asks for the next.
    let published = wait("a confirm", client.publish("a").send()).expect("stored").position;
    let deadline = Instant::now() + PATIENCE;
    while !handle.cursor().is_some_and(|cursor| cursor.includes(published)) {
        assert!(Instant::now() < deadline, "the reader does not come to it");
        thread::yield_now();
    }
    handle.set_max_hz(1.0);
    handle.close();
    let (seen, ended) = reading.join().expect("no panic");
    assert!(seen == 2 && handle.cursor().is_some_and(|cursor| cursor.includes(published)));
    // The name is free, and stays the new one's when the old one goes.
    let again = client.subscribe("a/#").keep_as("all").open().expect("a free name");
    drop(ended);
    handle.close();
    assert!(client.subscribe("a/#").keep_as("all").open().is_err());
    drop(again);
    assert!(client.subscribe("a/#").keep_as("all").open().is_ok());
}

#[test]
fn a_command_without_an_answer_has_failed() {
    let (runtime, gateway) = world();
    let builder = Client::builder(gateway.url()).token(gateway.token()).runtime(runtime.handle().clone());
    let client = builder.build().expect("a client");
    client.connect();
    let mut serving = client.serve_commands("iotsphere", "d1").open().expect("a journal");
    wait("live", client.wait_live(PATIENCE)).expect("live");
    let commands = client.commands("iotsphere", "dev").expect("a filter");
    let mut jobs = ["one", "two"].map(|name| commands.send("d1", name, &(), PATIENCE).expect("queued"));
    for name in ["one", "two"] {
        let request = wait("a command", serving.next_request()).expect("served").expect("one");
        assert_eq!(request.name, name);
    }
    let first = wait("the first", jobs[0].ended());
    assert!(matches!(&first, Progress::Failed(why) if why.contains("no answer")), "{first:?}");
    serving.answer(Ok(json!("done"))).expect("written");
    serving.answer(Ok(json!("again"))).expect("nothing to write");
    assert_eq!(wait("the second", jobs[1].ended()), Progress::Done(r#""done""#.into()));
}

#[test]
fn requests_for_tokens_that_are_not_answered_are_failures() {
    let (runtime, gateway) = world();
    let (builder, mut requests) = Client::builder(gateway.url()).token_requests();
    let client = builder.runtime(runtime.handle().clone()).build().expect("a client");
    client.connect();
    wait("a request", requests.next()).expect("one").fail("signed out");
    // Asked again, with backoff.
    let again = wait("another request", requests.next()).expect("one");
    assert!(client.last_failure().is_some_and(|why| why.contains("signed out")));
    drop(again);
    drop(requests);
    let mut states = client.states();
    while !client.last_failure().is_some_and(|why| why.contains("nobody answers")) {
        wait("a state", states.next()).expect("it goes on");
    }
}
