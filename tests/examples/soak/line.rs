//! A connection to the gateway that is used for many requests, and made again when the gateway closes it.

use std::cell::RefCell;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use stile_tests::SelfSigned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::job::Job;

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Http1,
    Http2,
    Tls1,
    Tls2,
}

impl Dialect {
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Tls1 | Self::Tls2)
    }

    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Tls2)
    }
}

/// One connection.
pub(crate) struct Line {
    pub(crate) dialect: Dialect,
    address: SocketAddr,
    tls: SelfSigned,
    sender: Mutex<Option<Sender>>,
    /// The request that was answered last: what it left behind may be why the next one fails.
    previous: RefCell<String>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Line {
    pub(crate) fn new(dialect: Dialect, address: SocketAddr, tls: SelfSigned) -> Self {
        Self { dialect, address, tls, sender: Mutex::new(None), previous: RefCell::default() }
    }

    /// Sends a request and checks its answer, or says what is wrong with it.
    pub(crate) async fn exchange(&self, job: &Job) -> Result<(), String> {
        let answered = match self.send(job.request(self.dialect)).await {
            Ok(response) => job.check(response).await,
            Err(error) => Err(format!("{error:?}")),
        };
        let previous = self.previous.replace(format!("{job:?}"));
        answered.map_err(|reason| format!("{reason}; before it {previous}"))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        let mut place = self.sender.lock().await;
        let is_open = match &mut *place {
            None => false,
            Some(Sender::Http1(sender)) => sender.ready().await.is_ok(),
            Some(Sender::Http2(sender)) => sender.ready().await.is_ok(),
        };
        if !is_open {
            *place = Some(self.connect().await?);
        }
        match &mut *place {
            Some(Sender::Http1(sender)) => sender.send_request(request).await,
            Some(Sender::Http2(sender)) => {
                let mut sender = sender.clone();
                drop(place);
                sender.send_request(request).await
            }
            None => unreachable!("it was just connected"),
        }
    }

    async fn connect(&self) -> hyper::Result<Sender> {
        let stream = TcpStream::connect(self.address).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("a socket option");
        if self.dialect.is_tls() {
            let stream = self.tls.try_connect(stream, self.dialect.is_http2()).await.expect("a TLS handshake");
            self.shake(stream).await
        } else {
            self.shake(stream).await
        }
    }

    async fn shake(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> hyper::Result<Sender> {
        let stream = TokioIo::new(stream);
        if self.dialect.is_http2() {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            Ok(Sender::Http2(sender))
        } else {
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            Ok(Sender::Http1(sender))
        }
    }
}
