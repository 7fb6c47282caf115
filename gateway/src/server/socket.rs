//! A caller's socket as hyper sees it, and what it tells the connection's watch.
//!
//! Everything here is `Send`, because hyper hands the socket out when a connection is upgraded.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::Permit;

/// A socket on its way through hyper. The connection counts as open until it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    /// Bytes that were read to find out the protocol.
    start: Vec<u8>,
    start_taken: usize,
    activity: Arc<Activity>,
    _permit: Permit,
}

/// Cleartext or not.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TokioIo<TcpStream>),
    // Boxed: a TLS session is a hundred times the size of a socket.
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

/// What happens on a connection. Written and read by tasks of one core; atomic only because the socket must be `Send`.
#[derive(Debug)]
pub(super) struct Activity {
    http2: bool,
    in_flight: AtomicU32,
    requests: AtomicU64,
    head_begun: AtomicBool,
    has_body: AtomicBool,
    writes: AtomicU64,
    write_blocked: AtomicBool,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// The head of a request is on its way, or the connection is fresh.
    Head,
    /// Requests are being answered.
    Work,
    /// Bytes wait until the caller reads.
    Write,
    /// Nothing.
    Idle,
}

/// One request in flight; over when it is dropped.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Activity {
    pub(super) fn new(http2: bool) -> Arc<Self> {
        Arc::new(Self {
            http2,
            in_flight: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            head_begun: AtomicBool::new(true),
            has_body: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            write_blocked: AtomicBool::new(false),
        })
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2
    }

    pub(super) fn begin(self: &Arc<Self>, has_body: bool) -> InFlight {
        // Loads and stores rather than one operation: only this core writes, and a locked instruction costs more.
        self.in_flight.store(self.in_flight.load(Relaxed).saturating_add(1), Relaxed);
        self.requests.store(self.requests.load(Relaxed).wrapping_add(1), Relaxed);
        self.head_begun.store(false, Relaxed);
        self.has_body.store(has_body, Relaxed);
        InFlight(self.clone())
    }

    pub(super) fn doing(&self) -> Doing {
        if self.write_blocked.load(Relaxed) {
            Doing::Write
        } else if self.in_flight.load(Relaxed) > 0 {
            Doing::Work
        } else if self.head_begun.load(Relaxed) {
            Doing::Head
        } else {
            Doing::Idle
        }
    }

    /// Whether requests are in flight, however far their answers are.
    pub(super) fn is_answering(&self) -> bool {
        self.in_flight() > 0
    }

    /// How many requests are in flight.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Changes whenever something happened that such a state waits for.
    pub(super) fn progress(&self, doing: Doing) -> u64 {
        match doing {
            Doing::Write => self.writes.load(Relaxed),
            Doing::Head | Doing::Work | Doing::Idle => self.requests.load(Relaxed),
        }
    }

    fn has_read(&self) {
        if self.http2 {
            // Frames are h2's business; a fresh connection is fresh until its first bytes.
            self.head_begun.store(false, Relaxed);
        } else if self.in_flight.load(Relaxed) == 0 {
            self.head_begun.store(true, Relaxed);
        }
    }

    fn has_written(&self, done: bool) {
        self.write_blocked.store(!done, Relaxed);
        if done {
            self.writes.store(self.writes.load(Relaxed).wrapping_add(1), Relaxed);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.store(self.0.in_flight.load(Relaxed).saturating_sub(1), Relaxed);
    }
}

impl Socket {
    pub(super) fn new(stream: Stream, start: Vec<u8>, activity: Arc<Activity>, permit: Permit) -> Self {
        Self { stream, start, start_taken: 0, activity, _permit: permit }
    }

    /// Whether the last request had a body, of which there may be more to come.
    pub(super) fn was_sent_a_body(&self) -> bool {
        self.activity.has_body.load(Relaxed)
    }

    fn read_start(&mut self, buffer: &mut ReadBufCursor<'_>) -> bool {
        let left = self.start.get(self.start_taken..).unwrap_or_default();
        let Some(part) = left.get(..left.len().min(buffer.remaining())).filter(|part| !part.is_empty()) else {
            return false;
        };
        buffer.put_slice(part);
        self.start_taken += part.len();
        if self.start_taken == self.start.len() {
            self.start = Vec::new();
            self.start_taken = 0;
        }
        true
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = if self.read_start(&mut buffer) {
            Poll::Ready(Ok(()))
        } else {
            match &mut self.stream {
                Stream::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
                Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buffer),
            }
        };
        if read.is_ready() {
            self.activity.has_read();
        }
        read
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
        };
        self.activity.has_written(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bytes),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bytes),
        };
        self.activity.has_written(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}
