//! Settings and brokers that do not fit together: said at the start, in words.

use crate::kit::{Foreign, open, options, quick, server};
use anabranch_gateway::config::Secret;
use anabranch_gateway::log::conformance::{Follower, record_of};
use anabranch_gateway::log::open::OpenError;
use anabranch_gateway::log::rabbitmq::{self, Options, Server};
use anabranch_gateway::log::{AppendError, Log, Start};

async fn refused(options: Options) -> String {
    match rabbitmq::open(options, quick()).await {
        Err(OpenError::Wrong(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_with_other_settings_is_named_with_both_values() {
    let Some(server) = server() else { return };
    let options = options(&server);
    open(&options).await;
    let why = refused(Options { retention_bytes: Some(1 << 29), ..options.clone() }).await;
    assert!(why.contains("x-max-length-bytes") && why.contains("536870912") && why.contains("none"), "{why}");
    let why = refused(Options { segment_bytes: 1 << 20, ..options.clone() }).await;
    assert!(why.contains("1048576") && why.contains("67108864") && why.contains("declare=no"), "{why}");
    open(&Options { declare: false, segment_bytes: 1 << 20, ..options }).await;
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let why = refused(Options { declare: false, ..options.clone() }).await;
    assert!(why.contains(&options.exchange), "{why}");
    let why = refused(Options { exchange: "amq.direct".to_owned(), ..options.clone() }).await;
    assert!(why.contains("amq.direct"), "{why}");
    let feed = rabbitmq::Feed { exchange: "nowhere".to_owned(), binding: "#".to_owned() };
    let why = refused(Options { from: vec![feed], ..options }).await;
    assert!(why.contains("nowhere"), "{why}");
}

#[tokio::test]
async fn who_may_not_enter_is_told_and_the_password_is_not() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let with = |server: Server| Options { server, ..options.clone() };
    let why = refused(with(Server { password: Secret::new("hunter2"), ..options.server.clone() })).await;
    assert!(why.contains("refuses us") && !why.contains("hunter2"), "{why}");
    let why = refused(with(Server { vhost: "nowhere".to_owned(), ..options.server.clone() })).await;
    assert!(why.contains("nowhere"), "{why}");
    // Port 1 is nobody's.
    match rabbitmq::open(with(Server { port: 1, ..options.server.clone() }), quick()).await {
        Err(OpenError::Unreachable(why)) => assert!(!why.contains("guest"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_topic_that_would_not_come_back_is_not_taken() {
    let Some(server) = server() else { return };
    let log = open(&options(&server)).await;
    assert_eq!(log.append(record_of("a.b/c", 1, 0)).await, Err(AppendError::Unroutable));
    log.append(record_of("a/b/c", 1, 0)).await.expect("confirmed");
}

#[tokio::test]
async fn a_topic_that_nothing_is_bound_to_is_unroutable() {
    let Some(server) = server() else { return };
    let options = Options { bindings: vec!["iotsphere.#".to_owned()], ..options(&server) };
    let log = open(&options).await;
    assert_eq!(log.append(record_of("elsewhere/a", 1, 0)).await, Err(AppendError::Unroutable));
    log.append(record_of("iotsphere/a", 1, 0)).await.expect("confirmed");
}

#[tokio::test]
async fn nodes_that_divide_the_log_in_different_ways_do_not_both_start() {
    let Some(server) = server() else { return };
    let one = options(&server);
    let three = Options { partitions: 3, ..one.clone() };
    let log = open(&three).await;
    let why = refused(one.clone()).await;
    assert!(why.contains("3 partitions") && why.contains("partitions=1"), "{why}");
    let foreign = Foreign::new(&one).await;
    for partition in 0..3 {
        let why = refused(one.clone()).await;
        assert!(why.contains("3 partitions"), "while any stream is there: {why}");
        foreign.delete(&format!("{}-{partition}", one.queue)).await;
    }
    let anew = open(&one).await;
    assert_ne!(anew.id(), log.id(), "another history");
    let why = refused(three).await;
    assert!(why.contains("1 partitions") && why.contains("partitions=3"), "{why}");
}

#[tokio::test]
async fn a_topic_that_the_broker_forbids_is_refused_and_costs_nobody_else() {
    let Some(server) = server() else { return };
    let options = options(&server);
    let user = format!("user-{}", options.queue);
    let allow = |topics: &str| {
        let exchange = &options.exchange;
        let set = format!(
            "rabbit_auth_backend_internal:set_topic_permissions(<<\"{user}\">>, <<\"/\">>, <<\"{exchange}\">>, \
             <<\"{topics}\">>, <<\".*\">>, <<\"tests\">>)"
        );
        assert_eq!(server.eval(&set).expect("permissions"), "ok");
    };
    let made = server.eval(&format!(
        "rabbit_auth_backend_internal:add_user(<<\"{user}\">>, <<\"secret\">>, <<\"tests\">>), \
         rabbit_auth_backend_internal:set_permissions(<<\"{user}\">>, <<\"/\">>, <<\".*\">>, <<\".*\">>, \
         <<\".*\">>, <<\"tests\">>)"
    ));
    assert_eq!(made.expect("a user"), "ok");
    // 4.3 takes topic permissions only for an exchange that is there.
    drop(open(&options).await);
    allow("^(iotsphere|.anabranch)[.]");
    let as_user = Server { user: user.clone(), password: Secret::new("secret"), ..options.server.clone() };
    let log = open(&Options { server: as_user, ..options.clone() }).await;
    let mut follower = Follower::start(&log, Start::Earliest);
    let topic = |n: u64| if n % 10 == 5 { "elsewhere/a".to_owned() } else { format!("iotsphere/{}", n % 3) };
    let appends: Vec<_> = (0..100).map(|n| log.append(record_of(&topic(n), n, 0))).collect();
    let mut positions = Vec::new();
    for (n, append) in (0..).zip(appends) {
        match append.await {
            Ok(position) if n % 10 != 5 => positions.push(position),
            Err(AppendError::Refused(why)) if n % 10 == 5 => assert!(why.contains("permissions"), "{why}"),
            other => panic!("{n}: {other:?}"),
        }
    }
    follower.until_records(positions.len()).await;
    let found: Vec<_> = follower.records.iter().map(|record| record.position).collect();
    assert_eq!(found, positions, "each once, and in order");
    // The next one is refused without a question.
    let again = log.append(record_of("elsewhere/a", 200, 0)).await;
    assert!(matches!(again, Err(AppendError::Refused(_))), "{again:?}");
    log.append(record_of("iotsphere/a", 201, 0)).await.expect("confirmed");
    // The broker cuts its words at a byte, within a character of one of these: they end the connection that should carry them.
    for (n, more) in (300..).step_by(10).zip(["", "x"]) {
        let long = |root: &str| format!("{root}/{more}{}", "é".repeat(110));
        let allowed = long("iotsphere");
        let topics = ["iotsphere/b", &allowed, &long("elsewhere"), "iotsphere/c", &allowed];
        let appends: Vec<_> =
            (n..).zip(topics).map(|(n, topic)| log.append(record_of(topic, n, 0))).collect();
        for (topic, append) in topics.iter().zip(appends) {
            match append.await {
                Ok(_) if topic.starts_with("iotsphere") => {}
                Err(AppendError::Refused(_)) if topic.starts_with("elsewhere") => {}
                other => panic!("{topic}: {other:?}"),
            }
        }
    }
    log.close();
    assert_eq!(
        server.eval(&format!("rabbit_auth_backend_internal:delete_user(<<\"{user}\">>, <<\"tests\">>)")).ok(),
        Some("ok".to_owned())
    );
}
