//! A connection that is kept.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Reply;

/// One connection for many requests, one after the other.
pub struct Line {
    sender: SendRequest<Empty<Bytes>>,
}

impl Line {
    /// Connects.
    pub async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        Self { sender }
    }

    /// Sends a request, and reads its answer to the end.
    ///
    /// # Errors
    /// The connection broke; the next request needs another one.
    pub async fn get(&mut self, path: &str) -> Result<Reply, hyper::Error> {
        let request = Request::get(path).header("host", "line").body(Empty::new()).expect("a path");
        self.sender.ready().await?;
        let begun = Instant::now();
        let response = self.sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        let (status, version, headers) = (head.status.as_u16(), head.version, head.headers);
        Ok(Reply { status, version, headers, body, trailers: None, time: begun.elapsed() })
    }
}
