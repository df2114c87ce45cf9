//! Settings and brokers that do not fit together: said at the start, in words.

use crate::kit::{open, options, quick, server};
use anabranch_gateway::config::Secret;
use anabranch_gateway::log::conformance::record_of;
use anabranch_gateway::log::open::OpenError;
use anabranch_gateway::log::rabbitmq::{self, Options, Server};
use anabranch_gateway::log::{AppendError, Log};

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
