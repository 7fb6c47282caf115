//! Upstreams: connections to them, and one request's way over such a connection.
//!
//! [`Upstreams`] belongs to a core and keeps its own connections; [`Shared`] is what cores share. Retries happen here
//! only where an idle connection turned out to be closed. Nothing here knows of APIs, plugins or status codes for callers.

mod connect;
mod counters;
mod deadline;
mod error;
mod h1;
mod h2;
mod limits;
mod paced;
mod pool;
mod prepare;
mod resolve;
mod splice;
mod stream;
mod target;
mod tls;
mod upload;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use http::{Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

pub use self::counters::UpstreamCounters;
pub use self::error::{KINDS, UpstreamError};
pub use self::resolve::{Lookup, Resolver};
pub use self::splice::splice;
pub use self::target::{Target, TargetError};
pub use self::tls::TlsError;

use self::deadline::{Deadline, ReplyWait};
use self::h1::Unanswered;
use self::limits::Place;
use self::pool::{Busy, Lease, Pool, Slot};
use self::stream::Stream;
use self::target::Speaks;
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
    /// With a resolver other than the system's.
    pub fn resolving(resolver: Resolver) -> Self {
        Self { resolver, ..Self::default() }
    }

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
    pub async fn send(
        &self,
        target: &Arc<Target>,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, UpstreamError> {
        let sent = self.exchange(target, &mut request).await;
        self.counted(sent)
    }

    /// Sends a request that asks for another protocol, over a connection of its own.
    ///
    /// The request still has `Connection: upgrade` and `Upgrade`, see [`hop::strip_but_upgrade`]. Where the upstream
    /// agrees, the answer is a 101 that has them too, and the second part becomes the connection.
    pub async fn send_upgrade(
        &self,
        target: &Arc<Target>,
        request: Request<Body>,
    ) -> Result<(Response<Body>, Option<OnUpgrade>), UpstreamError> {
        let sent = self.exchange_upgrade(target, request).await;
        self.counted(sent)
    }

    /// Waits until nobody asks for the addresses of a target. A lookup outlives those who wanted it; who bounds what goes on
    /// at one time counts it until here.
    pub async fn settled(&self, target: &Target) {
        self.shared.resolver.settled(&target.origin.host).await;
    }

    /// The request is taken out of its place when it is sent, and put back to be sent once more: a request in every one
    /// of these futures would make them twice as large, and they are moved.
    async fn exchange(&self, target: &Target, request: &mut Request<Body>) -> Result<Response<Body>, UpstreamError> {
        // The gateway's own server answers an expectation when the body is first asked for.
        request.headers_mut().remove(header::EXPECT);
        let upload = Upload::track(request);
        let upload = upload.as_ref();
        let slot = self.pool.slot(target);

        if let Some(lease) = slot.take().map_err(|Busy| busy(target))? {
            self.shared.counters.reused.fetch_add(1, Relaxed);
            let spare = Spare::of(request);
            match attempt(lease, request, upload, target, &slot).await {
                Ok(response) => return Ok(response),
                Err(unanswered) => *request = again(unanswered, spare, upload)?,
            }
            self.shared.counters.retries.fetch_add(1, Relaxed);
        }
        // Boxed, as it is rare and large.
        let lease = Box::pin(self.open(target, &slot)).await?;
        attempt(lease, request, upload, target, &slot).await.map_err(|unanswered| unanswered.error)
    }

    async fn exchange_upgrade(
        &self,
        target: &Target,
        mut request: Request<Body>,
    ) -> Result<(Response<Body>, Option<OnUpgrade>), UpstreamError> {
        if target.speaks() == Speaks::H2 {
            return Err(UpstreamError::Protocol(None));
        }
        request.headers_mut().remove(header::EXPECT);
        let upload = Upload::track(&mut request);
        prepare::frame(&mut request);
        let (mut stream, place) = self.connect(target, Offer::H1).await?;
        stream.hold(place);
        let (mut sender, driver) = h1::builder().handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(driver.with_upgrades());

        let (mut deadline, mut wait) = (Deadline::default(), ReplyWait::new(target.settings.reply_timeout));
        let mut reply = std::pin::pin!(sender.send_request(request));
        let reply = std::future::poll_fn(|cx| {
            if let Poll::Ready(reply) = reply.as_mut().poll(cx) {
                return Poll::Ready(reply.map_err(UpstreamError::from));
            }
            wait.poll(&mut deadline, upload.as_ref(), cx).map(Err)
        });
        let mut response = reply.await.map_err(|error| blame_body(error, upload.as_ref()))?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgrade = hyper::upgrade::on(&mut response);
            let mut response = response.map(|_| Body::Empty);
            hop::strip_but_upgrade(response.headers_mut());
            return Ok((response, Some(upgrade)));
        }
        hop::strip(response.headers_mut());
        let idle_timeout = target.settings.idle_timeout;
        Ok((response.map(|incoming| paced::body(incoming, None, idle_timeout)), None))
    }

    /// Opens a connection for a request, or takes one that another request opened meanwhile.
    async fn open(&self, target: &Target, slot: &Rc<Slot>) -> Result<Lease, UpstreamError> {
        if slot.speaks.get() == Speaks::H1 {
            return self.open_h1(target).await;
        }
        let waited = tokio::time::timeout(target.settings.connect_timeout, slot.gate.acquire()).await;
        let _gate = waited.map_err(|_| UpstreamError::ConnectTimeout)?;
        if let Some(lease) = slot.take().map_err(|Busy| busy(target))? {
            return Ok(lease);
        }
        let offer = match slot.speaks.get() {
            Speaks::H1 => return self.open_h1(target).await,
            Speaks::H2 if target.speaks() == Speaks::H2 => Offer::H2,
            Speaks::H2 | Speaks::Unsettled => Offer::Both,
        };
        let (stream, place) = self.connect(target, offer).await?;
        if target.origin.tls && !stream.negotiated_h2() {
            if offer == Offer::H2 {
                return Err(UpstreamError::Tls(std::io::Error::other("upstream does not speak `h2`")));
            }
            slot.speaks.set(Speaks::H1);
            return Ok(Lease::H1(h1::Connection::new(stream, place).await?));
        }
        slot.speaks.set(Speaks::H2);
        let connection = h2::Connection::new(stream, place).await?;
        slot.share(Rc::clone(&connection));
        connection.ticket().map(Lease::H2).ok_or_else(|| busy(target))
    }

    async fn open_h1(&self, target: &Target) -> Result<Lease, UpstreamError> {
        let (stream, place) = self.connect(target, Offer::H1).await?;
        Ok(Lease::H1(h1::Connection::new(stream, place).await?))
    }

    async fn connect(&self, target: &Target, offer: Offer) -> Result<(Stream, Place), UpstreamError> {
        let place = Place::take(&target.limits, &self.shared.counters).ok_or_else(|| busy(target))?;
        Ok((connect::open(&self.shared, target, offer).await?, place))
    }

    fn counted<T>(&self, sent: Result<T, UpstreamError>) -> Result<T, UpstreamError> {
        sent.inspect_err(|error| self.shared.counters.failed(error))
    }
}

async fn attempt(
    lease: Lease,
    request: &mut Request<Body>,
    upload: Option<&Rc<Upload>>,
    target: &Target,
    slot: &Rc<Slot>,
) -> Result<Response<Body>, Unanswered> {
    let settings = &target.settings;
    let sent = match lease {
        Lease::H1(mut connection) => {
            prepare::h1(request);
            let sent = connection.send(request, upload, settings).await;
            sent.map(|response| {
                response.map(|incoming| h1::reply_body(incoming, connection, Rc::clone(slot), settings))
            })
        }
        Lease::H2(ticket) => {
            prepare::h2(request, target)?;
            let connection = ticket.connection();
            let sent = h2::Connection::send(ticket, request, upload, settings).await;
            sent.inspect_err(|unanswered| {
                if unanswered.error.is_closed() {
                    slot.forget(&connection);
                }
            })
        }
    };
    let mut response =
        sent.map_err(|Unanswered { error, request }| Unanswered { error: blame_body(error, upload), request })?;
    hop::strip(response.headers_mut());
    Ok(response)
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
    request.map(|request| *request).or_else(|| spare?.request(upload)).ok_or(error)
}

/// A request that failed because of its own body says so.
fn blame_body(error: UpstreamError, upload: Option<&Rc<Upload>>) -> UpstreamError {
    upload.and_then(|upload| upload.error()).map_or(error, UpstreamError::RequestBody)
}

fn busy(target: &Target) -> UpstreamError {
    UpstreamError::Busy { connections_max: target.limits.connections_max }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
mod tests;
