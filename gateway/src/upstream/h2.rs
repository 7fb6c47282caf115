//! HTTP/2 towards an upstream: one connection for many requests of a core, with a task of its own.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::deadline::{Deadline, ReplyWait};
use super::error::UpstreamError;
use super::h1::{HEAD_BYTES_MAX, Unanswered};
use super::limits::Place;
use super::paced;
use super::stream::Stream;
use super::target::Settings;
use super::upload::Upload;
use crate::message::body::Body;

/// A connection that requests share. Closes when it is dropped and its last request is over.
pub(super) struct Connection {
    sender: RefCell<http2::SendRequest<Body>>,
    /// Active while there is a request on it; gone when it may not stay.
    place: RefCell<Option<Place>>,
    requests: Cell<usize>,
    idle_since: Cell<Instant>,
}

/// One request's part of a connection.
#[derive(Debug)]
pub(super) struct Ticket(Rc<Connection>);

impl Connection {
    pub(super) async fn new(stream: Stream, place: Place) -> Result<Rc<Self>, UpstreamError> {
        let (sender, driver) = (http2::Builder::new(LocalExecutor))
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .adaptive_window(true)
            .max_header_list_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await?;
        // An error reaches those whose requests were on it.
        tokio::task::spawn_local(async move { drop(driver.await) });
        Ok(Rc::new(Self {
            sender: RefCell::new(sender),
            place: RefCell::new(Some(place)),
            requests: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
        }))
    }

    pub(super) fn is_open(&self) -> bool {
        self.place.borrow().is_some() && !self.sender.borrow().is_closed()
    }

    /// Since when nobody uses it; `None` while somebody does.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.requests.get() == 0).then(|| self.idle_since.get())
    }

    pub(super) fn has_room(&self) -> bool {
        self.requests.get() < REQUESTS_MAX
    }

    /// A part of it for one request; `None` above the target's limit.
    pub(super) fn ticket(self: &Rc<Self>) -> Option<Ticket> {
        if self.requests.get() == 0 && !self.place.borrow_mut().as_mut().is_some_and(Place::activate) {
            return None;
        }
        self.requests.set(self.requests.get() + 1);
        Some(Ticket(Rc::clone(self)))
    }

    /// Sends a request, which is taken out of its place, and waits for the head of the answer.
    pub(super) async fn send(
        ticket: Ticket,
        request: &mut Request<Body>,
        upload: Option<&Rc<Upload>>,
        settings: &Settings,
    ) -> Result<Response<Body>, Unanswered> {
        let reply = ticket.0.sender.borrow_mut().try_send_request(std::mem::take(request));
        let mut reply = std::pin::pin!(reply);
        let mut deadline = Deadline::default();
        let mut wait = ReplyWait::new(settings.reply_timeout);
        let response = std::future::poll_fn(|cx| {
            if let Poll::Ready(reply) = reply.as_mut().poll(cx) {
                return Poll::Ready(reply.map_err(Unanswered::from));
            }
            wait.poll(&mut deadline, upload, cx).map(|error| Err(error.into()))
        })
        .await?;
        Ok(response.map(|incoming| paced::body(incoming, Some(ticket), settings.idle_timeout)))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("requests", &self.requests.get()).finish_non_exhaustive()
    }
}

impl Ticket {
    /// The connection that it belongs to.
    pub(super) fn connection(&self) -> Rc<Connection> {
        Rc::clone(&self.0)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let requests = self.0.requests.get().saturating_sub(1);
        self.0.requests.set(requests);
        if requests == 0 {
            self.0.idle_since.set(Instant::now());
            // Above the limit of idle connections it may not stay, and the pool drops it.
            let mut place = self.0.place.borrow_mut();
            if !place.as_mut().is_some_and(Place::park) {
                *place = None;
            }
        }
    }
}

/// Runs hyper's tasks on the core that they belong to.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// Requests on one connection at a time; servers commonly allow this many.
const REQUESTS_MAX: usize = 100;
/// A connection with requests on it is asked for a sign of life when it was silent for so long.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
