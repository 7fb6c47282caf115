//! A server on port 0 with a handler that shows what reached it, and blocking callers.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, LocalRuntime};
use tokio::sync::{Notify, watch};

use crate::message::body::Body;
use crate::model::gateway::{Listener, ListenerTls, ServerLimits};
use crate::net::client::{Peer, host};
use crate::net::tls::Certificate;
use crate::server::{Server, Summary, Totals};

pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) server: Arc<crate::server::ServerCounters>,
    pub(super) events: Receiver<Event>,
    pub(super) release: Arc<Notify>,
    pub(super) certificates: Vec<Arc<Certificate>>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<Summary>>,
}

/// What the handler saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Waiting,
    Dropped,
}

pub(super) fn limits() -> ServerLimits {
    ServerLimits { drain_timeout: Duration::from_secs(5), ..ServerLimits::default() }
}

pub(super) fn start(limits: &ServerLimits) -> Running {
    start_with(limits, 1, None)
}

pub(super) fn start_with(limits: &ServerLimits, workers: usize, tls: Option<ListenerTls>) -> Running {
    let listener = Listener { address: SocketAddr::from(([127, 0, 0, 1], 0)), tls };
    let Server { addresses, counters, seats, certificates } =
        Server::bind(&[listener], workers, limits, &[]).expect("a free port");
    let (stop, stopped) = watch::channel(false);
    let (send, events) = sync_channel(1000);
    let release = Arc::new(Notify::new());
    let workers = seats
        .into_iter()
        .map(|seat| {
            let (send, release, mut stopped) = (send.clone(), release.clone(), stopped.clone());
            std::thread::spawn(move || {
                let handler = move |request, peer| handle(request, peer, send.clone(), release.clone());
                runtime().block_on(seat.serve(handler, async move {
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                }))
            })
        })
        .collect();
    Running { address: addresses[0], server: counters, events, release, certificates, stop, workers }
}

pub(super) fn runtime() -> LocalRuntime {
    Builder::new_current_thread().enable_all().build_local(Default::default()).expect("a runtime")
}

/// Runs a caller's tasks on its own core.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local;

impl<T: Future<Output: 'static> + 'static> hyper::rt::Executor<T> for Local {
    fn execute(&self, task: T) {
        tokio::task::spawn_local(task);
    }
}

struct TellDrop(SyncSender<Event>);

impl Drop for TellDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Event::Dropped);
    }
}

async fn handle(
    mut request: Request<Incoming>,
    peer: Rc<Peer>,
    events: SyncSender<Event>,
    release: Arc<Notify>,
) -> Response<Body> {
    let text = match request.uri().path() {
        "/panic" => panic!("a handler may panic"),
        "/wait" => {
            let tell = TellDrop(events.clone());
            let _ = events.send(Event::Waiting);
            release.notified().await;
            std::mem::forget(tell);
            "waited".to_owned()
        }
        "/host" => host(request.uri(), request.headers()).unwrap_or("none").to_owned(),
        "/hosts" => request.headers().get_all("host").iter().count().to_string(),
        "/peer" => format!("{:?} {} {}", peer.address_header, peer.local.port(), peer.tls),
        "/echo" => match request.body_mut().collect().await {
            Ok(body) => return Response::new(Body::full(body.to_bytes())),
            Err(error) => format!("error: {error}"),
        },
        "/large" => return Response::new(Body::full(vec![b'x'; 64 << 20])),
        "/upgrade" => return upgrade(request),
        path => format!("{} {path}", request.method()),
    };
    Response::new(Body::full(text))
}

fn upgrade(mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::task::spawn_local(async move {
        let mut tunnel = TokioIo::new(upgrade.await.expect("an upgrade"));
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = tunnel.read(&mut buffer).await {
            tunnel.write_all(&buffer[..n]).await.expect("an open tunnel");
        }
    });
    let mut answer = Response::new(Body::Empty);
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert("connection", "upgrade".parse().expect("a value"));
    answer.headers_mut().insert("upgrade", "echo".parse().expect("a value"));
    answer
}

impl Running {
    pub(super) fn totals(&self) -> Totals {
        self.server.totals()
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// Sends bytes on a connection of their own and returns all that comes until the server closes it.
    pub(super) fn send_until_close(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // The server may refuse before everything is sent.
        let _ = stream.write_all(bytes);
        until_close(&mut stream)
    }

    pub(super) fn next_event(&self) -> Event {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    pub(super) fn begin_drain(&self) {
        self.stop.send_replace(true);
    }

    /// Drains and looks at what was counted.
    pub(super) fn stop_and(self, look: impl FnOnce(Totals)) {
        let counters = self.server.clone();
        self.stop();
        look(counters.totals());
    }

    /// Drains and returns how many connections were cut off.
    pub(super) fn stop(self) -> u64 {
        self.begin_drain();
        self.workers.into_iter().map(|w| w.join().expect("a worker does not panic").aborted).sum()
    }
}

pub(super) fn until_close(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not closed ({error}) after {:?}", String::from_utf8_lossy(&bytes)),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the text ends in `end`.
pub(super) fn until(stream: &mut impl Read, end: &str) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(end.as_bytes()) {
        match stream.read(&mut byte) {
            Ok(1) => text.push(byte[0]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&text)),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Statuses of all answers in a text.
pub(super) fn statuses(text: &str) -> Vec<u16> {
    text.lines().filter_map(|l| l.split_once("HTTP/1.")?.1.get(2..5)?.parse().ok()).collect()
}

pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits for something that other threads bring about.
#[track_caller]
pub(super) fn wait_for(happened: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !happened() {
        assert!(begun.elapsed() < PATIENCE, "it did not happen");
        std::thread::yield_now();
    }
}

/// Runs a server that was bound by hand; the result ends it.
pub(super) fn run(server: Server) -> impl FnOnce() {
    let (stop, stopped) = watch::channel(false);
    let threads: Vec<_> = server
        .seats
        .into_iter()
        .map(|seat| {
            let mut stopped = stopped.clone();
            std::thread::spawn(move || {
                let handler = |_, _| async { Response::new(Body::full("served")) };
                runtime().block_on(seat.serve(handler, async move {
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                }))
            })
        })
        .collect();
    move || {
        stop.send_replace(true);
        for thread in threads {
            thread.join().expect("a worker does not panic");
        }
    }
}
