//! An upstream on a thread of its own: it answers as it is told, and remembers what it was sent.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A running upstream; it ends when it is dropped.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    answer: Box<dyn Fn(&Seen) -> Answer + Send + Sync>,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query, as they stood in the request line.
    pub target: String,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Trailers, if there were any.
    pub trailers: HeaderMap,
}

/// An answer to give.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<Bytes>,
    is_chunked: bool,
    trailers: HeaderMap,
    after: Duration,
    pause: Duration,
}

impl Upstream {
    /// One that answers `200` and `upstream`.
    #[must_use]
    pub fn start() -> Self {
        Self::answering(|_| Answer::new(200).body("upstream"))
    }

    /// One that answers like this.
    #[must_use]
    pub fn answering(answer: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { seen: Mutex::default(), answer: Box::new(answer) });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let of_thread = shared.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = serve(listener, of_thread) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, _stop: stop }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests came.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.seen().len()
    }

    /// All requests.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last request.
    #[must_use]
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the upstream was called")
    }
}

impl Seen {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// All values of a header.
    #[must_use]
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect()
    }
}

impl Answer {
    /// An answer without body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Vec::new(),
            is_chunked: false,
            trailers: HeaderMap::new(),
            after: Duration::ZERO,
            pause: Duration::ZERO,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"));
        self
    }

    /// Sends this body, with its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = vec![body.into()];
        self
    }

    /// Sends this body in pieces, without its length, and a trailer after it.
    #[must_use]
    pub fn pieces<const N: usize>(mut self, pieces: [&'static str; N], trailer: Option<(&'static str, &str)>) -> Self {
        self.body = pieces.map(|piece| Bytes::from_static(piece.as_bytes())).into();
        self.is_chunked = true;
        if let Some((name, value)) = trailer {
            self = self.header("trailer", name);
            self.trailers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"));
        }
        self
    }

    /// Comes so late.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        self.after = time;
        self
    }

    /// Pauses before each of its pieces.
    #[must_use]
    pub fn pausing(mut self, time: Duration) -> Self {
        self.pause = time;
        self
    }

    fn into_response(self) -> Response<BoxBody<Bytes, Infallible>> {
        let body = if self.is_chunked {
            let data = self.body.into_iter().map(Frame::data);
            let last = (!self.trailers.is_empty()).then(|| Frame::trailers(self.trailers));
            let frames: Vec<_> = data.chain(last).map(Ok).collect();
            let pause = self.pause;
            let late = futures_util::stream::iter(frames).then(move |frame| async move {
                tokio::time::sleep(pause).await;
                frame
            });
            BodyExt::boxed(StreamBody::new(late))
        } else {
            Full::new(self.body.concat().into()).boxed()
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status.try_into().expect("a status");
        *response.headers_mut() = self.headers;
        response
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let shared = shared.clone();
        let service = hyper::service::service_fn(move |request| respond(request, shared.clone()));
        // A broken connection is its test's matter.
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn respond(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await?;
    let seen = Seen {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: parts.headers,
        trailers: collected.trailers().cloned().unwrap_or_default(),
        body: collected.to_bytes(),
    };
    let answer = (shared.answer)(&seen);
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    tokio::time::sleep(answer.after).await;
    Ok(answer.into_response())
}
