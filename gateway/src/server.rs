//! The data port: accepts connections, speaks HTTP/1.1 and HTTP/2 on each port, bounds what callers may use, drains.
//!
//! It hands each request to one handler and knows nothing of APIs. Cleartext connections are told apart by HTTP/2's
//! preface, encrypted ones by ALPN.

mod check;
mod connection;
mod counters;
mod linger;
mod service;
mod socket;
mod stage;
mod streams;
mod watch;
mod worker;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a panic fails the test")]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::sync::{Notify, mpsc};

pub use crate::net::client::Peer;
pub use counters::{ServerCounters, Totals};

use crate::model::gateway::{Listener, ServerLimits};
use crate::net::client::TrustedProxies;
use crate::net::listen::{self, BindError};
use crate::net::tls::{Certificate, TlsError};

/// Everything bound and nothing serving yet.
#[derive(Debug)]
pub struct Server {
    /// Where callers connect, ports known, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// Certificates of the listeners that have one, for [`crate::net::tls::watch`].
    pub certificates: Vec<Arc<Certificate>>,
    /// What all workers count.
    pub counters: Arc<ServerCounters>,
    /// One for each worker: to be moved to its thread and [served](Seat::serve).
    pub seats: Vec<Seat>,
}

/// One worker's part of the server.
#[derive(Debug)]
pub struct Seat {
    index: usize,
    shared: Arc<Shared>,
    listeners: Vec<SeatListener>,
    handed: mpsc::Receiver<Handed>,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Connections that were cut off because they were not done within `drain_timeout`.
    pub aborted: u64,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl Server {
    /// Reads all certificates and binds all addresses, for so many workers.
    ///
    /// `limits.connections_max` counts over all workers. A connection above it is accepted and closed at once, which
    /// callers see sooner than a full queue.
    pub fn bind(
        listeners: &[Listener],
        workers: usize,
        limits: &ServerLimits,
        trusted_proxies: &[IpNet],
    ) -> Result<Self, StartError> {
        let workers = workers.max(1);
        let mut certificates = Vec::new();
        let mut tls: Vec<Option<Arc<ServerConfig>>> = Vec::new();
        for listener in listeners {
            let Some(files) = &listener.tls else {
                tls.push(None);
                continue;
            };
            let certificate = Certificate::from_files(files)?;
            tls.push(Some(certificate.server_config()?));
            certificates.push(certificate);
        }
        let wanted: Vec<SocketAddr> = listeners.iter().map(|l| l.address).collect();
        let bound = listen::bind(&wanted, workers)?;
        let addresses = bound.iter().map(|b| b.address).collect();
        let counters = Arc::new(ServerCounters::new(workers));
        let (neighbours, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(HANDED_MAX)).unzip();
        let shared = Arc::new(Shared {
            limits: limits.clone(),
            proxies: TrustedProxies::new(trusted_proxies.to_vec()),
            counters: counters.clone(),
            open: AtomicUsize::new(0),
            emptied: (0..workers).map(|_| Notify::new()).collect(),
            neighbours,
        });
        let mut sockets: Vec<_> = bound.into_iter().map(|b| b.sockets.into_iter()).collect();
        let seat = |(index, handed)| {
            let of_this_worker = sockets.iter_mut().zip(&tls);
            let listeners = of_this_worker
                .filter_map(|(sockets, tls)| Some(SeatListener { socket: sockets.next()?, tls: tls.clone() }))
                .collect();
            Seat { index, shared: shared.clone(), listeners, handed }
        };
        let seats = inboxes.into_iter().enumerate().map(seat).collect();
        Ok(Self { addresses, certificates, counters, seats })
    }
}

#[derive(Debug)]
struct SeatListener {
    socket: std::net::TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

/// What all workers share.
#[derive(Debug)]
struct Shared {
    limits: ServerLimits,
    proxies: TrustedProxies,
    counters: Arc<ServerCounters>,
    /// Connections of all workers.
    open: AtomicUsize,
    emptied: Box<[Notify]>,
    neighbours: Vec<mpsc::Sender<Handed>>,
}

impl Shared {
    /// Waits until a worker's last connection is gone. May come too early; look again.
    async fn emptied(&self, worker: usize) {
        if let Some(emptied) = self.emptied.get(worker) {
            emptied.notified().await;
        }
    }
}

/// A socket on its way to a worker that has fewer.
#[derive(Debug)]
struct Handed {
    socket: std::net::TcpStream,
    address: SocketAddr,
    listener: usize,
    permit: Permit,
}

/// One connection of `connections_max`, given back when it is dropped.
#[derive(Debug)]
struct Permit {
    shared: Arc<Shared>,
    worker: usize,
}

impl Permit {
    fn take(shared: &Arc<Shared>, worker: usize) -> Option<Self> {
        let before = shared.open.fetch_add(1, Ordering::Relaxed);
        if before >= shared.limits.connections_max {
            shared.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        shared.counters.worker(worker).open.add_one();
        Some(Self { shared: shared.clone(), worker })
    }

    fn move_to(&mut self, worker: usize) {
        self.shared.counters.worker(worker).open.add_one();
        self.leave();
        self.worker = worker;
    }

    fn leave(&self) {
        if self.shared.counters.worker(self.worker).open.take_one() == 0
            && let Some(emptied) = self.shared.emptied.get(self.worker)
        {
            emptied.notify_one();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave();
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

const HANDED_MAX: usize = 256;
