//! `GET /v1/ws`: the WebSocket handshake (RFC 6455, section 4.2). The token comes later, in the first frame.

use super::Service;
use super::accept::UpgradeSlot;
use super::status::refusal;
use anabranch_protocol::SUBPROTOCOL;
use anabranch_protocol::code::Code;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, StatusCode};
use hyper::upgrade::OnUpgrade;
use sha1::Digest;

pub(super) async fn handshake(State(service): State<Service>, mut request: Request) -> Response {
    if service.node.is_draining() {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, Code::GOING_AWAY, Code::GOING_AWAY.advice());
    }
    let accept = match check(&service, request.method(), request.headers()) {
        Ok(accept) => accept,
        Err(response) => return *response,
    };
    let slot = request.extensions().get::<UpgradeSlot>().cloned();
    let (Some(slot), Some(upgrade)) = (slot, request.extensions_mut().remove::<OnUpgrade>()) else {
        let message = "this connection cannot be upgraded: HTTP/1.1 is needed";
        return refusal(StatusCode::BAD_REQUEST, Code::BAD_WEBSOCKET, message);
    };
    slot.put(upgrade);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if request.headers().contains_key(SEC_WEBSOCKET_PROTOCOL) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    response
}

/// Checks the request; returns the value that proves that we understood it.
fn check(service: &Service, method: &Method, headers: &HeaderMap) -> Result<HeaderValue, Box<Response>> {
    let bad = |message| Box::new(refusal(StatusCode::BAD_REQUEST, Code::BAD_WEBSOCKET, message));
    if *method != Method::GET {
        return Err(bad("a WebSocket begins with GET"));
    }
    if !has_token(headers, &CONNECTION, "upgrade") || !has_token(headers, &UPGRADE, "websocket") {
        let message = "this address speaks WebSocket: send Connection: upgrade and Upgrade: websocket";
        return Err(Box::new(refusal(StatusCode::UPGRADE_REQUIRED, Code::BAD_WEBSOCKET, message)));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut response =
            refusal(StatusCode::UPGRADE_REQUIRED, Code::BAD_WEBSOCKET, "Sec-WebSocket-Version must be 13");
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(response));
    }
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("not text"));
    if !service.origins.allow(text(ORIGIN), text(HOST)) {
        return Err(Box::new(refusal(
            StatusCode::FORBIDDEN,
            Code::ORIGIN_REFUSED,
            Code::ORIGIN_REFUSED.advice(),
        )));
    }
    if headers.contains_key(SEC_WEBSOCKET_PROTOCOL)
        && !has_token(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
    {
        let code = Code::UNSUPPORTED_VERSION;
        return Err(Box::new(refusal(StatusCode::BAD_REQUEST, code, code.advice())));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes).unwrap_or_default();
    if BASE64_STANDARD.decode(key).map(|nonce| nonce.len()) != Ok(16) {
        return Err(bad("Sec-WebSocket-Key must be 16 bytes in base64"));
    }
    let mut hash = sha1::Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = BASE64_STANDARD.encode(hash.finalize());
    HeaderValue::from_str(&accept).map_err(|_| bad("Sec-WebSocket-Key must be 16 bytes in base64"))
}

/// Whether a header that is a list holds a token, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}
