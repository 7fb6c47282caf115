//! One core's part: it accepts, shares with its neighbours, and drains.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::connection;
use super::counters::WorkerCounters;
use super::stage::{Stage, Stages};
use super::streams::{Answered, Streams};
use super::{Handed, Permit, Seat, Shared, Summary};
use crate::message::body::Body;
use crate::model::gateway::ServerLimits;
use crate::net::client::Peer;

/// What the tasks of one core share.
pub(super) struct Worker<F> {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) handler: F,
    pub(super) stages: Rc<Stages>,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<Streams>,
    pub(super) answered: Answered,
    acceptors: Vec<Option<TlsAcceptor>>,
}

impl Seat {
    /// Serves until `shutdown` is ready, then drains. Runs on a `LocalRuntime`; requests never leave it.
    ///
    /// `handler` answers one request; its future is dropped when the caller goes away. Draining means: sockets still
    /// waiting in the queue are accepted, listeners closed, connections asked to end after their requests, and those
    /// that are left after `drain_timeout` cut off.
    pub async fn serve<F, Fut>(self, handler: F, shutdown: impl Future<Output = ()>) -> Summary
    where
        F: Fn(Request<Incoming>, Rc<Peer>) -> Fut + 'static,
        Fut: Future<Output = Response<Body>> + 'static,
    {
        let answered = Answered::default();
        let streams = Streams::new(answered.clone(), self.shared.clone(), self.index);
        let (http1, http2) = builders(&self.shared.limits, streams);
        let acceptors = self.listeners.iter().map(|l| l.tls.clone().map(TlsAcceptor::from)).collect();
        let stages = Rc::new(Stages::default());
        let worker = Rc::new(Worker {
            index: self.index,
            shared: self.shared,
            handler,
            stages,
            http1,
            http2,
            answered,
            acceptors,
        });
        let mut accepting = vec![tokio::task::spawn_local(take_over(worker.clone(), self.handed))];
        for (index, listener) in self.listeners.into_iter().enumerate() {
            match TcpListener::from_std(listener.socket) {
                Ok(socket) => accepting.push(tokio::task::spawn_local(accept(worker.clone(), socket, index))),
                Err(error) => tracing::error!(%error, "listening socket is not usable"),
            }
        }
        shutdown.await;
        worker.stages.set(Stage::Draining);
        for task in accepting {
            let _ = task.await;
        }
        worker.drain().await
    }
}

/// No timer for HTTP/1: its timeouts are kept by [`super::watch`].
///
/// `pipeline_flush` stays off: it would hold an answer back while half a request waits behind it. Bodies are written
/// with `writev`, so that they are not copied behind the head.
fn builders(limits: &ServerLimits, streams: Streams) -> (http1::Builder, http2::Builder<Streams>) {
    let mut http1 = http1::Builder::new();
    http1
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(limits.header_bytes_max.max(BUFFER_BYTES))
        .writev(true);
    if limits.header_count_max > HYPER_HEADERS_ON_STACK {
        // Beyond it hyper allocates for each request.
        http1.max_headers(limits.header_count_max);
    }
    let mut http2 = http2::Builder::new(streams);
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams_max)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_FOR_ERRORS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    (http1, http2)
}

impl<F> Worker<F> {
    pub(super) fn counters(&self) -> &WorkerCounters {
        self.shared.counters.worker(self.index)
    }

    pub(super) fn limits(&self) -> &ServerLimits {
        &self.shared.limits
    }

    pub(super) fn acceptor(&self, listener: usize) -> Option<&TlsAcceptor> {
        self.acceptors.get(listener)?.as_ref()
    }

    /// Counts a panic of the handler and answers for it.
    pub(super) fn panicked(&self) -> Response<Body> {
        self.counters().panics.add_one();
        tracing::error!("request handler panicked");
        let mut answer = Response::new(Body::full("internal error\n"));
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    }

    /// The worker that should have the next connection instead of this one.
    fn lighter(&self) -> Option<usize> {
        let (index, fewest) = self.shared.counters.least_loaded()?;
        let own = self.counters().open.get();
        (index != self.index && own > fewest + (fewest / 4).max(UNEVEN_BY)).then_some(index)
    }

    async fn drain(&self) -> Summary {
        let emptied = async {
            while self.counters().open.get() > 0 {
                self.shared.emptied(self.index).await;
            }
        };
        if tokio::time::timeout(self.limits().drain_timeout, emptied).await.is_ok() {
            return Summary::default();
        }
        let aborted = self.counters().open.get();
        let before = self.counters().aborted.get();
        self.stages.set(Stage::Aborting);
        // What is not in a connection's task any more (a tunnel, a lingering close) ends with the runtime.
        for _ in 0..YIELDS_TO_ABORT {
            tokio::task::yield_now().await;
        }
        let counted = self.counters().aborted.get().saturating_sub(before);
        self.counters().aborted.add(aborted.saturating_sub(counted));
        Summary { aborted }
    }
}

impl<F, Fut> Worker<F>
where
    F: Fn(Request<Incoming>, Rc<Peer>) -> Fut + 'static,
    Fut: Future<Output = Response<Body>> + 'static,
{
    fn admit(self: &Rc<Self>, tcp: TcpStream, address: SocketAddr, listener: usize) {
        self.counters().accepted.add_one();
        let Some(mut permit) = Permit::take(&self.shared, self.index) else {
            // Closed rather than left in the queue: the caller sees at once that there is no room.
            self.counters().refused.add_one();
            return;
        };
        if let Some((index, neighbour)) = self.lighter().and_then(|i| Some((i, self.shared.neighbours.get(i)?)))
            && let Ok(slot) = neighbour.try_reserve()
        {
            let Ok(socket) = tcp.into_std() else { return };
            self.counters().handed_on.add_one();
            permit.move_to(index);
            slot.send(Handed { socket, address, listener, permit });
            return;
        }
        self.begin(tcp, address, listener, permit);
    }

    fn begin(self: &Rc<Self>, tcp: TcpStream, address: SocketAddr, listener: usize, permit: Permit) {
        tokio::task::spawn_local(connection::run(self.clone(), tcp, address, listener, permit));
    }
}

async fn accept<F, Fut>(worker: Rc<Worker<F>>, listener: TcpListener, index: usize)
where
    F: Fn(Request<Incoming>, Rc<Peer>) -> Fut + 'static,
    Fut: Future<Output = Response<Body>> + 'static,
{
    let mut draining = std::pin::pin!(worker.stages.reached(Stage::Draining));
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, address)) => worker.admit(tcp, address, index),
            Err(error) => {
                worker.counters().accept_errors.add_one();
                tracing::warn!(%error, "cannot accept a connection");
                // Out of file descriptors, most likely: trying again at once would only spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Callers in the queue have a connection already; closing the listener would reset it.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((socket, address)) = listener.accept() {
        if socket.set_nonblocking(true).is_ok()
            && let Ok(tcp) = TcpStream::from_std(socket)
        {
            worker.admit(tcp, address, index);
        }
    }
}

/// Takes what other workers hand on.
async fn take_over<F, Fut>(worker: Rc<Worker<F>>, mut handed: mpsc::Receiver<Handed>)
where
    F: Fn(Request<Incoming>, Rc<Peer>) -> Fut + 'static,
    Fut: Future<Output = Response<Body>> + 'static,
{
    let begin = |handed: Handed| {
        if let Ok(tcp) = TcpStream::from_std(handed.socket) {
            worker.begin(tcp, handed.address, handed.listener, handed.permit);
        }
    };
    let mut draining = std::pin::pin!(worker.stages.reached(Stage::Draining));
    loop {
        tokio::select! {
            biased;
            () = &mut draining => break,
            Some(next) = handed.recv() => begin(next),
        }
    }
    handed.close();
    while let Some(next) = handed.recv().await {
        begin(next);
    }
}

/// How long a connection that was asked to end may take to say good-bye.
pub(super) const LINGER: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections more than the least loaded worker has, at which new ones go there.
const UNEVEN_BY: u64 = 16;
const YIELDS_TO_ABORT: usize = 64;
const HYPER_HEADERS_ON_STACK: usize = 100;
const BUFFER_BYTES: usize = 128 << 10;
/// Streams that a caller reset before we looked at them (CVE-2023-44487), and that we reset for its errors
/// (CVE-2025-8671); above it the connection ends.
const RESETS_PENDING_MAX: usize = 20;
const RESETS_FOR_ERRORS_MAX: usize = 256;
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const SEND_BUFFER_BYTES: usize = 64 << 10;
