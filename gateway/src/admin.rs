//! The control port: is it alive, is it ready, what does it count; and, with the secret, keys and policies as in Tyk, and what
//! is loaded.
//!
//! On a thread of its own, so that it answers when the serving threads are busy.

mod answer;
mod audit;
mod control;
mod health;
mod keys;
mod loaded;
mod places;
mod policies;
mod request;
mod secret;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::answer::Answer;
pub use self::control::{Control, ControlNumbers, IdentityOf, OrganisationOf};
pub use self::loaded::Loaded;
use self::places::{Answering, Places};
pub use self::secret::{NoRandom, Secret};

/// Where people begin: what it has below these, its refusals and the reference tell.
pub const PATHS: &str = "/live, /ready, /metrics, /tyk/keys, /tyk/policies, /stile/reload, /stile/plugins, /stile/apis";

/// A bound control port that does not answer yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

/// What the control port tells.
#[derive(Clone)]
pub struct AdminState {
    /// Asked for `/ready`.
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// Asked for `/metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Asked for keys and policies.
    pub control: Control,
}

/// Whether callers should be sent here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Every API is served, requests are not refused for want of the store, and the gateway is not ending.
    pub is_ready: bool,
    /// The gateway is ending.
    pub is_draining: bool,
    /// What is not in order: its name, and why.
    pub details: Vec<(String, String)>,
}

/// A running control port; it ends when this is dropped.
#[derive(Debug)]
pub struct AdminHandle {
    /// The address that it listens on.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Takes the address.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Starts to answer.
    pub fn serve(self, state: AdminState) -> io::Result<AdminHandle> {
        let (stop, stopped) = oneshot::channel();
        let (started, has_started) = mpsc::channel();
        let listener = self.listener;
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let ready = runtime.and_then(|runtime| {
                let listener = runtime.block_on(async { tokio::net::TcpListener::from_std(listener) })?;
                Ok((runtime, listener))
            });
            match ready {
                Ok((runtime, listener)) => {
                    // The one who waits is in this function, below.
                    let _ = started.send(Ok(()));
                    runtime.block_on(accept(listener, state, stopped));
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        };
        let thread = std::thread::Builder::new().name("stile-control".to_owned()).spawn(run)?;
        has_started.recv().map_err(io::Error::other)??;
        Ok(AdminHandle { address: self.address, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminHandle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the control port must not end the gateway.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, state: AdminState, mut stopped: oneshot::Receiver<()>) {
    let mut places = Places::new(state.control.connections_max);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = &mut stopped => return,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "control port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let closed = places.make_room();
        state.control.numbers.connections_closed.fetch_add(closed.unwrap_or(1), Ordering::Relaxed);
        if closed.is_none() {
            continue;
        }
        let answering = Answering::default();
        let task = connections.spawn(serve(stream, remote, state.clone(), answering.clone()));
        places.enter(task, answering);
    }
}

async fn serve(stream: TcpStream, remote: SocketAddr, state: AdminState, answering: Answering) {
    let answer = hyper::service::service_fn(move |request| {
        let (state, request_begun) = (state.clone(), answering.begin());
        async move {
            let answer = respond(request, remote, &state).await;
            drop(request_begun);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    // A broken connection is its caller's matter.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

async fn respond(request: Request<Incoming>, remote: SocketAddr, state: &AdminState) -> Answer {
    let path = request.uri().path().to_owned();
    if path.starts_with("/tyk/") || path.starts_with("/stile/") {
        return control::answer(&state.control, remote, request, &path).await;
    }
    health::answer(request.method(), &path, state)
}

const HEADER_BYTES_MAX: usize = 16 << 10;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
