//! HTTP/1.1 towards an upstream, driven by the task of the request that uses the connection.
//!
//! hyper splits a client connection into a sender and a driver that usually has a task of its own. Here both stay
//! together: no task per connection, no hand-over between tasks. Futures that only the driver can make ready are
//! polled with a waker that does nothing, right after the driver.

use std::fmt;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::deadline::{Deadline, ReplyWait};
use super::error::UpstreamError;
use super::limits::Place;
use super::pool::Slot;
use super::stream::Stream;
use super::target::Settings;
use super::upload::Upload;
use crate::message::body::{Body, BodyError};

/// A connection that serves one request at a time. Dropping it closes it.
pub(super) struct Connection {
    sender: http1::SendRequest<Body>,
    driver: http1::Connection<TokioIo<Stream>, Body>,
    ended: bool,
    /// The upstream answered as HTTP/1.0.
    is_old: bool,
    deadline: Deadline,
    idle_since: Instant,
    place: Place,
}

/// A request that got no answer, with the request if none of it was sent.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) error: UpstreamError,
    pub(super) request: Option<Box<Request<Body>>>,
}

impl Connection {
    pub(super) async fn new(mut stream: Stream, place: Place) -> Result<Box<Self>, UpstreamError> {
        stream.hear_out();
        let (sender, driver) = builder().handshake(TokioIo::new(stream)).await?;
        let (deadline, idle_since) = (Deadline::default(), Instant::now());
        Ok(Box::new(Self { sender, driver, ended: false, is_old: false, deadline, idle_since, place }))
    }

    pub(super) fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// Looks whether the connection could take a request now.
    pub(super) fn is_ready(&mut self) -> bool {
        self.drive(&mut noop());
        !self.ended && self.sender.is_ready()
    }

    /// From idle to active; `false` above the limit.
    pub(super) fn activate(&mut self) -> bool {
        self.place.activate()
    }

    /// From active to idle; `false` when it is not ready, or above the limit.
    ///
    /// After an answer as HTTP/1.0 hyper sends requests as HTTP/1.0 too, where a body of unknown length is dropped.
    pub(super) fn park(&mut self) -> bool {
        let parked = !self.is_old && self.is_ready() && self.place.park();
        if parked {
            self.idle_since = Instant::now();
        }
        parked
    }

    /// Sends a request, which is taken out of its place, and waits for the head of the answer.
    pub(super) async fn send(
        &mut self,
        request: &mut Request<Body>,
        upload: Option<&Rc<Upload>>,
        settings: &Settings,
    ) -> Result<Response<Incoming>, Unanswered> {
        // Unconstrained, because running out of budget would be told to a waker that does nothing.
        let mut reply = pin!(unconstrained(self.sender.try_send_request(std::mem::take(request))));
        let mut sent = false;
        let mut wait = ReplyWait::new(settings.reply_timeout);
        let answering = std::future::poll_fn(|cx| {
            // From the second time on it is probably the answer that woke the task. With the task's own waker inside,
            // the driver would wake the task once more for news that is picked up right here.
            if std::mem::replace(&mut sent, true) && upload.is_none_or(|upload| upload.is_done()) {
                self.drive(&mut noop());
                if let Poll::Ready(reply) = reply.as_mut().poll(&mut noop()) {
                    return Poll::Ready(reply.map_err(Unanswered::from));
                }
            }
            self.drive(cx);
            if let Poll::Ready(reply) = reply.as_mut().poll(&mut noop()) {
                return Poll::Ready(reply.map_err(Unanswered::from));
            }
            if self.ended {
                return Poll::Ready(Err(UpstreamError::Closed(None).into()));
            }
            wait.poll(&mut self.deadline, upload, cx).map(|error| Err(error.into()))
        });
        let response = answering.await?;
        self.is_old = response.version() < Version::HTTP_11;
        Ok(response)
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended {
            // An error goes to whoever waits for an answer or a body; without one there is nobody to tell.
            self.ended = Pin::new(&mut self.driver).poll(cx).is_ready();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("ended", &self.ended).field("place", &self.place).finish_non_exhaustive()
    }
}

impl From<UpstreamError> for Unanswered {
    fn from(error: UpstreamError) -> Self {
        Self { error, request: None }
    }
}

impl From<hyper::client::conn::TrySendError<Request<Body>>> for Unanswered {
    fn from(mut failure: hyper::client::conn::TrySendError<Request<Body>>) -> Self {
        let request = failure.take_message().map(Box::new);
        Self { error: failure.into_error().into(), request }
    }
}

/// The settings of every HTTP/1.1 connection to an upstream. hyper itself stops at 100 header fields.
pub(super) fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_header_size(HEAD_BYTES_MAX as usize);
    builder
}

/// Makes the body of an answer, which takes the connection along and parks it at the end.
pub(super) fn reply_body(
    mut incoming: Incoming,
    connection: Box<Connection>,
    slot: Rc<Slot>,
    settings: &Settings,
) -> Body {
    if incoming.is_end_stream() {
        slot.park(connection);
        return Body::Empty;
    }
    // Small answers came along with their head. Then there is nothing to stream.
    let first = match Pin::new(&mut incoming).poll_frame(&mut noop()) {
        Poll::Ready(Some(Ok(frame))) if frame.is_data() && incoming.is_end_stream() => {
            slot.park(connection);
            return frame.into_data().map_or(Body::Empty, Body::full);
        }
        Poll::Ready(None) => {
            slot.park(connection);
            return Body::Empty;
        }
        Poll::Ready(frame) => frame,
        Poll::Pending => None,
    };
    let idle_timeout = settings.idle_timeout;
    Body::wrap(ReplyBody { first, incoming, connection: Some(connection), slot, idle_timeout, pause: None })
}

/// The body of an answer while it comes.
#[derive(Debug)]
struct ReplyBody {
    first: Option<Result<Frame<Bytes>, hyper::Error>>,
    incoming: Incoming,
    /// Until the end of the body.
    connection: Option<Box<Connection>>,
    slot: Rc<Slot>,
    idle_timeout: std::time::Duration,
    /// When the pause that is going on becomes too long.
    pause: Option<Instant>,
}

type NextFrame = Option<Result<Frame<Bytes>, BodyError>>;

impl ReplyBody {
    fn poll_incoming(&mut self) -> Poll<NextFrame> {
        let frame = match self.first.take() {
            Some(first) => Some(first),
            None => ready!(Pin::new(&mut self.incoming).poll_frame(&mut noop())),
        };
        self.pause = None;
        match &frame {
            Some(Err(_)) => drop(self.connection.take()),
            Some(Ok(frame)) if frame.is_data() && !self.incoming.is_end_stream() => {}
            _ => {
                if let Some(connection) = self.connection.take() {
                    self.slot.park(connection);
                }
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Connection)))
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<NextFrame> {
        let this = &mut *self;
        // As in `send`: first what is there, then what the driver finds, and only then with the task's waker.
        for waker in [None, Some(Waker::noop()), Some(cx.waker())] {
            if let (Some(waker), Some(connection)) = (waker, &mut this.connection) {
                connection.drive(&mut Context::from_waker(waker));
            }
            if let Poll::Ready(frame) = this.poll_incoming() {
                return Poll::Ready(frame);
            }
        }
        let Some(connection) = &mut this.connection else { return Poll::Ready(None) };
        let at = *this.pause.get_or_insert_with(|| Instant::now() + this.idle_timeout);
        ready!(connection.deadline.poll(cx, at));
        this.connection = None;
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && (self.connection.is_none() || self.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.incoming.size_hint();
        let first = match &self.first {
            Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        rest.exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest.saturating_add(first)))
    }
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Status line and header fields of an answer, or its trailers.
pub(super) const HEAD_BYTES_MAX: u32 = 64 * 1024;
