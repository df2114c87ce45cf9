//! TLS, users, and what is wrong with a configuration.

use crate::kit::{Other, had, open, options, own, quick, server, try_open};
use anabranch_brokers::{Redis, RedisOptions};
use anabranch_gateway::config::Secret;
use anabranch_gateway::log::conformance::{Follower, append, record};
use anabranch_gateway::log::open::OpenError;
use anabranch_gateway::log::redis::{ACL, Options};
use anabranch_gateway::log::{AppendError, Health, Log, Start, TailEvent};

const PASSWORD: &str = "hunter2";

fn user(options: Options, name: &str) -> Options {
    Options { user: Some(name.into()), password: Some(Secret::new(PASSWORD)), ..options }
}

/// The rules that the documentation gives, for one stream.
fn rules(options: &Options) -> Vec<String> {
    ACL.replace("STREAM", &options.stream).split_whitespace().map(str::to_owned).collect()
}

fn set_user(server: &Redis, name: &str, rules: &[String]) {
    let password = format!(">{PASSWORD}");
    let mut words = vec!["ACL", "SETUSER", name, "reset", "on", &password];
    words.extend(rules.iter().map(String::as_str));
    server.cli(&words).expect("a user");
}

async fn wrong(options: &Options) -> String {
    match try_open(options, quick()).await {
        Err(OpenError::Wrong(why)) => why,
        other => panic!("{:?}", other.map(|log| log.id())),
    }
}

/// The documented permissions are enough, for three partitions and trimming too, and not one can be spared.
#[tokio::test]
async fn the_documented_permissions_are_enough() {
    let Some((server, _folder)) = own(&[]) else { return };
    let options = Options { partitions: 3, max_length: Some(100), ..options(&server) };
    set_user(&server, "gateway", &rules(&options));
    let options = user(options, "gateway");
    let log = open(&options).await;
    for n in 0..700 {
        log.append(record(n)).await.expect("confirmed");
    }
    for partition in 0..3 {
        crate::kit::until("trimmed", async || {
            let length = server.cli(&["XLEN", &format!("{}:{partition}", options.stream)]).expect("a length");
            (length.parse::<u64>().expect("a number") <= 100).then_some(())
        })
        .await;
    }
    let mut follower = Follower::start(&log, Start::Earliest);
    let new = append(&log, 700..707).await;
    let mine = new.iter().filter(|position| position.partition == 0).max_by_key(|position| position.offset);
    if let Some(last) = mine {
        follower.until_covered(last.offset).await;
    }
    let denied = server.cli(&["ACL", "LOG"]).expect("the log of refusals");
    assert_eq!(denied, "", "something was refused");
}

/// Without a permission, the error names what to grant.
#[tokio::test]
async fn a_missing_permission_is_named() {
    let Some((server, _folder)) = own(&[]) else { return };
    let options = options(&server);
    let without =
        |what: &str| -> Vec<String> { rules(&options).into_iter().filter(|rule| rule != what).collect() };
    for rule in ["+eval", "+hget", "+xgroup|create", "+xinfo|stream"] {
        server.cli(&["FLUSHALL"]).expect("empty");
        set_user(&server, "gateway", &without(rule));
        let why = wrong(&user(options.clone(), "gateway")).await;
        assert!(why.contains(rule) && !why.contains(PASSWORD), "without {rule}: {why}");
    }
    set_user(&server, "gateway", &without("+xadd"));
    let log = open(&user(options.clone(), "gateway")).await;
    let refused = log.append(record(0)).await;
    assert!(matches!(&refused, Err(AppendError::Blocked(why)) if why.contains("+xadd")), "{refused:?}");
    // Another stream than the user's.
    set_user(&server, "gateway", &rules(&options));
    let why = wrong(&user(Options { stream: "another".into(), ..options.clone() }, "gateway")).await;
    assert!(why.contains("~STREAM*"), "{why}");
}

/// Who may not read is not told at each attempt that all is well. When the permission is back, it goes on.
#[tokio::test]
async fn a_lost_permission_to_read_is_one_trouble() {
    let Some((server, _folder)) = own(&[]) else { return };
    let options = options(&server);
    set_user(&server, "gateway", &rules(&options));
    let log = open(&user(options.clone(), "gateway")).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    append(&log, 0..10).await;
    follower.until_records(10).await;
    server.cli(&["ACL", "SETUSER", "gateway", "-xread"]).expect("taken away");
    follower.until(|follower| matches!(follower.health.last(), Some(Health::Retrying(_)))).await;
    // At least four attempts. The log of refusals holds one entry with a count.
    crate::kit::until("attempts", async || {
        let told = server.cli(&["ACL", "LOG"]).expect("the log of refusals");
        let count = told.lines().skip_while(|line| *line != "count").nth(1)?;
        let denied = count.trim().parse::<u64>().ok()? >= 5 && told.contains("xread");
        let next = futures_util::FutureExt::now_or_never(follower.step());
        assert!(!matches!(next, Some(TailEvent::Records(_))), "read without permission");
        denied.then_some(())
    })
    .await;
    let connected = follower.health.iter().filter(|health| **health == Health::Connected).count();
    assert!(connected <= 2, "{:?}", follower.health);
    server.cli(&["ACL", "SETUSER", "gateway", "+xread"]).expect("given back");
    append(&log, 10..20).await;
    follower.until_records(20).await;
    follower.until(|follower| follower.health.last() == Some(&Health::Connected)).await;
}

#[tokio::test]
async fn what_no_retry_can_mend_is_told_at_once() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let why = wrong(&user(options.clone(), "nobody")).await;
    assert!(why.contains("user and the password") && !why.contains(PASSWORD), "{why}");
    let other = Other::connect(server.port()).await;
    other.run::<String>(&["SET", &options.stream, "text"]).await;
    let why = wrong(&options).await;
    assert!(why.contains("something else than a stream") && why.contains("stream="), "{why}");
    other.run::<i64>(&["DEL", &options.stream]).await;
    let why = wrong(&Options { database: 99, ..options.clone() }).await;
    assert!(why.contains("DB index is out of range") && why.contains("databases"), "{why}");
    let nobody = Options { nodes: vec![("127.0.0.1".into(), 1)], ..options.clone() };
    let error = try_open(&nobody, quick()).await.err();
    assert!(matches!(error, Some(OpenError::Unreachable(_))), "{error:?}");
    let debug = format!("{:?} {:?}", user(options.clone(), "u"), open(&options).await.source());
    assert!(!debug.contains(PASSWORD), "{debug}");
}

#[tokio::test]
async fn over_tls() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let started = Redis::start(RedisOptions { tls: true, ..RedisOptions::new(folder.path()) });
    let Some(server) = had(started) else { return };
    let options = Options { tls: true, ca: Some(server.authority()), ..options(&server) };
    set_user(&server, "gateway", &rules(&options));
    let options = user(options, "gateway");
    let log = open(&options).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    append(&log, 0..100).await;
    follower.until_records(100).await;
    // An authority that the system does not know, a file that is not there, and no TLS at all.
    let error = try_open(&Options { ca: None, ..options.clone() }, quick()).await.err();
    assert!(error.is_some_and(|error| error.to_string().contains("certificate")));
    let why = wrong(&Options { ca: Some("/nowhere.pem".into()), ..options.clone() }).await;
    assert!(why.contains("/nowhere.pem"), "{why}");
    assert!(try_open(&Options { tls: false, ca: None, ..options.clone() }, quick()).await.is_err());
}
