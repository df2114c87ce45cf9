//! Devices that speak MQTT to RabbitMQ's plugin and have never heard of Anabranch, by clients that no one here wrote.

use anabranch_brokers::RabbitMq;
use anabranch_tests::brokers;
use anabranch_tests::gateway_process::{Gateway, Settings};
use anabranch_tests::http_client::request;
use anabranch_tests::raw_client::RawClient;
use anabranch_tests::tokens;
use anabranch_tests::wait::within;
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A gateway on the broker's exchange `iotsphere`, with a stream of its own.
async fn gateway(broker: &RabbitMq) -> Gateway {
    gateway_with(broker, Settings::default()).await
}

async fn gateway_with(broker: &RabbitMq, settings: Settings) -> Gateway {
    let queue = format!("mqtt-{}", uuid::Uuid::new_v4());
    let log = format!("\"{}?queue={queue}\"", broker.url());
    let gateway = Gateway::with(settings.set("log", &log)).await;
    gateway.ready().await;
    gateway
}

/// A client that hears everything of one device.
async fn listener(gateway: &Gateway, device: &str) -> RawClient {
    let filter = json!([{ "id": 1, "filter": format!("iotsphere/devices/{device}/#") }]);
    let hello = RawClient::hello(gateway.address(), &tokens::all("dashboard"), filter).await;
    let (mut client, _) = hello.expect("a welcome");
    client.expect("caught_up").await;
    client
}

/// A name that no other run has used: the broker keeps what earlier ones said.
fn device(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// Publishes at QoS 1, which returns when the broker has confirmed it.
async fn mosquitto_pub(broker: &RabbitMq, topic: &str, payload: &str) {
    let port = broker.mqtt_port().to_string();
    let mut publish = command("mosquitto_pub");
    publish.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-m", payload]);
    let status = within("mosquitto_pub", publish.status()).await.expect("mosquitto_pub");
    assert!(status.success(), "{status}");
}

async fn post(gateway: &Gateway, envelope: &Value) {
    let bearer = format!("Bearer {}", tokens::all("operator"));
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let body = envelope.to_string();
    let answer = request(gateway.address(), "POST", "/v1/publish", &headers, body.as_bytes()).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A program's output, line by line.
struct Output {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Output {
    fn of(mut command: Command) -> Output {
        let mut child = command.spawn().expect("a program");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Output { lines, _child: child }
    }

    /// The next line for which this is so.
    async fn line(&mut self, what: &str, so: impl Fn(&str) -> bool) -> String {
        let found = async {
            while let Some(line) = self.lines.next_line().await.expect("readable lines") {
                if so(&line) {
                    return line;
                }
            }
            panic!("the program ended before {what}");
        };
        within(what, found).await
    }
}

fn check_envelope(message: &Value, topic: &str, payload: &Value) {
    let metadata = &message["envelope"]["metadata"];
    assert_eq!(&message["envelope"]["payload"], payload, "{message}");
    assert_eq!(metadata["topic"], topic, "{message}");
    for field in ["messageId", "timestamp", "source"] {
        assert!(metadata[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {message}");
    }
}

#[tokio::test]
async fn mqtt_by_mosquitto_reaches_a_websocket_and_back() {
    let Some(()) = brokers::mosquitto() else { return };
    let Some(broker) = brokers::rabbitmq().await else { return };
    let gateway = gateway(&broker).await;
    let device = device("mosquitto");
    let mut client = listener(&gateway, &device).await;
    let topic = |rest: &str| format!("iotsphere/devices/{device}/{rest}");

    // Bare payloads: no envelope, whatever JSON a device says.
    for payload in [json!(21.5), json!({ "celsius": 21.5, "ok": true }), json!("on"), json!([1, 2])] {
        let topic = topic("telemetry/temperature");
        mosquitto_pub(&broker, &topic, &payload.to_string()).await;
        check_envelope(&client.expect("message").await, &topic, &payload);
    }

    // A command goes the other way.
    let requests = topic("commands/request");
    let port = broker.mqtt_port().to_string();
    // Into a pipe it would write no line before it ends.
    let mut subscribe = command("stdbuf");
    subscribe.args(["-oL", "mosquitto_sub"]);
    subscribe.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-d", "-F", "%t %p", "-t", &requests]);
    let mut heard = Output::of(subscribe);
    heard.line("its subscription", |line| line.contains("received SUBACK")).await;
    let metadata =
        json!({ "messageId": "c-1", "correlationId": "x-1", "topic": requests, "messageType": "command" });
    post(&gateway, &json!({ "metadata": metadata, "payload": { "reboot": true } })).await;
    let line = heard.line("the command", |line| line.starts_with(&requests)).await;
    let (_, envelope) = line.split_once(' ').expect("a topic and a payload");
    let envelope: Value = serde_json::from_str(envelope).expect("JSON");
    assert_eq!(envelope["payload"], json!({ "reboot": true }));
    assert_eq!(envelope["metadata"]["correlationId"], "x-1");
    assert_eq!(client.expect("message").await["envelope"], envelope, "dashboards see the same command");

    // The device answers with an envelope, which is kept as it is.
    let responses = topic("commands/response");
    let metadata =
        json!({ "messageId": "r-1", "correlationId": "x-1", "messageType": "response", "topic": responses });
    mosquitto_pub(&broker, &responses, &json!({ "metadata": metadata, "payload": "done" }).to_string()).await;
    let answer = client.expect("message").await;
    check_envelope(&answer, &responses, &json!("done"));
    assert_eq!(answer["envelope"]["metadata"]["correlationId"], "x-1");
    assert_eq!(answer["envelope"]["metadata"]["messageId"], "r-1");
}

/// Connects, subscribes to the device's requests, says `ready`, publishes a reading, and prints what it hears.
const DEVICE: &str = r#"
import json, sys
import paho.mqtt.client as mqtt
port, device = int(sys.argv[1]), sys.argv[2]
base = f"iotsphere/devices/{device}"
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
client.on_connect = lambda client, *_: client.subscribe(f"{base}/commands/request", qos=1)
def subscribed(client, *_):
    print("ready", flush=True)
    client.publish(f"{base}/telemetry/pressure", json.dumps({"bar": 1.013}), qos=1)
client.on_subscribe = subscribed
def heard(client, _, message):
    command = json.loads(message.payload)
    print(json.dumps({"topic": message.topic, "payload": command["payload"]}), flush=True)
    client.publish(f"{base}/commands/response", json.dumps({"did": command["payload"]}), qos=1)
client.on_message = heard
client.connect("127.0.0.1", port)
client.loop_forever()
"#;

#[tokio::test]
async fn mqtt_by_paho_reaches_a_websocket_and_back() {
    let Some(python) = brokers::python_with_paho() else { return };
    let Some(broker) = brokers::rabbitmq().await else { return };
    let gateway = gateway(&broker).await;
    let device = device("paho");
    let mut client = listener(&gateway, &device).await;
    let topic = |rest: &str| format!("iotsphere/devices/{device}/{rest}");

    let mut script = command(python);
    script.args(["-c", DEVICE, &broker.mqtt_port().to_string(), &device]);
    let mut heard = Output::of(script);
    heard.line("its subscription", |line| line == "ready").await;
    check_envelope(&client.expect("message").await, &topic("telemetry/pressure"), &json!({ "bar": 1.013 }));

    let metadata =
        json!({ "messageId": "c-2", "topic": topic("commands/request"), "messageType": "command" });
    post(&gateway, &json!({ "metadata": metadata, "payload": "blink" })).await;
    let line = heard.line("the command", |line| line.starts_with('{')).await;
    let told: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(told, json!({ "topic": topic("commands/request"), "payload": "blink" }));
    check_envelope(&client.expect("message").await, &topic("commands/request"), &json!("blink"));
    check_envelope(&client.expect("message").await, &topic("commands/response"), &json!({ "did": "blink" }));
}

/// A device that knows nothing but MQTT has a shadow: it publishes what is so, and hears what is desired and not so.
#[tokio::test]
async fn mqtt_by_mosquitto_has_a_shadow() {
    let Some(()) = brokers::mosquitto() else { return };
    let Some(broker) = brokers::rabbitmq().await else { return };
    let gateway = gateway_with(&broker, Settings::default().set("shadows.enabled", "true")).await;
    let device = device("shadow");
    let topic = |leaf: &str| format!("iotsphere/devices/{device}/shadow/{leaf}");
    let document = json!([{ "id": 1, "filter": topic("document") }]);
    let hello = RawClient::hello(gateway.address(), &tokens::all("dashboard"), document).await;
    let (mut client, _) = hello.expect("a welcome");
    client.expect("caught_up").await;

    let deltas = topic("delta");
    let port = broker.mqtt_port().to_string();
    let mut subscribe = command("stdbuf");
    subscribe.args(["-oL", "mosquitto_sub"]);
    subscribe.args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-d", "-F", "%t %p", "-t", &deltas]);
    let mut heard = Output::of(subscribe);
    heard.line("a SUBACK", |line| line.contains("SUBACK")).await;

    mosquitto_pub(&broker, &topic("reported"), r#"{"rpm": 800, "on": true}"#).await;
    let told = client.expect("message").await;
    assert_eq!(told["envelope"]["payload"]["state"], json!({ "reported": { "rpm": 800, "on": true } }));
    let wish = json!({ "metadata": { "topic": topic("desired") }, "payload": { "rpm": 1200 } });
    post(&gateway, &wish).await;
    let line = heard.line("the delta", |line| line.starts_with(&deltas)).await;
    let (_, text) = line.split_once(' ').expect("a payload");
    let envelope: Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(envelope["payload"]["state"], json!({ "rpm": 1200 }));
    mosquitto_pub(&broker, &topic("reported"), r#"{"rpm": 1200}"#).await;
    heard.line("no delta", |line| line.starts_with(&deltas) && line.contains(r#""payload":null"#)).await;
}
