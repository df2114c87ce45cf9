//! The demo's small HTTP service: it commands the chaos proxy and the slow link, and gives the page its tokens. Only the page's own origin
//! may use it from a browser, and only by a name of this machine (a foreign name that was made to point here is refused).

use crate::tokens::Minter;
use anabranch_tests::proxy::{ChaosProxy, Flow, Weather};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// How long a fault lasts, ms.
const FAULT_MS: RangeInclusive<u64> = 100..=600_000;
const DEFAULT_FAULT_MS: u64 = 30_000;
/// What the slow link lets through, bytes a second.
const SLOW_BYTES: RangeInclusive<u64> = 500..=1_000_000;
const DEFAULT_SLOW_BYTES: u64 = 4_000;
/// How long a page's token lives, s.
const TTL_S: RangeInclusive<u64> = 5..=3600;
const DEFAULT_TTL_S: u64 = 300;

type Answer = Response<Full<Bytes>>;

pub struct Control {
    proxy: Arc<ChaosProxy>,
    slow: Arc<ChaosProxy>,
    minter: Minter,
    origins: [String; 2],
    fault: Mutex<Option<Fault>>,
}

/// What the proxy does to the page's connections, until when, and what will end it.
struct Fault {
    name: &'static str,
    until: Instant,
    healing: AbortHandle,
}

impl Control {
    pub fn new(
        proxy: Arc<ChaosProxy>,
        slow: Arc<ChaosProxy>,
        minter: Minter,
        page_port: u16,
    ) -> Arc<Control> {
        let origins = ["localhost", "127.0.0.1"].map(|host| format!("http://{host}:{page_port}"));
        Arc::new(Control { proxy, slow, minter, origins, fault: Mutex::new(None) })
    }

    pub async fn serve(self: Arc<Control>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let control = self.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(|request| {
                    let answer = control.answer(&request);
                    async { Ok::<_, Infallible>(answer) }
                });
                // A browser that left in the middle of a request is no news.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    fn answer(self: &Arc<Control>, request: &Request<Incoming>) -> Answer {
        let origin = request.headers().get(header::ORIGIN);
        let allowed = origin.and_then(|origin| self.origins.iter().find(|known| *known == origin));
        let host =
            request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let local = host.split(':').next().is_some_and(|name| name == "localhost" || name == "127.0.0.1");
        if !local || (origin.is_some() && allowed.is_none()) {
            return tell(StatusCode::FORBIDDEN, &json!({ "error": "only the demo's own page may ask here" }));
        }
        let query = Query(request.uri().query().unwrap_or_default());
        let mut answer = match (request.method(), request.uri().path()) {
            (&Method::OPTIONS, _) => tell(StatusCode::OK, &json!({})),
            (&Method::GET, "/demo/token") => self.token(&query),
            (&Method::GET, "/chaos") => tell(StatusCode::OK, &self.state()),
            (&Method::POST, "/chaos/cut") => self.strike("cut", &query, ChaosProxy::cut_and_refuse),
            (&Method::POST, "/chaos/freeze") => self.strike("freeze", &query, ChaosProxy::freeze),
            (&Method::POST, "/chaos/heal") => self.heal(),
            (&Method::POST, "/slow/throttle") => self.throttle(&query),
            (&Method::POST, "/slow/release") => self.release(),
            _ => {
                let known = "GET /demo/token?ttl=S, GET /chaos, POST /chaos/cut?ms=N, /chaos/freeze?ms=N, /chaos/heal, \
                    /slow/throttle?bytes=N, /slow/release";
                tell(StatusCode::NOT_FOUND, &json!({ "error": "no such thing here", "known": known }))
            }
        };
        let headers = answer.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(value) = allowed.and_then(|origin| HeaderValue::from_str(origin).ok()) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
        }
        answer
    }

    fn token(&self, query: &Query<'_>) -> Answer {
        match query.number("ttl", TTL_S, DEFAULT_TTL_S) {
            Ok(ttl) => {
                let token = self.minter.page(Duration::from_secs(ttl));
                tell(StatusCode::OK, &json!({ "token": token, "ttl": ttl }))
            }
            Err(error) => tell(StatusCode::BAD_REQUEST, &json!({ "error": error })),
        }
    }

    /// Begins a fault, which ends by itself. A newer command replaces an older one.
    fn strike(self: &Arc<Control>, name: &'static str, query: &Query<'_>, begin: fn(&ChaosProxy)) -> Answer {
        let ms = match query.number("ms", FAULT_MS, DEFAULT_FAULT_MS) {
            Ok(ms) => ms,
            Err(error) => return tell(StatusCode::BAD_REQUEST, &json!({ "error": error })),
        };
        self.end_fault();
        begin(&self.proxy);
        let until = Instant::now() + Duration::from_millis(ms);
        let control = self.clone();
        let healing = tokio::spawn(async move {
            tokio::time::sleep_until(until.into()).await;
            control.end_fault();
        });
        *self.lock() = Some(Fault { name, until, healing: healing.abort_handle() });
        tell(StatusCode::OK, &self.state())
    }

    /// Makes the slow link slow towards the page: so many bytes a second for each connection.
    fn throttle(&self, query: &Query<'_>) -> Answer {
        match query.number("bytes", SLOW_BYTES, DEFAULT_SLOW_BYTES) {
            Ok(bytes) => {
                let down = Flow::Throttle(u32::try_from(bytes).unwrap_or(u32::MAX));
                self.slow.set(Weather { down, ..Weather::default() });
                tell(StatusCode::OK, &json!({ "bytes": bytes }))
            }
            Err(error) => tell(StatusCode::BAD_REQUEST, &json!({ "error": error })),
        }
    }

    fn release(&self) -> Answer {
        self.slow.heal();
        tell(StatusCode::OK, &json!({ "bytes": null }))
    }

    fn heal(&self) -> Answer {
        self.end_fault();
        tell(StatusCode::OK, &self.state())
    }

    fn end_fault(&self) {
        if let Some(fault) = self.lock().take() {
            fault.healing.abort();
        }
        self.proxy.heal();
    }

    fn state(&self) -> Value {
        let connections = self.proxy.connections();
        match &*self.lock() {
            Some(Fault { name, until, .. }) => {
                let left = until.saturating_duration_since(Instant::now()).as_millis() as u64;
                json!({ "fault": name, "leftMs": left, "connections": connections })
            }
            None => json!({ "fault": null, "connections": connections }),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Fault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A query such as `ttl=30`, without any escapes: its values are numbers.
struct Query<'q>(&'q str);

impl Query<'_> {
    fn number(&self, name: &str, range: RangeInclusive<u64>, default: u64) -> Result<u64, String> {
        let found = self.0.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let Some(text) = found else { return Ok(default) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number
            .ok_or_else(|| format!("{name} must be a whole number from {} to {}", range.start(), range.end()))
    }
}

fn tell(status: StatusCode, value: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(value.to_string())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// The status that a server answers with, if it answers.
pub async fn status_of(server: SocketAddr, path: &str) -> Option<u16> {
    let stream = TcpStream::connect(server).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let driving = tokio::spawn(connection);
    let request =
        Request::get(path).header(header::HOST, server.to_string()).body(Empty::<Bytes>::new()).ok()?;
    let status = sender.send_request(request).await.ok().map(|response| response.status().as_u16());
    driving.abort();
    status
}
