//! The control port: is it alive, is it ready, what does it count.
//!
//! On a thread of its own, so that it answers when the serving threads are busy.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::sync::{Semaphore, oneshot};

/// A bound control port that does not answer yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the control port tells.
#[derive(Clone)]
pub struct AdminState {
    /// Asked for `/ready`.
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// Asked for `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// Whether callers should be sent here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Every API is served, and the gateway is not ending.
    pub is_ready: bool,
    /// The gateway is ending.
    pub is_draining: bool,
    /// What is not in order: its name, and why.
    pub details: Vec<(String, String)>,
}

/// A running control port; it ends when this is dropped.
#[derive(Debug)]
pub struct AdminHandle {
    /// The address that it listens on.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Takes the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Starts to answer.
    pub fn serve(self, state: AdminState) -> io::Result<AdminHandle> {
        let (stop, stopped) = oneshot::channel();
        let (started, has_started) = mpsc::channel();
        let listener = self.listener;
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let ready = runtime.and_then(|runtime| {
                let listener = runtime.block_on(async { tokio::net::TcpListener::from_std(listener) })?;
                Ok((runtime, listener))
            });
            match ready {
                Ok((runtime, listener)) => {
                    // The one who waits is in this function, below.
                    let _ = started.send(Ok(()));
                    runtime.block_on(accept(listener, state, stopped));
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        };
        let thread = std::thread::Builder::new().name("stile-control".to_owned()).spawn(run)?;
        has_started.recv().map_err(io::Error::other)??;
        Ok(AdminHandle { address: self.address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the control port must not end the gateway.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, state: AdminState, mut stopped: oneshot::Receiver<()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepting = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        // Strangers may hold all places, so the end is waited for beside both.
        let (place, accepted) = tokio::select! {
            accepted = accepting => accepted,
            _ = &mut stopped => return,
        };
        let Ok(place) = place else { return };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "control port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let state = state.clone();
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(move |request| {
                let response = respond(&request, &state);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(HEADER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), answer);
            // A broken connection is its caller's matter.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
            drop(place);
        });
    }
}

fn respond(request: &Request<Incoming>, state: &AdminState) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/live" | "/ready" | "/metrics") {
        return json_response(
            StatusCode::NOT_FOUND,
            &json!({ "error": "not found; there are /live, /ready, /metrics" }),
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = json_response(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "method not allowed" }));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match path {
        "/live" => json_response(StatusCode::OK, &json!({ "status": "alive" })),
        "/ready" => readiness(&(state.readiness)()),
        _ => {
            let mut response = Response::new(Full::from((state.metrics)()));
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            response
        }
    }
}

fn readiness(readiness: &Readiness) -> Response<Full<Bytes>> {
    let status = match (readiness.is_ready, readiness.is_draining) {
        (_, true) => "draining",
        (true, false) => "ready",
        (false, false) => "not ready",
    };
    let details: serde_json::Map<String, serde_json::Value> =
        readiness.details.iter().map(|(name, reason)| (name.clone(), reason.clone().into())).collect();
    let code = if readiness.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_response(code, &json!({ "status": status, "details": details }))
}

fn json_response(status: StatusCode, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

const CONNECTIONS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 << 10;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn stopping_does_not_wait_for_callers_that_hold_all_places() {
        let readiness = || Readiness { is_ready: true, is_draining: false, details: Vec::new() };
        let state = AdminState { readiness: Arc::new(readiness), metrics: Arc::new(String::new) };
        let handle = Admin::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().serve(state).unwrap();
        let hold = |_| {
            let mut stream = TcpStream::connect(handle.address).unwrap();
            stream.write_all(b"GET /live HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            // An answer shows that the place is taken.
            stream.read_exact(&mut [0; 12]).unwrap();
            stream
        };
        let _held: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(hold).collect();
        let (ended, has_ended) = mpsc::channel();

        std::thread::spawn(move || {
            drop(handle);
            ended.send(()).unwrap();
        });

        // Sooner than the places come free by themselves.
        has_ended.recv_timeout(HEADER_TIMEOUT / 2).unwrap();
    }
}
