//! Exchanges a plugin very many times while callers use it, now and then for a broken file, and checks that no request fails,
//! that none sees two versions, and that memory does not grow. Run by `just swaps`; the argument is the number of swaps,
//! 10,000 without one. Fails also where memory at the end is a tenth above that after the first hundred.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use stile_tests::{Gateway, Line, api, guest, plugin, resident_kib};
use tokio::net::TcpListener;

const CALLERS: usize = 8;
/// Before every so many swaps the file is broken for a while.
const BROKEN_EVERY: u64 = 25;
/// A version that is not taken up in that time is not taken up at all.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let total = std::env::args().nth(1).map_or(10_000, |number| number.parse().expect("a number of swaps"));
    let (tell, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || block_on(echo(tell)));
    let upstream = address.recv().expect("it listens");
    block_on(swaps(total, upstream))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

async fn swaps(total: u64, upstream: SocketAddr) -> ExitCode {
    let versions = ["swap-1", "swap-2"].map(|name| std::fs::read(guest(name)).expect("it was built"));
    let [one, two] = &versions;
    let broken = one.get(..one.len() / 2).expect("a half");
    let marked = api("mark").upstream_url(&format!("http://{upstream}"));
    let marked = marked.pre(plugin("swap").function("mark")).response("swap");
    let builder = Gateway::with(marked).file("swap.wasm", one).plugin("swap", "file", "swap.wasm");
    let gateway = builder.set("/workers", 1).set("/reload/settle_ms", 1).start().await;

    let tally = Rc::new(Tally::default());
    let callers = (0..CALLERS).map(|_| call(gateway.address, tally.clone()));
    let swapping = async {
        println!("{:>7} {:>9} {:>6} {:>8} {:>12}", "swaps", "requests", "wrong", "RSS MiB", "median ms");
        let mut line = Line::to(gateway.address).await;
        let (mut first, mut last, mut times) = (0, 0, Vec::new());
        for swap in 1..=total {
            if swap % BROKEN_EVERY == 0 {
                let kept = gateway.metric("stile_reloads_total", &[("result", "kept")]);
                gateway.rename_over("swap.wasm", broken);
                gateway.metric_becomes("stile_reloads_total", &[("result", "kept")], kept + 1.0).await;
            }
            let (content, version) = if swap % 2 == 1 { (two, "2") } else { (one, "1") };
            let begun = Instant::now();
            gateway.rename_over("swap.wasm", content);
            while exchange(&mut line).await.as_deref() != Ok(version) {
                assert!(begun.elapsed() < PATIENCE, "version {version} of swap {swap} is not taken up");
            }
            times.push(begun.elapsed());
            if swap == 100 || swap % (total / 10).max(1) == 0 {
                times.sort_unstable();
                let median = times.get(times.len() / 2).copied().unwrap_or_default();
                last = resident_kib();
                println!(
                    "{swap:>7} {:>9} {:>6} {:>8} {:>12.2}",
                    tally.done.get(),
                    tally.wrong.get(),
                    last >> 10,
                    median.as_secs_f64() * 1000.0
                );
                times.clear();
            }
            if swap == 100 {
                first = last;
            }
        }
        tally.is_over.set(true);
        (first, last)
    };
    let ((first, last), _) = tokio::join!(swapping, join_all(callers));
    gateway.metric_becomes("stile_plugin_generations", &[], 1.0).await;
    for reason in tally.reasons.borrow().iter() {
        println!("wrong: {reason}");
    }
    let has_grown = first > 0 && last > first + first / 10;
    println!(
        "memory after 100 swaps {} MiB, at the end {} MiB; {} requests wrong",
        first >> 10,
        last >> 10,
        tally.wrong.get()
    );
    if has_grown || tally.wrong.get() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[derive(Default)]
struct Tally {
    is_over: Cell<bool>,
    done: Cell<u64>,
    wrong: Cell<u64>,
    reasons: RefCell<Vec<String>>,
}

/// Sends one request after the other.
async fn call(address: SocketAddr, tally: Rc<Tally>) {
    let mut line = Line::to(address).await;
    while !tally.is_over.get() {
        tally.done.set(tally.done.get() + 1);
        if let Err(reason) = exchange(&mut line).await {
            tally.wrong.set(tally.wrong.get() + 1);
            if tally.reasons.borrow().len() < 20 {
                tally.reasons.borrow_mut().push(reason);
            }
            line = Line::to(address).await;
        }
    }
}

/// The version that one request was handled by, on both ways.
async fn exchange(line: &mut Line) -> Result<String, String> {
    let reply = line.get("/mark/").await.map_err(|error| error.to_string())?;
    let version = |name| reply.header(name).map(str::to_owned);
    let (status, way_in, way_out) = (reply.status(), version("x-version-in"), version("x-version-out"));
    match (way_in, way_out) {
        (Some(way_in), Some(way_out)) if status == 200 && way_in == way_out => Ok(way_in),
        versions => Err(format!("status {status}, versions {versions:?}")),
    }
}

/// An upstream that sends the mark back.
async fn echo(tell: std::sync::mpsc::Sender<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    tell.send(listener.local_addr().expect("an address")).expect("somebody waits");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let answer = hyper::service::service_fn(|request: Request<Incoming>| async move {
            let mut response = Response::new(Empty::<Bytes>::new());
            if let Some(version) = request.headers().get("x-version-in") {
                response.headers_mut().insert("x-version-in", version.clone());
            }
            Ok::<_, Infallible>(response)
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
        tokio::task::spawn_local(connection);
    }
}
