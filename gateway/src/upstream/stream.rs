//! The byte stream under a connection: TCP, with or without TLS.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::counters::UpstreamCounters;
use super::limits::Place;

/// An open connection, counted as long as it lives.
#[derive(Debug)]
pub(super) struct Stream {
    kind: Kind,
    counters: Arc<UpstreamCounters>,
    /// Where the stream outlives its HTTP connection.
    place: Option<Place>,
    hears_out: bool,
}

#[derive(Debug)]
enum Kind {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) fn plain(tcp: TcpStream, counters: &Arc<UpstreamCounters>) -> Self {
        Self::new(Kind::Plain(tcp), counters)
    }

    pub(super) fn tls(tls: TlsStream<TcpStream>, counters: &Arc<UpstreamCounters>) -> Self {
        Self::new(Kind::Tls(Box::new(tls)), counters)
    }

    fn new(kind: Kind, counters: &Arc<UpstreamCounters>) -> Self {
        counters.opened.fetch_add(1, Relaxed);
        counters.open.fetch_add(1, Relaxed);
        Self { kind, counters: Arc::clone(counters), place: None, hears_out: false }
    }

    /// Ties a place to the stream, until it closes.
    pub(super) fn hold(&mut self, place: Place) {
        self.place = Some(place);
    }

    /// From now on a write to an upstream that has closed waits instead of failing. What the upstream said before, such as
    /// an answer to an upload that it did not read, can still be read, and the connection's end after that.
    pub(super) fn hear_out(&mut self) {
        self.hears_out = true;
    }

    fn written<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &written {
            Poll::Ready(Err(error)) if self.hears_out && is_closed(error) => Poll::Pending,
            _ => written,
        }
    }

    /// Whether both sides agreed on HTTP/2 in the TLS handshake.
    pub(super) fn negotiated_h2(&self) -> bool {
        match &self.kind {
            Kind::Plain(_) => false,
            Kind::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Relaxed);
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Kind::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = match &mut self.kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Kind::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        };
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Kind::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Plain(tcp) => tcp.is_write_vectored(),
            Kind::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Kind::Tls(tls) => Pin::new(tls).poll_flush(cx),
        };
        self.written(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.kind {
            Kind::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Kind::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
