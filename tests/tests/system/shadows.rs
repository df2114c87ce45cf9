//! Shadows of devices: what apps want, what devices say of themselves, and that both last.

use anabranch::shadow::{Settled, Shadow, Stage, View};
use anabranch::store::SqliteStore;
use anabranch::{Client, Event, MessageType, PublishError, Start, Subscription};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::http_client::request;
use anabranch_tests::proxy::{ChaosProxy, Flow, Weather};
use anabranch_tests::tokens;
use anabranch_tests::wait::within;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

fn settings() -> Settings {
    Settings::default().set("shadows.enabled", "true")
}

fn client(url: &str) -> Client {
    let client = Client::builder(url).token(tokens::all("app")).build().expect("a client");
    client.connect();
    client
}

fn topic(device: &str, leaf: &str) -> String {
    format!("iotsphere/devices/{device}/shadow/{leaf}")
}

/// Publishes; returns the message id.
async fn say(client: &Client, device: &str, leaf: &str, payload: Value) -> String {
    let publish = client.publish(&topic(device, leaf)).json(&payload).expect("JSON");
    publish.send().await.expect("a confirm").message_id
}

/// What an app that looks at shadows knows.
struct Watch {
    subscription: Subscription,
    /// The newest value of each topic; `null` is none.
    values: BTreeMap<String, Value>,
    /// Answers by the request's id.
    answers: BTreeMap<String, (String, Value)>,
    live: bool,
}

impl Watch {
    fn of(client: &Client, filter: &str) -> Watch {
        let subscription = client.subscribe(filter).open().expect("a subscription");
        Watch { subscription, values: BTreeMap::new(), answers: BTreeMap::new(), live: false }
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Watch) -> bool) {
        within(what, async {
            while !done(self) {
                match self.subscription.next().await.expect("the subscription goes on") {
                    Event::Message(message) => {
                        let value: Value = message.json().expect("JSON");
                        let metadata: Value = serde_json::from_str(message.envelope_text()).expect("JSON");
                        if let Some(to) = metadata["metadata"]["correlationId"].as_str() {
                            let leaf = message.topic().rsplit('/').next().expect("a leaf").to_owned();
                            let before = self.answers.insert(to.to_owned(), (leaf, value.clone()));
                            assert!(before.is_none(), "{to} is answered twice: {before:?}, {value}");
                        }
                        self.values.insert(message.topic().to_owned(), value);
                    }
                    Event::Live => self.live = true,
                    Event::Gap(gap) => panic!("{gap:?}"),
                    _ => {}
                }
            }
        })
        .await;
    }

    fn value(&self, device: &str, leaf: &str) -> &Value {
        self.values.get(&topic(device, leaf)).unwrap_or(&Value::Null)
    }

    async fn answer(&mut self, id: &str) -> (String, Value) {
        self.until("an answer", |watch| watch.answers.contains_key(id)).await;
        self.answers[id].clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_sets_a_device_reports_and_the_delta_empties() {
    let gateway = Gateway::with(settings()).await;
    let app = client(&gateway.url());
    let mut watch = Watch::of(&app, "iotsphere/devices/+/shadow/+");
    watch.until("live", |watch| watch.live).await;

    let id = say(&app, "d1", "desired", json!({ "fan": { "rpm": 1200, "on": true } })).await;
    let (leaf, accepted) = watch.answer(&id).await;
    assert_eq!((&*leaf, &accepted["version"]), ("accepted", &json!(1)));
    watch.until("the delta", |watch| !watch.value("d1", "delta").is_null()).await;
    assert_eq!(watch.value("d1", "delta")["state"], json!({ "fan": { "rpm": 1200, "on": true } }));

    // A device that has never heard of envelopes, by plain HTTP.
    let report =
        json!({ "metadata": { "topic": topic("d1", "reported") }, "payload": { "fan": { "rpm": 1200 } } });
    let bearer = format!("Bearer {}", tokens::all("device"));
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let answer =
        request(gateway.address(), "POST", "/v1/publish", &headers, report.to_string().as_bytes()).await;
    assert_eq!(answer.expect("an answer").status, 200);
    watch.until("a smaller delta", |watch| watch.value("d1", "delta")["version"] == 2).await;
    assert_eq!(watch.value("d1", "delta")["state"], json!({ "fan": { "on": true } }));
    say(&app, "d1", "reported", json!({ "fan": { "on": true } })).await;
    watch.until("no delta", |watch| watch.value("d1", "delta").is_null()).await;
    watch.until("the document", |watch| watch.value("d1", "document")["version"] == 3).await;
    let both = json!({ "fan": { "rpm": 1200, "on": true } });
    assert_eq!(watch.value("d1", "document")["state"], json!({ "desired": both, "reported": both }));

    let id = say(&app, "d1", "update", json!({ "state": { "desired": { "x": 1 } }, "version": 2 })).await;
    let (leaf, rejected) = watch.answer(&id).await;
    assert_eq!(
        (&*leaf, &rejected["name"], &rejected["version"]),
        ("rejected", &json!("shadow_conflict"), &json!(3))
    );
    let id = say(&app, "d1", "get", json!({})).await;
    let (leaf, told) = watch.answer(&id).await;
    assert_eq!((&*leaf, &told["version"], &told["state"]["reported"]), ("accepted", &json!(3), &both));

    for leaf in ["document", "delta", "accepted", "rejected"] {
        let forged =
            app.publish(&topic("d1", leaf)).json(&json!({ "version": 9 })).expect("JSON").send().await;
        assert!(matches!(&forged, Err(PublishError::Refused { code, .. }) if code.0 == 4409), "{forged:?}");
    }
}

/// A restart, by a crash, with a checkpoint and without: the documents are there, what was asked meanwhile is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shadows_outlive_the_gateway() {
    for checkpoint in [false, true] {
        let mut settings = settings();
        if checkpoint {
            settings = settings.set("topics.checkpoint", "\"newest\"");
        }
        let mut gateway = Gateway::with(settings).await;
        let app = client(&gateway.url());
        let mut watch = Watch::of(&app, "iotsphere/devices/+/shadow/document");
        for round in 1..=3 {
            for device in 0..50 {
                say(&app, &format!("d{device}"), "desired", json!({ format!("f{round}"): device })).await;
            }
            say(&app, "gone", "desired", json!({ "round": round })).await;
            say(&app, "gone", "delete", json!({})).await;
            // In the middle of what it has to do, or in order.
            if round == 2 {
                gateway.terminate();
                gateway.ended().await;
            } else {
                gateway.kill().await;
            }
            gateway.start_again().await;
            app.wake();
            watch
                .until("every document", |watch| {
                    (0..50).all(|device| watch.value(&format!("d{device}"), "document")["version"] == round)
                })
                .await;
        }
        let other = client(&gateway.url());
        let mut fresh = Watch::of(&other, "iotsphere/devices/+/shadow/document");
        // What was asked last may be under way.
        let count = |watch: &Watch| watch.values.values().filter(|value| !value.is_null()).count();
        fresh.until("every document and no other", |watch| watch.live && count(watch) == 50).await;
        for device in 0..50 {
            let document = fresh.value(&format!("d{device}"), "document");
            assert_eq!(document["state"]["desired"], json!({ "f1": device, "f2": device, "f3": device }));
        }
        say(&other, "gone", "reported", json!({ "back": true })).await;
        fresh.until("another incarnation", |watch| watch.value("gone", "document")["version"] == 1).await;
    }
}

/// The view, once it is as it should be.
async fn seen(what: &str, shadow: &Shadow, done: impl Fn(&View) -> bool) -> View {
    let mut views = shadow.views();
    within(what, async {
        loop {
            let view = views.next().await.expect("the shadow is open");
            if done(&view) {
                return view;
            }
        }
    })
    .await
}

/// By the SDK: a change shows at once, survives a cut, is laid over what others change, and settles when the device reports it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_shows_at_once_and_settles() {
    let gateway = Gateway::with(settings()).await;
    let device = client(&gateway.url());
    let device = device.shadow("d1").open().expect("a shadow");
    device.report(&json!({ "fan": { "rpm": 800 }, "on": true })).await.expect("a confirm");

    let proxy = ChaosProxy::start(gateway.address()).await.expect("a proxy");
    let app = client(&format!("ws://{}/v1/ws", proxy.address()));
    let shadow = app.shadow("d1").open().expect("a shadow");
    // Ready is who knows what there is: before the gateway has answered the report, that is nothing.
    within("the shadow", shadow.ready()).await;
    let view = seen("the report", &shadow, |view| view.version() == 1).await;
    assert_eq!(
        (view.version(), view.reported::<Value>().expect("JSON")["fan"]["rpm"].clone()),
        (1, json!(800))
    );
    let mut deltas = shadow.deltas();

    // The link is gone: it shows, and waits.
    seen("a live view", &shadow, View::is_live).await;
    proxy.cut();
    app.pause("tunnel");
    seen("a view that is not live", &shadow, |view| !view.is_live()).await;
    let mut change = shadow.set_desired(&json!({ "fan": { "rpm": 1200 } })).await.expect("queued");
    let view = shadow.view();
    assert_eq!(view.pending("/fan/rpm"), Some(&Stage::Queued));
    assert_eq!(view.desired::<Value>().expect("JSON"), json!({ "fan": { "rpm": 1200 } }));
    assert_eq!(change.settled(Duration::ZERO).await, Settled::StillPending);
    let other = client(&gateway.url());
    let other = other.shadow("d1").open().expect("a shadow");
    other.set_desired(&json!({ "mode": "eco" })).await.expect("queued");
    seen("the other's change", &other, |view| view.version() == 2).await;
    app.resume("tunnel");

    let view =
        seen("an answer", &shadow, |view| matches!(view.pending("/fan/rpm"), Some(Stage::Accepted { .. })))
            .await;
    assert_eq!(view.desired::<Value>().expect("JSON")["fan"]["rpm"], json!(1200));
    seen("both", &shadow, |view| view.version() == 3).await;
    assert_eq!(
        shadow.view().desired::<Value>().expect("JSON"),
        json!({ "mode": "eco", "fan": { "rpm": 1200 } })
    );
    // The device does what it is told.
    let view = seen("what is desired", &device, |view| view.version() == 3).await;
    let delta: Value = serde_json::from_str(view.delta().expect("a delta")).expect("JSON");
    assert_eq!(delta, json!({ "mode": "eco", "fan": { "rpm": 1200 } }));
    device.report(&delta).await.expect("a confirm");
    assert_eq!(change.settled(Duration::from_secs(30)).await, Settled::Applied { version: 4 });
    let view = seen("nothing pending", &shadow, |view| view.all_pending().is_empty()).await;
    assert_eq!((view.delta(), view.version()), (None, 4));

    // One that is refused is taken back, and says why.
    let deep = json!({ "fan": { "a": { "b": { "c": { "d": { "e": { "f": { "g": { "h": 1 } } } } } } } } });
    let mut change = shadow.set_desired(&deep).await.expect("queued");
    let settled = change.settled(Duration::from_secs(30)).await;
    assert!(matches!(&settled, Settled::Rejected { code, .. } if code.0 == 4414), "{settled:?}");
    assert_eq!(
        shadow.view().desired::<Value>().expect("JSON"),
        json!({ "mode": "eco", "fan": { "rpm": 1200 } })
    );
    let mut version = 1;
    while version < 4 {
        let delta = within("a delta", deltas.next()).await.expect("the shadow is open");
        assert_eq!(delta.base, version, "upon the one before: {delta:?}");
        version = delta.version;
    }

    // Deleted, and made again: nothing is left, and nothing old is taken for new.
    let before = shadow.view().document().expect("a document").incarnation;
    say(&client(&gateway.url()), "d1", "delete", json!({})).await;
    seen("no shadow", &shadow, |view| view.document().is_none()).await;
    device.report(&json!({ "new": 1 })).await.expect("a confirm");
    let view = seen("another shadow", &shadow, |view| view.version() == 1).await;
    assert!(view.document().expect("a document").incarnation > before);
    assert_eq!(view.desired::<Value>().expect("JSON"), json!({}));
}

/// A client is cut off when the log has its change, and comes back when the log has forgotten the answer. It is told an end, and sees what is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_log_has_forgotten_is_asked_for() {
    let settings = settings().set("log", r#""memory:?records=2000""#).set("limits.ring", r#""1MiB""#);
    let gateway = Gateway::with(settings).await;
    let proxy = ChaosProxy::start(gateway.address()).await.expect("a proxy");
    let app = client(&format!("ws://{}/v1/ws", proxy.address()));
    let shadow = app.shadow("d1").open().expect("a shadow");
    let other = client(&gateway.url());
    let mut watch = Watch::of(&other, &topic("d1", "rejected"));
    say(&other, "d1", "desired", json!({ "a": 1 })).await;
    seen("the first", &shadow, |view| view.is_live() && view.version() == 1).await;

    // Refused, for no document may be so large. That it is stored, and behind it that it is refused, wait for the client, and come so slowly
    // that the second is seconds behind the first.
    proxy.set(Weather { down: Flow::Stop, ..Weather::default() });
    let mut change = shadow.set_desired(&json!({ "a": "x".repeat(20_000) })).await.expect("queued");
    let id = change.message_id().to_owned();
    assert_eq!(watch.answer(&id).await.0, "rejected");
    proxy.set(Weather { down: Flow::Throttle(100), ..Weather::default() });
    seen("that it is stored", &shadow, |view| view.pending("/a") == Some(&Stage::Sent)).await;
    proxy.cut_and_refuse();
    for _ in 0..2_500 {
        let noise = other
            .publish("iotsphere/devices/d2/telemetry/noise")
            .payload_text(format!("{:?}", "x".repeat(2_000)));
        noise.send().await.expect("a confirm");
    }
    assert_eq!(shadow.view().pending("/a"), Some(&Stage::Sent), "it cannot know");
    proxy.heal();
    let settled = change.settled(Duration::from_secs(30)).await;
    assert_eq!(settled, Settled::Superseded, "the truth lacks it; why, nobody knows any more");
    let view = shadow.view();
    assert_eq!(view.desired::<Value>().expect("JSON"), json!({ "a": 1 }));
}

/// What is changed while offline is one message where one patch can be all of it, also for the next process; each change is told its own end. What
/// may have been sent takes nothing up, and commands are as many as were given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_that_wait_become_one_message_and_commands_never_do() {
    let gateway = Gateway::with(settings()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let app = || {
        let store = SqliteStore::open(folder.path().join("store"), "app").expect("a store");
        Client::builder(gateway.url()).token(tokens::all("app")).store(store).build().expect("a client")
    };

    let first = app();
    let shadow = first.shadow("d1").open().expect("a shadow");
    let mut changes = Vec::new();
    for patch in
        [json!({ "fan": { "rpm": 1, "on": true } }), json!({ "fan": { "rpm": 2 } }), json!({ "mode": null })]
    {
        changes.push(shadow.set_desired(&patch).await.expect("queued"));
    }
    let ids: Vec<&str> = changes.iter().map(|change| change.message_id()).collect();
    assert_eq!(ids, [ids[0]; 3]);
    let mode = shadow.set_desired(&json!({ "mode": { "eco": true } })).await.expect("queued");
    assert_ne!(mode.message_id(), ids[0], "no patch empties an object and fills it");
    for _ in 0..2 {
        let command =
            first.publish("iotsphere/devices/d1/commands/request").message_type(MessageType::Command);
        command.payload_text("\"step\"").queue().await.expect("queued");
    }
    shadow.set_desired(&json!({ "fan": { "rpm": 3 } })).await.expect("queued");
    assert_eq!(first.outbox().len(), 5, "a change behind commands stays there");
    within("the end", first.close()).await;

    let second = app();
    assert_eq!(second.outbox().len(), 5);
    let shadow = second.shadow("d1").open().expect("a shadow");
    let desired = json!({ "fan": { "rpm": 3, "on": true }, "mode": { "eco": true } });
    assert_eq!(shadow.view().desired::<Value>().expect("JSON"), desired);
    let mut changes = Vec::new();
    for rpm in 4..=6 {
        changes.push(shadow.set_desired(&json!({ "fan": { "rpm": rpm } })).await.expect("queued"));
    }
    let ids: Vec<&str> = changes.iter().map(|change| change.message_id()).collect();
    assert_eq!(ids, [ids[0]; 3]);
    assert_eq!(second.outbox().len(), 6, "the process before may have sent the third");
    second.connect();

    let device = client(&gateway.url());
    let device = device.shadow("d1").open().expect("a shadow");
    let view = seen("what is desired", &device, |view| view.version() == 4).await;
    let desired: Value = view.desired().expect("JSON");
    assert_eq!(desired, json!({ "fan": { "rpm": 6, "on": true }, "mode": { "eco": true } }));
    device.report(&desired).await.expect("a confirm");
    let mut ends = Vec::new();
    for change in &mut changes {
        ends.push(change.settled(Duration::from_secs(30)).await);
    }
    assert_eq!(ends, [Settled::Superseded, Settled::Superseded, Settled::Applied { version: 5 }]);
    assert!(second.outbox().is_empty());

    let witness = client(&gateway.url());
    let mut said =
        witness.subscribe("iotsphere/devices/d1/#").from(Start::Earliest).open().expect("a subscription");
    let mut payloads = Vec::new();
    loop {
        match within("a message", said.next()).await.expect("it goes on") {
            Event::Message(message)
                if message.topic().ends_with("/desired") || message.topic().ends_with("/request") =>
            {
                payloads.push(message.json::<Value>().expect("JSON"));
            }
            Event::Live => break,
            _ => {}
        }
    }
    let expected = [
        json!({ "fan": { "rpm": 2, "on": true }, "mode": null }),
        json!({ "mode": { "eco": true } }),
        json!("step"),
        json!("step"),
        json!({ "fan": { "rpm": 3 } }),
        json!({ "fan": { "rpm": 6 } }),
    ];
    assert_eq!(payloads, expected);
}
