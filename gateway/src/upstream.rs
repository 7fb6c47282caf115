//! Upstreams: connections to them, and one request's way over such a connection.
//!
//! [`Upstreams`] belongs to a core and keeps its own connections; [`Shared`] is what cores share. Retries happen here
//! only where an idle connection turned out to be closed. Nothing here knows of APIs, plugins or status codes for callers.

mod connect;
mod counters;
mod deadline;
mod error;
mod h1;
mod limits;
mod pool;
mod resolve;
mod stream;
mod target;
mod tls;
mod upload;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Request, Response, Version};

pub use self::counters::UpstreamCounters;
pub use self::error::{KINDS, UpstreamError};
pub use self::resolve::Resolver;
pub use self::target::{Target, TargetError};
pub use self::tls::TlsError;

use self::h1::{Connection, Unanswered};
use self::limits::Place;
use self::pool::{Pool, Slot};
use self::tls::Offer;
use self::upload::{Spare, Upload};
use crate::message::body::Body;
use crate::message::hop;

/// What all cores share.
#[derive(Debug, Default)]
pub struct Shared {
    resolver: Resolver,
    counters: Arc<UpstreamCounters>,
}

/// One core's way to all upstreams. Clones share its connections.
///
/// Lives inside a `LocalRuntime`.
#[derive(Debug, Clone)]
pub struct Upstreams {
    shared: Arc<Shared>,
    pool: Rc<Pool>,
}

impl Shared {
    /// What upstream connections did so far.
    pub fn counters(&self) -> &UpstreamCounters {
        &self.counters
    }
}

impl Upstreams {
    /// A core's own connections, none yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pool: Rc::default() }
    }

    /// Sends a request and waits for the head of the answer; its body follows while it is read.
    ///
    /// The request has an origin-form URI, a `Host`, and no hop-by-hop fields. The answer has none either. Dropping the
    /// future, or the answer's body before its end, closes the connection.
    pub async fn send(&self, target: &Arc<Target>, request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        let sent = self.exchange(target, request).await;
        if let Err(error) = &sent {
            self.shared.counters.failed(error);
        }
        sent
    }

    async fn exchange(&self, target: &Target, mut request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
        // The gateway's own server answers an expectation when the body is first asked for.
        request.headers_mut().remove(header::EXPECT);
        let upload = Upload::track(&mut request);
        let slot = self.pool.slot(target);

        prepare_h1(&mut request);
        if let Some(mut connection) = slot.take() {
            if !connection.activate() {
                slot.park(connection);
                return Err(busy(target));
            }
            self.shared.counters.reused.fetch_add(1, Relaxed);
            let spare = Spare::of(&request);
            match attempt(connection, request, upload.as_ref(), target, &slot).await {
                Ok(response) => return Ok(response),
                Err(unanswered) => request = again(unanswered, spare, upload.as_ref())?,
            }
            self.shared.counters.retries.fetch_add(1, Relaxed);
        }
        let place = Place::take(&target.limits, &self.shared.counters).ok_or_else(|| busy(target))?;
        let stream = connect::open(&self.shared, target, Offer::H1).await?;
        let connection = Connection::new(stream, place).await?;
        Ok(attempt(connection, request, upload.as_ref(), target, &slot).await.map_err(|unanswered| unanswered.error)?)
    }
}

async fn attempt(
    mut connection: Box<Connection>,
    request: Request<Body>,
    upload: Option<&Rc<Upload>>,
    target: &Target,
    slot: &Rc<Slot>,
) -> Result<Response<Body>, Unanswered> {
    match connection.send(request, upload, &target.settings).await {
        Ok(response) => {
            let mut response =
                response.map(|incoming| h1::reply_body(incoming, connection, Rc::clone(slot), &target.settings));
            hop::strip(response.headers_mut());
            Ok(response)
        }
        Err(unanswered) => Err(match upload.and_then(|upload| upload.error()) {
            Some(error) => UpstreamError::RequestBody(error).into(),
            None => unanswered,
        }),
    }
}

/// The request once more, if the upstream cannot have acted on it or may do so twice.
fn again(
    unanswered: Unanswered,
    spare: Option<Spare>,
    upload: Option<&Rc<Upload>>,
) -> Result<Request<Body>, UpstreamError> {
    let Unanswered { error, request } = unanswered;
    if !error.is_closed() {
        return Err(error);
    }
    request.or_else(|| spare?.request(upload)).ok_or(error)
}

/// HTTP/1.1 has one `Cookie` field, where HTTP/2 may split it (RFC 9113, section 8.2.3).
fn prepare_h1(request: &mut Request<Body>) {
    if request.version() == Version::HTTP_2 {
        join_cookies(request.headers_mut());
    }
    *request.version_mut() = Version::HTTP_11;
}

fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

fn busy(target: &Target) -> UpstreamError {
    UpstreamError::Busy { connections_max: target.limits.connections_max }
}
