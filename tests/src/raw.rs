//! Both ends of a connection, byte for byte.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    /// Read and not yet asked for.
    kept: Vec<u8>,
}

/// An upstream whose answers a test writes byte for byte.
#[derive(Debug)]
pub struct RawUpstream(TcpListener);

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("somebody listens");
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, kept: Vec::new() }
    }

    /// Writes.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the other end takes it");
    }

    /// Writes as long as the other end takes it. Whether it took all.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Says that no more is written.
    pub async fn end(&mut self) {
        self.stream.shutdown().await.expect("the other end is there");
    }

    /// Reads up to and with this text; what was read so far where the connection ends before.
    pub async fn until(&mut self, end: &str) -> String {
        let reading = async {
            loop {
                if let Some(at) = self.kept.windows(end.len()).position(|window| window == end.as_bytes()) {
                    let rest = self.kept.split_off(at + end.len());
                    return std::mem::replace(&mut self.kept, rest);
                }
                if self.stream.read_buf(&mut self.kept).await.unwrap_or(0) == 0 {
                    return std::mem::take(&mut self.kept);
                }
            }
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        String::from_utf8_lossy(&read.unwrap_or_else(|_| panic!("`{end}` does not come"))).into_owned()
    }

    /// Reads a head: up to the first empty line.
    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Reads to the end of the connection.
    pub async fn rest(&mut self) -> String {
        // No text has this in it.
        self.until("\u{0}\u{0}no such text\u{0}").await
    }
}

impl RawUpstream {
    /// Listens.
    pub async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port"))
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("an address"))
    }

    /// The next connection.
    pub async fn accept(&self) -> Raw {
        let accepted = tokio::time::timeout(PATIENCE, self.0.accept()).await;
        let (stream, _) = accepted.expect("a connection in time").expect("a connection");
        Raw::new(stream)
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
