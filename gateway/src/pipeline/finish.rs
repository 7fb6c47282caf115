//! The end of a request: the answer leaves, and when its last byte is gone, or its caller, the rest is told.
//!
//! What is told hangs on the body that leaves, so it is told once, whatever ends the request.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};

use super::analytics::{Capture, Recording};
use super::exchange::{Answer, Exchange, Upload};
use super::plan::Plan;
use crate::message::body::{Body, BodyError, LeaveBy};
use crate::telemetry::log;
use crate::upstream::splice;

/// The caller's body: counted, bounded, recorded where the API asks for it.
pub fn incoming(
    body: Body,
    plan: &Plan,
    begun: Instant,
    bytes: &Rc<Cell<u64>>,
    upload: &Rc<Cell<Upload>>,
    recording: Option<&Recording>,
) -> Body {
    let bytes_max = plan.api.request_body_bytes_max;
    let deadline = begun + plan.api.request_timeout;
    let capture = recording.map(|recording| recording.request_body.clone());
    let (bytes, upload) = (bytes.clone(), upload.clone());
    Body::wrap(Received { body, bytes, upload, bytes_max, deadline, capture })
}

/// See [`incoming`].
#[derive(Debug)]
struct Received {
    body: Body,
    bytes: Rc<Cell<u64>>,
    upload: Rc<Cell<Upload>>,
    bytes_max: u64,
    deadline: Instant,
    capture: Option<Capture>,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.upload.set(match &polled {
            Poll::Pending => Upload::Awaited,
            Poll::Ready(Some(_)) if !self.body.is_end_stream() => Upload::Left(self.body.size_hint().exact()),
            Poll::Ready(_) => Upload::Whole,
        });
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.bytes.set(self.bytes.get().saturating_add(length(data)));
            if self.bytes.get() > self.bytes_max {
                return Poll::Ready(Some(Err(BodyError::TooLarge { bytes_max: self.bytes_max })));
            }
            if Instant::now() > self.deadline {
                return Poll::Ready(Some(Err(BodyError::Timeout)));
            }
            if let Some(capture) = &self.capture {
                capture.add(data);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Sends the answer off.
pub fn respond(mut exchange: Box<Exchange>, mut answer: Answer) -> Response<Body> {
    if let (Some(client), Some(upstream)) = (exchange.upgrade.take(), answer.upgrade.take()) {
        let idle_timeout = exchange.plan.api.upstream.idle_timeout;
        tokio::task::spawn_local(async move {
            if let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) {
                splice(client, upstream, idle_timeout).await;
            }
        });
    }
    let body = answer.content.into_body(&mut answer.headers);
    if !answer.status.is_informational() {
        say_close(exchange.version, exchange.upload.get(), &mut answer.headers);
    }
    let is_bodiless = exchange.is_bodiless(answer.status);
    if answer.status == StatusCode::NO_CONTENT {
        answer.headers.remove(CONTENT_LENGTH);
    }
    let mut telling = Telling { exchange, status: answer.status, bytes_out: 0, is_whole: false, capture: None };
    if let Some(recording) = &mut telling.exchange.recording {
        telling.capture = recording.response(&answer.headers);
    }
    let mut response = Response::new(Body::Empty);
    if telling.exchange.version == Version::HTTP_2 {
        response.extensions_mut().insert(LeaveBy(telling.exchange.deadline()));
    }
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    if is_bodiless || body.is_end_stream() {
        telling.is_whole = true;
    } else {
        let expected = body.size_hint().exact();
        *response.body_mut() = Body::wrap(Leaving { body, expected, telling });
    }
    response
}

/// Tells a caller with more to send that its connection closes: it will not be read on past this answer for another
/// request.
pub(super) fn say_close(version: Version, upload: Upload, headers: &mut HeaderMap) {
    if version < Version::HTTP_2 && is_long(upload) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Whether more of the caller's body is to come than the connection takes in along with a request's head.
fn is_long(upload: Upload) -> bool {
    match upload {
        Upload::Whole => false,
        Upload::Awaited => true,
        Upload::Left(bytes) => bytes.is_none_or(|bytes| bytes > UPLOAD_BYTES_TAKEN),
    }
}

const UPLOAD_BYTES_TAKEN: u64 = 8 << 10;

/// The body of an answer; what is told of the request hangs on it.
#[derive(Debug)]
struct Leaving {
    body: Body,
    /// Its length, where that is known: the connection does not ask for more than that.
    expected: Option<u64>,
    telling: Telling,
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.telling.is_whole = true,
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.telling.bytes_out = self.telling.bytes_out.saturating_add(length(data));
                    if let Some(capture) = &self.telling.capture {
                        capture.add(data);
                    }
                }
                self.telling.is_whole =
                    self.body.is_end_stream() || self.expected.is_some_and(|bytes| self.telling.bytes_out >= bytes);
                if !self.telling.is_whole && Instant::now() > self.telling.exchange.deadline() {
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let exchange = &self.telling.exchange;
                if let Some(answers) = exchange.plan.warnings.broken_off.begin(exchange.core.clock.now_ms()) {
                    tracing::warn!(
                        api = %exchange.plan.api.id, request_id = exchange.id.as_str(), answers, %error,
                        "answers broke off"
                    );
                }
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Tells of a request when it is dropped: counters, log, record.
struct Telling {
    exchange: Box<Exchange>,
    status: StatusCode,
    bytes_out: u64,
    is_whole: bool,
    capture: Option<Capture>,
}

impl std::fmt::Debug for Telling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telling")
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.exchange.tell(self.status.as_u16(), self.bytes_out, self.is_whole, self.capture.take());
    }
}

impl Drop for Exchange {
    /// A request whose caller left before there was an answer.
    fn drop(&mut self) {
        self.core.in_flight.set(self.core.in_flight.get().saturating_sub(1));
        self.tell(CLIENT_CLOSED_REQUEST, 0, false, None);
    }
}

impl Exchange {
    /// Whether the caller gets no body with this status (RFC 9110, section 6.4.1).
    pub fn is_bodiless(&self, status: StatusCode) -> bool {
        self.original_method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || status.is_informational()
    }

    /// Tells of the request's end, once.
    fn tell(&mut self, status: u16, bytes_out: u64, is_whole: bool, capture: Option<Capture>) {
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        let (plan, time) = (self.plan.clone(), self.begun.elapsed());
        if is_whole {
            plan.metrics.ended(status, time, self.bytes_in.get(), bytes_out);
        } else {
            plan.metrics.aborted();
        }
        if log::wants(self.core.access, status) {
            log::access(&log::AccessLine {
                api: plan.api.id.as_str(),
                request_id: self.id.as_str(),
                parent: self.lineage.parent.as_deref(),
                client: self.client,
                method: self.original_method.as_str(),
                path: self.original_uri.path(),
                protocol: self.version,
                status,
                bytes: bytes_out,
                time,
                upstream: self.upstream_time,
            });
        }
        if let Some(recording) = self.recording.take() {
            let record = recording.finish(self, status, time, bytes_out, capture);
            self.core.recorder.send(&plan, record);
        }
    }
}

/// What access logs have for a caller that left before its answer, since nginx.
const CLIENT_CLOSED_REQUEST: u16 = 499;

fn length(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}
