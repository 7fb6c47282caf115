//! The body of an answer over a connection that has a task of its own: timed, nothing else.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::deadline::Deadline;
use super::h2::Ticket;
use crate::message::body::{Body, BodyError};

/// Makes a body that ends with an error when a pause in it is too long.
pub(super) fn body(incoming: Incoming, ticket: Option<Ticket>, idle_timeout: Duration) -> Body {
    if incoming.is_end_stream() {
        return Body::Empty;
    }
    Body::wrap(Paced { incoming, _ticket: ticket, idle_timeout, deadline: Deadline::default(), pause: None })
}

#[derive(Debug)]
struct Paced {
    incoming: Incoming,
    _ticket: Option<Ticket>,
    idle_timeout: Duration,
    deadline: Deadline,
    /// When the pause that is going on becomes too long.
    pause: Option<Instant>,
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) {
            this.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Connection)));
        }
        let at = *this.pause.get_or_insert_with(|| Instant::now() + this.idle_timeout);
        ready!(this.deadline.poll(cx, at));
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
