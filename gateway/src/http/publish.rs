//! `POST /v1/publish`: one envelope, an array of them, or one a line (NDJSON).
//!
//! Every envelope is answered in its place: stored, with its position, or refused, with a code. Appends are queued in the
//! order of the body.

use super::Service;
use super::status::{advise_retry, refusal, write_refusal};
use crate::auth::Principal;
use crate::connection::session::{Doorkeeper, Refusal, append_refusal, ingest};
use crate::hub::publish::Publication;
use anabranch_protocol::code::Code;
use anabranch_protocol::cursor::Position;
use anabranch_protocol::envelope::Envelope;
use anabranch_protocol::json::{JsonError, ObjectWriter, Scanner};
use anabranch_protocol::limits;
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::future::join_all;
use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body_util::{BodyExt, Limited};
use std::sync::Arc;

pub(super) async fn publish(State(service): State<Service>, request: Request) -> Response {
    let principal = match authorize(&service, request.headers()) {
        Ok(principal) => principal,
        Err(refused) => return refusal(status(refused.code), refused.code, &refused.message),
    };
    let lines = request
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-ndjson"));
    let body = match Limited::new(request.into_body(), limits::HTTP_BODY_BYTES).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            let large = error.is::<http_body_util::LengthLimitError>();
            let code = if large { Code::TOO_LARGE } else { Code::BAD_ENVELOPE };
            return refusal(status(code), code, &format!("the body cannot be read: {error}"));
        }
    };
    let envelopes =
        match std::str::from_utf8(&body).map_err(|_| "the body is not UTF-8".to_owned()).and_then(|text| {
            let split =
                if lines { split_lines(text) } else { split_array(text).map_err(|error| error.to_string()) };
            split.and_then(|list| match list.len() {
                0 => Err("the body holds no envelope".to_owned()),
                1..=limits::HTTP_BATCH => Ok(list),
                more => Err(format!("the body holds {more} envelopes, {} are allowed", limits::HTTP_BATCH)),
            })
        }) {
            Ok(envelopes) => envelopes,
            Err(message) => return refusal(StatusCode::BAD_REQUEST, Code::BAD_ENVELOPE, &message),
        };
    let queued: Vec<Queued> = envelopes.into_iter().map(|text| queue(&service, &principal, text)).collect();
    // All at once: another publisher may wait for the end of any of them.
    let results = join_all(queued.into_iter().map(|queued| async {
        match queued {
            Queued::Refused { message_id, refusal } => Answer { message_id, result: Err(refusal) },
            Queued::Appending { message_id, publication } => {
                let result = publication.await.map_err(|error| append_refusal(&error));
                Answer { message_id: Some(message_id), result }
            }
        }
    }));
    answer(&results.await)
}

enum Queued {
    Appending { message_id: Box<str>, publication: Publication },
    Refused { message_id: Option<Box<str>>, refusal: Refusal },
}

struct Answer {
    message_id: Option<Box<str>>,
    result: Result<(Position, bool), Refusal>,
}

fn authorize(service: &Service, headers: &HeaderMap) -> Result<Arc<Principal>, Refusal> {
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")))
        .ok_or_else(|| Refusal::new(Code::TOKEN_INVALID, "send the token as Authorization: Bearer …"))?;
    service.node.verify(token.trim(), service.node.clock.unix_ms())
}

/// One envelope, or the items of an array.
fn split_array(text: &str) -> Result<Vec<&str>, JsonError> {
    let mut scanner = Scanner::new(text);
    let mut list = Vec::new();
    if text.trim_start().starts_with('[') {
        scanner.enter_array()?;
        while scanner.next_item()? {
            list.push(scanner.raw()?);
        }
    } else if !text.trim().is_empty() {
        list.push(scanner.raw()?);
    }
    scanner.end()?;
    Ok(list)
}

/// The lines that are not blank.
fn split_lines(text: &str) -> Result<Vec<&str>, String> {
    Ok(text.lines().filter(|line| !line.trim().is_empty()).collect())
}

fn queue(service: &Service, principal: &Principal, text: &str) -> Queued {
    let node = &service.node;
    let envelope = match Envelope::parse(text) {
        Ok(envelope) => envelope,
        Err(error) => {
            let refusal = Refusal { code: error.code, message: error.message };
            return Queued::Refused { message_id: Envelope::claimed_id(text).map(Box::from), refusal };
        }
    };
    let claimed: Option<Box<str>> = envelope.message_id.as_deref().map(Box::from);
    match ingest(envelope, principal, node.clock.unix_ms(), &node.rules.sizes, &**node) {
        Ok((message_id, record)) => {
            Queued::Appending { message_id, publication: node.publisher.publish(record) }
        }
        Err(refusal) => Queued::Refused { message_id: claimed, refusal },
    }
}

fn answer(results: &[Answer]) -> Response {
    let mut text = String::new();
    let mut body = ObjectWriter::begin(&mut text);
    let list = body.key("results");
    list.push('[');
    for (i, answer) in results.iter().enumerate() {
        if i > 0 {
            list.push(',');
        }
        let mut item = ObjectWriter::begin(list);
        if let Some(id) = &answer.message_id {
            item.string("messageId", id);
        }
        match &answer.result {
            Ok((position, duplicate)) => {
                item.plain("position", position);
                if *duplicate {
                    item.boolean("duplicate", true);
                }
                item.end();
            }
            Err(refusal) => write_refusal(&mut item, refusal.code, &refusal.message),
        }
    }
    list.push(']');
    body.end();
    let stored = results.iter().filter(|answer| answer.result.is_ok()).count();
    let first_refusal = results.iter().find_map(|answer| answer.result.as_ref().err());
    let status = match first_refusal {
        None => StatusCode::OK,
        Some(_) if stored > 0 => StatusCode::MULTI_STATUS,
        Some(refusal) => status(refusal.code),
    };
    let mut response = Response::new(axum::body::Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    advise_retry(&mut response);
    response
}

/// The HTTP status that comes nearest to a code.
fn status(code: Code) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::BAD_REQUEST)
}
