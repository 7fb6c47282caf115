//! A caller: one request on a connection of its own, over HTTP/1.1 or HTTP/2, in cleartext or TLS.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::{Reply, SelfSigned};

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A request to be.
#[derive(Debug)]
pub struct Call {
    address: SocketAddr,
    tls: Option<SelfSigned>,
    is_http2: bool,
    is_shut: bool,
    host: Option<String>,
    request: Request<Body>,
}

impl Call {
    pub(crate) fn new(address: SocketAddr, tls: Option<SelfSigned>, method: &str, path: &str) -> Self {
        let mut request = Request::new(full(Bytes::new()));
        *request.method_mut() = Method::from_bytes(method.as_bytes()).expect("a method");
        *request.uri_mut() = path.parse().expect("a path");
        Self { address, tls, is_http2: false, is_shut: false, host: None, request }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.request.headers_mut().append(name, HeaderValue::from_bytes(value.as_ref()).expect("a header value"));
        self
    }

    /// Addresses this host.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Sends this body, with its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.request.body_mut() = full(body.into());
        self
    }

    /// Sends this body in these pieces, without its length, and then trailers.
    #[must_use]
    pub fn pieces<const N: usize>(
        mut self,
        pieces: [&'static str; N],
        trailers: &[(&'static str, &'static str)],
    ) -> Self {
        let trailers: HeaderMap = trailers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let data = pieces.into_iter().map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
        let last = (!trailers.is_empty()).then(|| Frame::trailers(trailers));
        let frames: Vec<_> = data.chain(last).map(Ok).collect();
        *self.request.body_mut() = BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)));
        self
    }

    /// Speaks HTTP/2: with prior knowledge in cleartext, negotiated in TLS.
    #[must_use]
    pub fn http2(mut self) -> Self {
        self.is_http2 = true;
        self
    }

    /// Speaks HTTP/2 and takes no byte of the answer's body.
    #[must_use]
    pub fn shut_window(mut self) -> Self {
        self.is_shut = true;
        self.http2()
    }

    /// Sends it and reads the answer to its end.
    pub async fn send(self) -> Reply {
        self.try_send().await.unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Sends it and reads the answer to its end, if it has one.
    ///
    /// # Errors
    /// The connection broke, before the answer or within it.
    pub async fn try_send(self) -> Result<Reply, hyper::Error> {
        tokio::time::timeout(PATIENCE, self.exchange()).await.expect("an answer in time")
    }

    async fn exchange(self) -> Result<Reply, hyper::Error> {
        let stream = TcpStream::connect(self.address).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("a socket option");
        match &self.tls {
            None => self.over(stream, "http").await,
            Some(tls) => {
                let stream = tls.connect(stream, self.is_http2).await;
                self.over(stream, "https").await
            }
        }
    }

    async fn over<S>(mut self, stream: S, scheme: &str) -> Result<Reply, hyper::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let host = self.host.take().unwrap_or_else(|| format!("localhost:{}", self.address.port()));
        if self.is_http2 {
            let uri = format!("{scheme}://{host}{}", self.request.uri());
            *self.request.uri_mut() = uri.parse().expect("a URI");
            let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
            if self.is_shut {
                builder.initial_stream_window_size(0);
            }
            let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let begun = Instant::now();
            return read(begun, sender.send_request(self.request).await?).await;
        }
        let host = HeaderValue::from_str(&host).expect("a host");
        self.request.headers_mut().entry("host").or_insert(host);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let begun = Instant::now();
        read(begun, sender.send_request(self.request).await?).await
    }
}

async fn read(begun: Instant, response: Response<Incoming>) -> Result<Reply, hyper::Error> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok(Reply {
        status: parts.status.as_u16(),
        version: parts.version,
        headers: parts.headers,
        body: collected.to_bytes(),
        trailers,
        time: begun.elapsed(),
    })
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed()
}

const PATIENCE: Duration = Duration::from_secs(30);
