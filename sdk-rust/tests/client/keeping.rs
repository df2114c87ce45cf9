//! What outlives the client, with a store on disk.

use crate::gateway::{Gateway, cursor, next_number, position, soon};
use anabranch::store::SqliteStore;
use anabranch::{Client, Code, Outcome, PublishError, Storage, Subscription};
use anabranch_protocol::server_frame::{Refused, ServerFrame};
use std::path::Path;
use std::time::Duration;

fn client(gateway: &Gateway, store: &Path) -> Client {
    let store = SqliteStore::open(store, "u").expect("a store");
    Client::builder(gateway.url()).token("secret").client_id("test").store(store).build().expect("a client")
}

fn kept(client: &Client) -> Subscription {
    client.subscribe("a/#").keep_as("mine").open().expect("a subscription")
}

#[tokio::test]
async fn what_is_queued_is_published_by_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let (gateway, path) = (Gateway::start().await, folder.path().join("store"));
    let first = client(&gateway, &path);
    assert_eq!(first.storage(), Storage::Durable);
    for (topic, id) in [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4")] {
        let queued = first.publish(topic).message_id(id).queue();
        soon("the store", queued).await.expect("queued");
    }
    assert!(first.withdraw("4") && !first.withdraw("4"));
    soon("the end", first.close()).await;

    let second = client(&gateway, &path);
    second.connect();
    let (mut peer, _) = gateway.welcome().await;
    for id in ["1", "2", "3"] {
        assert_eq!(peer.expect("publish").await["envelope"]["metadata"]["messageId"], id);
    }
    let refused = Refused {
        code: Code::NOT_ALLOWED,
        message: "no".into(),
        retry_after_ms: None,
        subscription: None,
        message_id: Some("1".into()),
    };
    peer.send(ServerFrame::Refused(refused)).await;
    let confirmed =
        ServerFrame::Published { message_id: "3".into(), position: position(7), duplicate: false };
    peer.send(confirmed).await;
    let again = second.publish("b").message_id("5").queue();
    let again = soon("the store", again).await.expect("queued");
    assert_eq!(peer.expect("publish").await["envelope"]["metadata"]["messageId"], "5");
    let wedged: Vec<_> = second.outbox().into_iter().map(|one| (one.message_id, one.wedged)).collect();
    let why = Some((Code::NOT_ALLOWED, "no".to_owned()));
    assert_eq!(wedged, [("1".to_owned(), why), ("2".to_owned(), None), ("5".to_owned(), None)]);
    drop(again);
    soon("the end", second.close()).await;

    let third = client(&gateway, &path);
    assert_eq!(third.outbox().len(), 3);
    assert!(third.retry("1"));
    third.connect();
    let (mut peer, _) = gateway.welcome().await;
    assert_eq!(peer.expect("publish").await["envelope"]["metadata"]["messageId"], "1");
    soon("the end", third.log_out()).await.expect("wiped");
    assert!(client(&gateway, &path).outbox().is_empty());
}

#[tokio::test]
async fn a_time_to_live_ends_without_a_connection() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let queued = client.publish("a").time_to_live(Duration::from_millis(1)).queue().await.expect("queued");
    let error = soon("the end of its time", queued.confirmed()).await.expect_err("expired");
    assert!(matches!(error, PublishError::Refused { code: Code::EXPIRED, .. }), "{error}");
}

#[tokio::test]
async fn what_is_withdrawn_is_not_said_to_be_perhaps_published() {
    let gateway = Gateway::start().await;
    let client = gateway.client();
    let queued = client.publish("a").queue().await.expect("queued");
    assert!(queued.withdraw() && !queued.withdraw());
    let error = soon("the end of waiting", queued.confirmed()).await.expect_err("withdrawn");
    assert!(matches!(error, PublishError::Withdrawn { .. }) && !error.could_have_happened(), "{error}");
    assert!(client.outbox().is_empty());
}

#[tokio::test]
async fn the_next_process_goes_on_behind_the_last_event_that_the_app_was_done_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let (gateway, path) = (Gateway::start().await, folder.path().join("store"));
    let first = client(&gateway, &path);
    let mut mine = kept(&first);
    first.connect();
    let (mut peer, hello) = gateway.welcome().await;
    let id = hello["subscriptions"][0]["id"].as_u64().expect("an id");
    assert_eq!(hello["subscriptions"][0]["snapshot"], "always");
    peer.subscribed(id, 10, Outcome::Live).await;
    peer.mark(10).await;
    for offset in 11..=15 {
        peer.message(offset, "a/x").await;
    }
    for offset in 11..=13 {
        assert_eq!(next_number(&mut mine).await, offset);
    }
    assert!(matches!(
        first.subscribe("a/#").keep_as("mine").open(),
        Err(anabranch::SubscribeError::NameInUse(_))
    ));
    drop(mine);
    soon("the end", first.close()).await;

    let second = client(&gateway, &path);
    let seen: Vec<String> = second
        .cached("a/#")
        .read()
        .expect("a filter")
        .iter()
        .map(|message| message.position().to_string())
        .collect();
    assert_eq!(seen, ["0:11", "0:12"], "13 was not done with");
    let mut mine = kept(&second);
    assert_eq!(mine.cursor(), Some(cursor(12)));
    second.connect();
    let (mut peer, hello) = gateway.welcome().await;
    assert_eq!(hello["subscriptions"][0]["cursor"], cursor(12).to_string());
    let id = hello["subscriptions"][0]["id"].as_u64().expect("an id");
    peer.subscribed(id, 12, Outcome::Resumed).await;
    peer.delivered = 0;
    for offset in 13..=15 {
        peer.message(offset, "a/x").await;
    }
    for offset in 13..=15 {
        assert_eq!(next_number(&mut mine).await, offset);
    }
    drop(mine);
    second.forget("mine");
    soon("the store", second.flush()).await.expect("written");
    let fresh = kept(&second);
    assert_eq!(fresh.cursor(), None);
}
