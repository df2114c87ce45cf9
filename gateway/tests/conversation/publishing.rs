use crate::kit::{World, token};
use serde_json::json;

#[tokio::test]
async fn a_message_reaches_those_who_asked_and_nobody_else() {
    let world = World::start().await;
    let all = token("viewer", &["a/#"], &[]);
    let (mut near, _) = world.hello(&all, json!([{"id": 1, "filter": "a/+/c"}])).await;
    let (mut far, _) = world.hello(&all, json!([{"id": 1, "filter": "a/x"}])).await;
    for client in [&mut near, &mut far] {
        assert_eq!(client.expect("subscribed").await["outcome"], "live");
        client.expect("caught_up").await;
    }
    let (mut device, _) = world.hello(&token("device", &[], &["#"]), json!([])).await;
    let published = device.publish("a/b/c", "m1", json!({"n": [1, 2.50, "ü"]})).await;
    let message = near.expect("message").await;
    assert_eq!(message["position"], published["position"]);
    assert_eq!(message["envelope"]["payload"], json!({"n": [1, 2.50, "ü"]}));
    assert_eq!(message["envelope"]["metadata"]["source"], "device");
    device.publish("a/x", "m2", json!(2)).await;
    let message = far.expect("message").await;
    assert_eq!(message["envelope"]["metadata"]["messageId"], "m2", "the first message was not for this one");
}

#[tokio::test]
async fn a_retry_under_the_same_id_is_stored_once() {
    let world = World::start().await;
    let token = token("device", &["#"], &["#"]);
    let (mut device, _) = world.hello(&token, json!([{"id": 1, "filter": "a"}])).await;
    device.expect("subscribed").await;
    device.expect("caught_up").await;
    let envelope = json!({"metadata": {"messageId": "same", "topic": "a"}, "payload": 1});
    for _ in 0..3 {
        device.send(json!({"type": "publish", "envelope": envelope})).await;
    }
    let (mut published, mut messages) = (Vec::new(), 0);
    while published.len() < 3 {
        let frame = device.next().await.unwrap();
        match frame["type"].as_str().unwrap() {
            "published" => published.push(frame),
            "message" => messages += 1,
            other => panic!("unexpected {other}"),
        }
    }
    let first = &published[0]["position"];
    assert!(published.iter().all(|p| p["position"] == *first));
    assert_eq!(published.iter().filter(|p| p["duplicate"] == true).count(), 2);
    device.send(json!({"type": "probe"})).await;
    loop {
        let frame = device.next().await.unwrap();
        match frame["type"].as_str().unwrap() {
            "message" => messages += 1,
            "mark" if frame["delivered"] == 1 => break,
            "mark" => device.send(json!({"type": "probe"})).await,
            other => panic!("unexpected {other}"),
        }
    }
    assert_eq!(messages, 1);
}

/// Else its publisher waits for an answer that has come already, and sends it again after each reconnect.
#[tokio::test]
async fn a_refused_envelope_is_named() {
    let world = World::start().await;
    let (mut device, _) = world.hello(&token("device", &[], &["#"]), json!([])).await;
    let metadata = |more: &str| format!(r#"{{"messageId":"m\u0031","topic":"a"{more}}}"#);
    let unknown: String = (0..40).map(|n| format!(r#","x{n}":1"#)).collect();
    let cases = [
        (4404, format!(r#"{{"metadata":{}}}"#, metadata(""))),
        (4404, format!(r#"{{"payload":1,"metadata":{},"payload":2}}"#, metadata(""))),
        (4404, format!(r#"{{"metadata":{},"payload":1,"beside":2}}"#, metadata(""))),
        (4404, format!(r#"{{"metadata":{},"payload":1}}"#, metadata(r#","messageType":"song""#))),
        (4404, format!(r#"{{"metadata":{},"payload":1}}"#, metadata(r#","source":null"#))),
        (4404, format!(r#"{{"metadata":{},"payload":1}}"#, metadata(&unknown))),
        (4405, format!(r#"{{"payload":"{}","metadata":{}}}"#, "x".repeat(270_000), metadata(""))),
    ];
    for (code, envelope) in cases {
        device.send_text(format!(r#"{{"type":"publish","envelope":{envelope}}}"#)).await;
        let refused = device.expect("refused").await;
        assert_eq!(
            (&refused["code"], &refused["messageId"]),
            (&json!(code), &json!("m1")),
            "{envelope:.200}"
        );
    }
    device.publish("a", "good", json!(1)).await;
}

#[tokio::test]
async fn http_answers_each_envelope_in_its_place() {
    let world = World::start().await;
    let token = token("service", &[], &["a/#"]);
    let body = concat!(
        r#"{"metadata":{"topic":"a/1","messageId":"x"},"payload":1}"#,
        "\n\n",
        r#"{"metadata":{"topic":"b/1","messageId":"y"},"payload":2}"#,
        "\n",
        r#"not json"#,
        "\n",
    );
    let (status, answer) = post(&world, &token, "application/x-ndjson", body).await;
    assert_eq!(status, 207, "{answer}");
    assert_eq!(answer["results"][0]["messageId"], "x");
    assert!(answer["results"][0]["position"].is_string());
    assert_eq!(
        (&answer["results"][1]["code"], &answer["results"][1]["messageId"]),
        (&json!(4400), &json!("y"))
    );
    assert_eq!(answer["results"][2]["code"], 4404);
    let array = r#"[{"metadata":{"topic":"a/1"},"payload":[]},{"metadata":{"topic":"a/2"},"payload":null}]"#;
    let (status, answer) = post(&world, &token, "application/json", array).await;
    assert_eq!((status, answer["results"].as_array().unwrap().len()), (200, 2));
    assert_eq!(post(&world, "no token", "application/json", array).await.0, 401);
    assert_eq!(post(&world, &token, "application/json", "[]").await.0, 400);
    assert_eq!(post(&world, &token, "application/json", &"[".repeat(10_000)).await.0, 400);
}

/// A POST by hand: one request, one connection.
async fn post(world: &World, token: &str, kind: &str, body: &str) -> (u16, serde_json::Value) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(world.gateway.address()).await.unwrap();
    let head = format!(
        "POST /v1/publish HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}
