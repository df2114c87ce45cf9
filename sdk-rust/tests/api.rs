//! What the types promise to whoever uses them from several threads, other executors and other languages. Most of it is shown by compiling.

use anabranch::command::Serve;
use anabranch::error::{CursorError, NameError, PublishRefused, StoreError};
use anabranch::shadow::{Change, Deltas, Shadow, View, Views};
use anabranch::*;
use serde_json::Value;
use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

fn shared<T: Send + Sync + 'static>() {}
fn sent<T: Send + 'static>() {}
fn cloned<T: Clone>() {}

/// What any thread may hold and call, as a foreign object behind an `Arc` does.
#[test]
fn handles_are_send_and_sync() {
    shared::<Client>();
    cloned::<Client>();
    shared::<Subscription>();
    shared::<SubscriptionHandle>();
    cloned::<SubscriptionHandle>();
    shared::<Shadow>();
    shared::<View>();
    shared::<Change>();
    shared::<Commands>();
    cloned::<Commands>();
    shared::<Job>();
    cloned::<Job>();
    shared::<Queued>();
    shared::<Serving>();
    shared::<TokenRequests>();
    shared::<TokenRequest>();
    shared::<Message>();
    shared::<Event>();
    shared::<State>();
    // One reader each.
    sent::<States>();
    sent::<Views>();
    sent::<Deltas>();
    sent::<ClientBuilder>();
}

/// What a caller must be able to do with any error of this crate.
macro_rules! errors {
    ($($name:ident)*) => {
        $(const _: fn(&$name) -> bool = |error| {
            fn any(_: &(impl Error + Send + Sync + 'static)) {}
            any(error);
            error.is_retryable()
        };)*
        const ERRORS: &[&str] = &[$(stringify!($name)),*];
    };
}

errors! { BuildError SubscribeError CommandError ServeError WaitError PublishError StoreError NameError CursorError PublishRefused }

#[test]
fn every_error_says_whether_to_try_again() {
    let mut defined = BTreeSet::new();
    sources(&mut |_, line| {
        let name = line.strip_prefix("pub enum ").or_else(|| line.strip_prefix("pub struct "));
        let name = name.and_then(|rest| rest.split(|c: char| !c.is_alphanumeric()).next());
        defined.extend(name.filter(|name| name.ends_with("Error")).map(str::to_owned));
    });
    let unchecked: Vec<_> = defined.iter().filter(|name| !ERRORS.contains(&name.as_str())).collect();
    assert!(unchecked.is_empty() && defined.len() >= 6, "{unchecked:?} of {defined:?}");
}

/// The `Future`s of all public async functions, by file and name. Never run: that it compiles is the proof.
macro_rules! futures {
    ($(($($handle:ident: $type:ty),*) $file:literal $name:literal => $future:expr;)*) => {
        #[allow(dead_code, reason = "it compiles")]
        mod futures {
            use super::*;
            fn is_send(_: impl Future + Send) {}
            $(const _: fn($($type),*) = |$($handle),*| is_send($future);)*
        }
        const FUTURES: &[(&str, &str)] = &[$(($file, $name)),*];
    };
}

futures! {
    (it: &Client) "client.rs" "close" => it.close();
    (it: &Client) "client.rs" "log_out" => it.log_out();
    (it: &Client) "client.rs" "flush" => it.flush();
    (it: &Client) "client.rs" "wait_live" => it.wait_live(Duration::ZERO);
    (it: &mut States) "client.rs" "next" => it.next();
    (it: &mut Subscription) "subscription.rs" "next_event" => it.next_event();
    (it: &mut Subscription) "subscription.rs" "next" => it.next();
    (it: &mut Subscription) "subscription.rs" "next_message" => it.next_message();
    (it: Publish) "publish.rs" "queue" => it.queue();
    (it: Publish) "publish.rs" "send" => it.send();
    (it: Queued) "outbox.rs" "confirmed" => it.confirmed();
    (it: &Shadow) "shadow.rs" "ready" => it.ready();
    (it: &Shadow, value: &Value) "shadow.rs" "set_desired" => it.set_desired(value);
    (it: &Shadow, value: &Value) "shadow.rs" "report" => it.report(value);
    (it: &mut Views) "shadow.rs" "next" => it.next();
    (it: &mut Deltas) "shadow.rs" "next" => it.next();
    (it: &mut Change) "shadow/change.rs" "settled" => it.settled(Duration::ZERO);
    (it: &mut Job) "command.rs" "next_progress" => it.next_progress();
    (it: &mut Job) "command.rs" "ended" => it.ended();
    (it: Job) "command.rs" "reply" => it.reply::<Value>();
    (it: Serve) "command/serve.rs" "run" => it.run(|_| async { Ok(Value::Null) });
    (it: &mut Serving) "command/serve.rs" "next_request" => it.next_request();
    (it: &mut TokenRequests) "token.rs" "next" => it.next();
}

/// Rooms that no user sees.
const INNER: [&str; 4] = ["driver", "keeper.rs", "shared.rs", "shadow/watch.rs"];

#[test]
fn every_future_is_send() {
    let mut unchecked = Vec::new();
    let mut found = 0;
    sources(&mut |file, line| {
        let Some(rest) = line.trim_start().strip_prefix("pub async fn ") else { return };
        let name = rest.split(['(', '<']).next().unwrap_or_default();
        found += 1;
        if !FUTURES.contains(&(file, name)) && !INNER.iter().any(|inner| file.starts_with(inner)) {
            unchecked.push(format!("{file}: {name}"));
        }
    });
    assert!(unchecked.is_empty() && found >= FUTURES.len(), "{unchecked:?}, {found} found");
}

/// Every stream can be asked for its next item by a plain function, which is how it crosses to another language.
#[test]
fn every_stream_can_be_asked() {
    let mut streams = 0;
    sources(&mut |file, line| {
        let Some(name) = line.strip_prefix("impl Stream for ").and_then(|rest| rest.strip_suffix(" {"))
        else {
            return;
        };
        streams += 1;
        assert!(["Subscription", "States", "Views", "Deltas"].contains(&name), "{file}: {name}");
    });
    assert_eq!(streams, 4);
}

/// Each line of each source file, with the file's path below `src/`.
fn sources(each: &mut dyn FnMut(&str, &str)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let file = path.strip_prefix(&root).expect("below src/").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("a file");
            text.lines().for_each(|line| each(&file, line));
        }
    }
}
