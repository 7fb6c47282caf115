//! One request between hyper and the handler: checked, counted, and answered even if the handler panics.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::check::{Refusal, check};
use super::socket::{Activity, InFlight};
use super::worker::Worker;
use crate::message::body::{Body, BodyError, LeaveBy};
use crate::net::client::Peer;

/// hyper's service for one connection.
pub(super) struct Service<F> {
    pub(super) worker: Rc<Worker<F>>,
    pub(super) peer: Rc<Peer>,
    pub(super) activity: Arc<Activity>,
}

impl<F, Fut> hyper::service::Service<Request<Incoming>> for Service<F>
where
    F: Fn(Request<Incoming>, Rc<Peer>) -> Fut + 'static,
    Fut: Future<Output = Response<Body>> + 'static,
{
    type Response = Response<Tracked>;
    type Error = Infallible;
    type Future = Answering<Fut, F>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.begin(!request.body().is_end_stream());
        let counters = self.worker.counters();
        let http2 = self.activity.is_http2();
        if http2 {
            counters.requests_http2.add_one();
            // Another one is h2's to refuse, and a caller that knows the limit sends none: neither is seen from here.
            if self.activity.in_flight() == self.worker.limits().http2_streams_max {
                counters.streams_full.add_one();
            }
        } else {
            counters.requests_http1.add_one()
        }
        let checked = check(&mut request, self.worker.limits().header_count_max);
        let work = match checked {
            Ok(()) => {
                let begin = || (self.worker.handler)(request, self.peer.clone());
                match catch_unwind(AssertUnwindSafe(begin)) {
                    Ok(handling) => Work::Handling { handling },
                    Err(_) => Work::Answer { answer: Some(self.worker.panicked()) },
                }
            }
            Err(refusal) => {
                match refusal.status {
                    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => counters.heads_too_large.add_one(),
                    _ => counters.protocol_errors.add_one(),
                }
                Work::Answer { answer: Some(refused(&refusal, http2)) }
            }
        };
        Answering { work, worker: self.worker.clone(), http2, in_flight: Some(in_flight) }
    }
}

pin_project! {
    /// The answer to one request in the making. No box and no timer: this runs for every request.
    pub(super) struct Answering<Fut, F> {
        #[pin]
        work: Work<Fut>,
        worker: Rc<Worker<F>>,
        http2: bool,
        in_flight: Option<InFlight>,
    }
}

pin_project! {
    #[project = WorkProjected]
    enum Work<Fut> {
        Handling { #[pin] handling: Fut },
        Answer { answer: Option<Response<Body>> },
    }
}

impl<Fut: Future<Output = Response<Body>>, F> Future for Answering<Fut, F> {
    type Output = Result<Response<Tracked>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut answer = match this.work.project() {
            // A future that panicked is never polled again: hyper drops it with the answer.
            WorkProjected::Handling { handling } => match catch_unwind(AssertUnwindSafe(|| handling.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(answer)) => answer,
                Err(_) => this.worker.panicked(),
            },
            WorkProjected::Answer { answer } => answer.take().unwrap_or_default(),
        };
        if *this.http2 {
            let leave_by = answer.extensions_mut().remove::<LeaveBy>().map(|LeaveBy(time)| time.into());
            let leave_by = leave_by.unwrap_or_else(|| Instant::now() + this.worker.limits().idle_timeout);
            this.worker.answered.leave_by(leave_by);
        }
        let in_flight = this.in_flight.take();
        Poll::Ready(Ok(answer.map(|body| Tracked { body, _in_flight: in_flight })))
    }
}

/// A response's body that ends its request when it is dropped.
#[derive(Debug)]
pub(super) struct Tracked {
    body: Body,
    _in_flight: Option<InFlight>,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn refused(refusal: &Refusal, http2: bool) -> Response<Body> {
    let mut answer = Response::new(Body::full(refusal.reason));
    *answer.status_mut() = refusal.status;
    if !http2 {
        // Where a message ends is in doubt once it broke the rules, so nothing after it is read.
        *answer.version_mut() = Version::HTTP_11;
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}
