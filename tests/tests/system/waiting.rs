//! A gateway that is there before its broker: it lives, says why it is not ready, and serves once the broker is there.

use crate::brokers;
use anabranch::{Client, Phase};
use anabranch_brokers::{Redis, RedisOptions};
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::wait::until;
use anabranch_tests::{http_client, tokens};

#[tokio::test]
async fn the_lobby_answers_until_the_broker_does() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(mut server) = brokers::had(Redis::start(RedisOptions::new(folder.path()))) else { return };
    let log = brokers::redis_log(&server);
    server.kill().expect("killed");
    let gateway = Gateway::with(Settings::default().set("log", &format!("{log:?}"))).await;

    let get = async |path| http_client::get(gateway.address(), path).await.expect("an answer");
    assert_eq!(get("/livez").await.status, 200, "a restart would help nobody");
    let ready = get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &false.into()));
    assert!(!ready.json()["why"].as_str().expect("a reason").is_empty());
    let refused = get("/v1/ws").await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &4102.into()), "{}", refused.text());
    assert_eq!((&refused.json()["remedy"], refused.header("retry-after")), (&"retry".into(), Some("1")));
    let client = Client::builder(gateway.url()).token(tokens::all("app")).build().expect("a client");
    client.connect();
    let waits = async || (client.state().phase == Phase::Offline).then_some(());
    until("the client waits for another attempt", waits).await;

    server.restart().expect("restarted");
    gateway.ready().await;
    until("live", async || (client.state().phase == Phase::Live).then_some(())).await;
}
