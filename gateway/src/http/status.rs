//! `/livez`, `/readyz`, `/metrics`, and how a refusal looks over HTTP.

use super::Service;
use anabranch_protocol::code::Code;
use anabranch_protocol::json::ObjectWriter;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};

pub(super) const JSON: (HeaderName, &str) = (CONTENT_TYPE, "application/json");

/// The process runs.
pub(super) async fn live() -> impl IntoResponse {
    ([JSON], r#"{"live":true}"#)
}

/// This node takes connections, and messages find their way through it: its own canary came back a moment ago.
pub(super) async fn ready(State(service): State<Service>) -> Response {
    let node = &service.node;
    let mut text = String::new();
    let mut object = ObjectWriter::begin(&mut text);
    object.boolean("ready", node.is_ready()).boolean("draining", node.is_draining());
    object.string("log", &node.log.capabilities().description).plain("logId", node.log.id());
    let passed_over = node.log.passed_over();
    object.raw("partitions", &node.upstream.describe());
    object.number("poisoned", passed_over.poisoned).number("quarantined", passed_over.quarantined);
    match node.canary.age() {
        Some(age) => object.number("canaryAgeMs", age.as_millis() as u64),
        None => object.raw("canaryAgeMs", "null"),
    };
    if let Some(why) = node.canary.refusal() {
        object.string("canaryRefused", &why);
    }
    object.end();
    let status = if node.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [JSON], text).into_response()
}

/// The path is ours, the method is not the one it takes.
pub(super) async fn wrong_method() -> Response {
    let message =
        "this path takes another method: GET /v1/ws, POST /v1/publish, GET /livez, /readyz and /metrics";
    refusal(StatusCode::METHOD_NOT_ALLOWED, Code::BAD_FRAME, message)
}

/// Prometheus text.
pub(super) async fn metrics(State(service): State<Service>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], service.metrics.render())
}

/// A refusal with its code, its remedy and its reason.
pub(super) fn refusal(status: StatusCode, code: Code, message: &str) -> Response {
    let mut text = String::new();
    write_refusal(&mut ObjectWriter::begin(&mut text), code, message);
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    advise_retry(&mut response);
    response
}

/// Says when to come back, if that is the remedy.
pub(super) fn advise_retry(response: &mut Response) {
    if matches!(response.status(), StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
}

/// Writes a refusal's fields and closes its object.
pub(super) fn write_refusal(object: &mut ObjectWriter<'_>, code: Code, message: &str) {
    object
        .number("code", u64::from(code.0))
        .string("remedy", code.remedy().name())
        .string("message", message)
        .end();
}
