//! Publishing by HTTP, health, metrics.

use anabranch_protocol::limits;
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::http_client::{HttpClient, Response, get, request};
use anabranch_tests::raw_client::RawClient;
use anabranch_tests::tokens::{self, Token};
use serde_json::{Value, json};

async fn post(gateway: &Gateway, token: &str, kind: &str, body: &str) -> Response {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", kind)];
    request(gateway.address(), "POST", "/v1/publish", &headers, body.as_bytes()).await.expect("an answer")
}

fn envelope(id: &str, topic: &str) -> Value {
    json!({ "metadata": { "messageId": id, "topic": topic }, "payload": { "x": [1, 2] } })
}

#[tokio::test]
async fn one_an_array_or_lines() {
    let gateway = Gateway::start().await;
    let token = tokens::all("p");
    let hello = RawClient::hello(gateway.address(), &token, json!([{ "id": 1, "filter": "t/#" }])).await;
    let (mut client, _) = hello.expect("a welcome");
    client.expect("caught_up").await;
    let (a, b, c) = (envelope("a", "t/a"), envelope("b", "t/b"), envelope("c", "t/c"));
    let one = post(&gateway, &token, "application/json", &a.to_string()).await;
    let many =
        post(&gateway, &token, "application/json", &json!([b, envelope("b2", "t/b")]).to_string()).await;
    let lines =
        post(&gateway, &token, "application/x-ndjson", &format!("\n{c}\n\n{}\r\n", envelope("c2", "t/c")))
            .await;
    for (answer, ids) in [(&one, vec!["a"]), (&many, vec!["b", "b2"]), (&lines, vec!["c", "c2"])] {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        let results = answer["results"].as_array().expect("results");
        let named: Vec<&str> = results.iter().filter_map(|r| r["messageId"].as_str()).collect();
        assert_eq!(named, ids);
        for (result, id) in results.iter().zip(ids) {
            assert!(result.get("duplicate").is_none());
            let message = client.expect("message").await;
            assert_eq!(message["position"], result["position"], "the answer's position is the subscriber's");
            assert_eq!(message["envelope"]["metadata"]["messageId"], id);
            assert_eq!(message["envelope"]["metadata"]["source"], "p", "the token's subject");
            assert_eq!(message["envelope"]["payload"], json!({ "x": [1, 2] }));
        }
    }
    let again = post(&gateway, &token, "application/json", &a.to_string()).await;
    let (first, again) = (one.json(), again.json());
    assert_eq!(again["results"][0]["duplicate"], true);
    assert_eq!(again["results"][0]["position"], first["results"][0]["position"]);
}

#[tokio::test]
async fn each_envelope_has_its_own_answer() {
    let gateway = Gateway::start().await;
    let token = Token::of("p").write("own/#").sign();
    let mixed = json!([
        envelope("a", "own/a"),
        envelope("b", "own/+"),
        envelope("c", "other"),
        7,
        envelope("d", "own/d")
    ]);
    let answer = post(&gateway, &token, "application/json", &mixed.to_string()).await;
    assert_eq!(answer.status, 207, "{}", answer.text());
    let answer = answer.json();
    let codes: Vec<Option<u64>> =
        answer["results"].as_array().expect("results").iter().map(|r| r["code"].as_u64()).collect();
    assert_eq!(codes, [None, Some(4401), Some(4400), Some(4404), None]);
    assert_eq!(answer["results"][1]["messageId"], "b");
    assert_eq!(answer["results"][1]["remedy"], "drop_item");
    assert_eq!(answer["results"][3].get("messageId"), None);
}

#[tokio::test]
async fn what_stores_nothing_says_so_in_the_status() {
    let gateway = Gateway::start().await;
    let token = tokens::all("p");
    let reader = Token::of("reader").read("#").sign();
    let expired = Token::of("p").write("#").ended_seconds_ago(60).sign();
    let large = format!("\"{}\"", "x".repeat(limits::HTTP_BODY_BYTES));
    let too_many = Value::from(vec![envelope("a", "t"); limits::HTTP_BATCH + 1]).to_string();
    let fat =
        json!({ "metadata": { "topic": "t" }, "payload": "x".repeat(limits::ENVELOPE_BYTES) }).to_string();
    let good = envelope("a", "t").to_string();
    let wild = envelope("a", "t/#").to_string();
    let deep =
        format!(r#"{{"metadata":{{"topic":"t"}},"payload":{}1{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let json = "application/json";
    let table = [
        ("no such token", "nonsense", json, good.as_str(), 401, 4201),
        ("expired", &expired, json, &good, 401, 4200),
        ("not granted", &reader, json, &good, 403, 4400),
        ("a wildcard", &token, json, &wild, 400, 4401),
        ("nothing", &token, json, "", 400, 4404),
        ("an empty array", &token, json, "[]", 400, 4404),
        ("not JSON", &token, json, "hello", 400, 4404),
        ("not JSON in a line", &token, "application/x-ndjson", "hello", 400, 4404),
        ("not an envelope", &token, json, "{}", 400, 4404),
        ("10,000 levels", &token, json, &deep, 400, 4404),
        ("too many", &token, json, &too_many, 400, 4404),
        ("an envelope over the limit", &token, json, &fat, 413, 4405),
        ("a body over the limit", &token, json, &large, 413, 4405),
    ];
    for (what, token, kind, body, status, code) in table {
        let answer = post(&gateway, token, kind, body).await;
        let json = answer.json();
        let refused = json["results"].get(0).unwrap_or(&json);
        assert_eq!(
            (answer.status, refused["code"].as_u64()),
            (status, Some(code)),
            "{what}: {}",
            answer.text()
        );
        assert!(refused["remedy"].is_string() && refused["message"].is_string(), "{what}: {}", answer.text());
    }
    let headers = [("Content-Type", "application/json")];
    let without =
        request(gateway.address(), "POST", "/v1/publish", &headers, b"{}").await.expect("an answer");
    assert_eq!(without.status, 401);
    let in_url = format!("/v1/publish?token={token}");
    let in_url =
        request(gateway.address(), "POST", &in_url, &headers, good.as_bytes()).await.expect("an answer");
    assert_eq!(in_url.status, 401, "a token in a URL is no token");
}

/// The same size is too much on one topic and not on another, by either door.
#[tokio::test]
async fn a_topic_may_take_less_than_others() {
    let settings = Settings::default().set("topics.sizes", r#"["t/# 2KiB", "t/+/small 1KiB"]"#);
    let gateway = Gateway::with(settings).await;
    let token = tokens::all("p");
    let hello = RawClient::hello(gateway.address(), &token, json!([])).await;
    let (mut client, _) = hello.expect("a welcome");
    let fat = "x".repeat(1_500);
    for (topic, fits) in [("other", true), ("t/a", true), ("t/a/small", false)] {
        let envelope = json!({ "metadata": { "messageId": topic, "topic": topic }, "payload": fat });
        let answer = post(&gateway, &token, "application/json", &envelope.to_string()).await.json();
        let result = &answer["results"][0];
        assert_eq!((result["position"].is_string(), result["code"] == 4405), (fits, !fits), "{answer}");

        client.say(&json!({ "type": "publish", "envelope": envelope })).await.expect("sent");
        let answer = client.expect(if fits { "published" } else { "refused" }).await;
        assert_eq!(answer["messageId"], topic);
        if !fits {
            let told = answer["message"].as_str().expect("a reason");
            assert!(told.contains("on t/a/small 1024 are allowed"), "{told}");
        }
    }
}

#[tokio::test]
async fn health_and_metrics() {
    let gateway = Gateway::start().await;
    let live = get(gateway.address(), "/livez").await.expect("an answer");
    assert_eq!(live.status, 200);
    gateway.ready().await;
    let mut http = HttpClient::connect(gateway.address()).await.expect("a connection");
    let ready = http.request("GET", "/readyz", &[], &[]).await.expect("an answer");
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)), "{}", ready.text());
    let hello =
        RawClient::hello(gateway.address(), &tokens::all("c"), json!([{ "id": 1, "filter": "t" }])).await;
    let (mut client, _) = hello.expect("a welcome");
    client.expect("caught_up").await;
    post(&gateway, &tokens::all("p"), "application/json", &envelope("a", "t").to_string()).await;
    client.expect("message").await;
    assert_eq!(gateway.metric("anabranch_connections").await, Some(1.0));
    assert!(gateway.metric("anabranch_records_total").await >= Some(1.0));
    let missing = get(gateway.address(), "/nothing").await.expect("an answer");
    assert_eq!(missing.status, 404);
    // Half a request does not stop anybody, and neither does nonsense.
    let mut odd = HttpClient::connect(gateway.address()).await.expect("a connection");
    odd.send(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await.expect("sent");
    assert_eq!(odd.response().await.map(|answer| answer.status).unwrap_or(400), 400);
    gateway.ready().await;
}
