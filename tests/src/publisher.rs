//! Publishers that enter every message in a ledger, and retry it under the same message id until they have a confirm.

use crate::http_client::HttpClient;
use crate::ledger::{Ledger, Number};
use crate::wait::{PATIENCE, pause};
use anabranch::Client;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// Publishes by HTTP, in batches.
#[derive(Debug)]
pub struct HttpPublisher {
    address: SocketAddr,
    token: String,
    ledger: Arc<Ledger>,
    /// Before the number in each message id: message ids of two tests, or two publishers, never meet.
    prefix: String,
    connection: Option<HttpClient>,
    /// Requests that had to be sent again.
    retries: u64,
    /// Bytes added to each payload.
    padding: usize,
}

impl HttpPublisher {
    pub fn new(address: SocketAddr, token: &str, ledger: Arc<Ledger>) -> HttpPublisher {
        let prefix = uuid::Uuid::new_v4().to_string();
        HttpPublisher {
            address,
            token: token.into(),
            ledger,
            prefix,
            connection: None,
            retries: 0,
            padding: 0,
        }
    }

    /// Makes each payload larger by so many bytes.
    pub fn with_padding(mut self, bytes: usize) -> HttpPublisher {
        self.padding = bytes;
        self
    }

    /// How many requests had to be sent again.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Publishes one message for each topic, and returns when all are confirmed. While there is no gateway, it tries
    /// again and again.
    pub async fn publish(&mut self, topics: &[&str]) {
        let mut open: Vec<(Number, String)> = topics
            .iter()
            .map(|topic| {
                let number = self.ledger.enter(topic);
                (number, self.envelope(number, topic))
            })
            .collect();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !open.is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "{} messages not confirmed", open.len());
            let body: String = open.iter().map(|(_, envelope)| envelope.as_str()).collect();
            match self.send(&body).await {
                Some(results) => {
                    let mut results = results.into_iter();
                    open.retain(|(number, envelope)| {
                        let result = results.next().unwrap_or(Value::Null);
                        match result["position"].as_str() {
                            Some(position) => {
                                self.ledger.confirm(*number, position.parse().expect("a position"));
                                false
                            }
                            None => {
                                assert_eq!(result["remedy"], "retry", "{envelope}: {result}");
                                true
                            }
                        }
                    });
                }
                None => self.connection = None,
            }
            if !open.is_empty() {
                self.retries += 1;
            }
        }
    }

    /// One line of NDJSON.
    fn envelope(&self, number: Number, topic: &str) -> String {
        let metadata = json!({ "messageId": format!("{}-{number}", self.prefix), "topic": topic });
        let mut payload = json!({ "n": number });
        if self.padding > 0 {
            payload["padding"] = "x".repeat(self.padding).into();
        }
        format!("{}\n", json!({ "metadata": metadata, "payload": payload }))
    }

    /// The results, if there is an answer with results.
    async fn send(&mut self, body: &str) -> Option<Vec<Value>> {
        if self.connection.is_none() {
            match HttpClient::connect(self.address).await {
                Ok(connection) => self.connection = Some(connection),
                // No gateway at present.
                Err(_) => pause().await,
            }
        }
        let connection = self.connection.as_mut()?;
        let authorization = format!("Bearer {}", self.token);
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/x-ndjson")];
        let response = connection.request("POST", "/v1/publish", &headers, body.as_bytes()).await.ok()?;
        let answer = response.json();
        match answer["results"].as_array() {
            Some(results) => Some(results.clone()),
            None => {
                assert!(response.status >= 500 || response.status == 429, "{}: {answer}", response.status);
                None
            }
        }
    }
}

/// Publishes through an SDK client, one message at a time.
#[derive(Debug)]
pub struct SdkPublisher {
    client: Client,
    ledger: Arc<Ledger>,
}

impl SdkPublisher {
    pub fn new(client: Client, ledger: Arc<Ledger>) -> SdkPublisher {
        SdkPublisher { client, ledger }
    }

    /// Publishes a message, and returns when it is confirmed.
    pub async fn publish(&self, topic: &str) {
        let number = self.ledger.enter(topic);
        let publish = self.client.publish(topic).json(&json!({ "n": number })).expect("JSON");
        let published = publish.send().await.expect("a confirm");
        self.ledger.confirm(number, published.position);
    }
}
