//! One connection from its first byte to its end.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Permit;
use super::linger::linger;
use super::service::Service;
use super::socket::{Activity, Socket, Stream};
use super::stage::Stage;
use super::streams::Streams;
use super::watch::{Verdict, Watch};
use super::worker::Worker;
use crate::message::body::Body;
use crate::net::client::Peer;
use crate::net::tls::ALPN_HTTP2;

/// Serves one accepted socket.
pub(super) async fn run<F, Fut>(
    worker: Rc<Worker<F>>,
    tcp: TcpStream,
    address: SocketAddr,
    listener: usize,
    permit: Permit,
) where
    F: Fn(Request<Incoming>, Rc<Peer>) -> Fut + 'static,
    Fut: Future<Output = Response<Body>> + 'static,
{
    let opened = Instant::now();
    let Ok(local) = tcp.local_addr() else { return };
    // Latency matters more than packets. A socket that refuses is dead anyway.
    let _ = tcp.set_nodelay(true);
    let opening = open(&worker, tcp, listener, opened);
    let late = async {
        worker.stages.reached(Stage::Draining).await;
        // It may have waited in the queue with its request already sent.
        tokio::time::sleep(LATE_COMER).await;
    };
    let open = tokio::select! {
        biased;
        open = opening => open,
        () = late => return,
    };
    let Some(Open { stream, start, http2 }) = open else { return };
    let tls = matches!(stream, Stream::Tls(_));
    let peer = Rc::new(Peer::new(address, local, tls, &worker.shared.proxies));
    let activity = Activity::new(http2);
    let socket = Socket::new(stream, start, activity.clone(), permit);
    let service = Service { worker: worker.clone(), peer, activity: activity.clone() };
    let mut watch = Watch::new(&worker, activity, opened, u32::from(address.port()));
    if http2 {
        let mut connection = pin!(worker.http2.serve_connection(socket, service));
        let end = drive(connection.as_mut(), &mut watch).await;
        count(&worker, &end);
    } else {
        let mut connection = worker.http1.serve_connection(socket, service).with_upgrades();
        let end = drive(Pin::new(&mut connection), &mut watch).await;
        count(&worker, &end);
        if let End::Hyper(ended) = end
            && !watch.ended_idle()
            && let Some(parts) = connection.into_parts()
        {
            linger(&worker, parts.io, ended.is_err()).await;
        }
    }
}

/// A connection with its protocol known.
struct Open {
    stream: Stream,
    start: Vec<u8>,
    http2: bool,
}

async fn open<F>(worker: &Worker<F>, tcp: TcpStream, listener: usize, opened: Instant) -> Option<Open> {
    let counters = worker.counters();
    let limits = worker.limits();
    if let Some(acceptor) = worker.acceptor(listener) {
        return match timeout(limits.tls_handshake_timeout, acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => {
                let http2 = tls.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
                Some(Open { stream: Stream::Tls(Box::new(TokioIo::new(tls))), start: Vec::new(), http2 })
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                counters.handshake_failures.add_one();
                None
            }
            Err(_) => {
                counters.handshake_timeouts.add_one();
                None
            }
        };
    }
    let mut start = Vec::with_capacity(START_BYTES);
    match timeout_at(opened + limits.header_timeout, is_http2(&tcp, &mut start)).await {
        Ok(Ok(Some(http2))) => Some(Open { stream: Stream::Plain(TokioIo::new(tcp)), start, http2 }),
        Ok(_) => None,
        Err(_) => {
            counters.header_timeouts.add_one();
            None
        }
    }
}

/// Reads until HTTP/2's preface and HTTP/1 differ, which the first bytes decide; `None` if nothing came.
async fn is_http2(tcp: &TcpStream, start: &mut Vec<u8>) -> io::Result<Option<bool>> {
    loop {
        tcp.readable().await?;
        match tcp.try_read_buf(start) {
            Ok(0) => return Ok(None),
            Ok(_) if start.starts_with(PREFACE) => return Ok(Some(true)),
            Ok(_) if PREFACE.starts_with(start) => {}
            Ok(_) => return Ok(Some(false)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// How a connection ended.
enum End {
    Hyper(hyper::Result<()>),
    Closed,
}

async fn drive<C: Connection>(mut connection: Pin<&mut C>, watch: &mut Watch) -> End {
    poll_fn(|cx| {
        if watch.drain_begins_at_work(cx) {
            connection.as_mut().finish();
        }
        loop {
            // Before the watch: what is already here must not be answered by a close.
            if let Poll::Ready(end) = connection.as_mut().poll(cx) {
                return Poll::Ready(End::Hyper(end));
            }
            match watch.look(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Verdict::Finish) => connection.as_mut().finish(),
                Poll::Ready(Verdict::Close) => return Poll::Ready(End::Closed),
            }
        }
    })
    .await
}

/// What hyper's two kinds of connection have in common.
trait Connection: Future<Output = hyper::Result<()>> {
    /// No more requests after those that were begun.
    fn finish(self: Pin<&mut Self>);
}

impl<F, Fut> Connection for http1::UpgradeableConnection<Socket, Service<F>>
where
    F: Fn(Request<Incoming>, Rc<Peer>) -> Fut + 'static,
    Fut: Future<Output = Response<Body>> + 'static,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<F, Fut> Connection for http2::Connection<Socket, Service<F>, Streams>
where
    F: Fn(Request<Incoming>, Rc<Peer>) -> Fut + 'static,
    Fut: Future<Output = Response<Body>> + 'static,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

fn count<F>(worker: &Worker<F>, end: &End) {
    // Callers that go away are not counted: the handler sees to what that means. Closes are counted by the watch.
    let End::Hyper(Err(error)) = end else { return };
    if error.is_parse_too_large() {
        worker.counters().heads_too_large.add_one();
    } else if broke_protocol(error) {
        worker.counters().protocol_errors.add_one();
    }
}

fn broke_protocol(error: &hyper::Error) -> bool {
    let http2 = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_parse() || http2.is_some_and(|e| e.is_library() && !e.is_io())
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Holds most requests' heads, so that a fresh connection is read from once.
const START_BYTES: usize = 2048;
const LATE_COMER: std::time::Duration = std::time::Duration::from_millis(500);
