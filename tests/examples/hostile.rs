//! Tries every attack of the corpus at every hook while a neighbour API is asked steadily, and prints what came of it. Run by
//! `just hostile`; arguments are names of attacks, all without. Fails where an answer is not the expected one, where the
//! neighbour is refused, or where its p99 is above twice its p99 alone and 5 ms.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use stile_tests::corpus::{Arena, Attack};
use stile_tests::{Gateway, Upstream, api};
use tokio::net::TcpStream;

/// How long each attack goes on at least.
const ATTACK: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let attacks = Attack::all().into_iter().filter(|attack| names.is_empty() || names.contains(&attack.name)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(tried(attacks))
}

async fn tried(attacks: Vec<Attack>) -> ExitCode {
    let idle = idle().await;
    let allowed = 2 * idle + Duration::from_millis(5);
    println!("the neighbour's p99 alone is {} ms; beside an attack {} ms are allowed", ms(idle), ms(allowed));
    println!("{:<20} {:<24} {:<10} {:<17} {:>9} {:>9}", "attack", "case", "hook", "answer", "ms", "p99 ms");
    let (mut rows, mut wrong, mut worst) = (0, 0, Duration::ZERO);
    for attack in &attacks {
        for case in &attack.cases {
            let arena = Arena::start_for_long(attack, case).await;
            for (hook, expected) in case.answers() {
                let row = row(&arena, hook).await;
                let mut marks = String::new();
                if row.answer != expected {
                    marks += &format!("  expected {expected}");
                }
                if row.refused > 0 {
                    marks += &format!("  the neighbour was refused {} times", row.refused);
                }
                if row.p99 > allowed {
                    marks += "  p99";
                }
                println!(
                    "{:<20} {:<24} {hook:<10} {:<17} {:>9} {:>9}{marks}",
                    attack.name,
                    case.name,
                    row.answer,
                    ms(row.time),
                    ms(row.p99)
                );
                let is_wrong = !marks.is_empty();
                (rows, wrong, worst) = (rows + 1, wrong + u32::from(is_wrong), worst.max(row.p99));
            }
        }
    }
    println!(
        "{} attacks in {rows} rows, {wrong} of them wrong; the neighbour's worst p99 is {} ms",
        attacks.len(),
        ms(worst)
    );
    if wrong == 0 && rows > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn idle() -> Duration {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("calm").upstream(&upstream).pre("hello")).start().await;
    // What is used for the first time is not measured.
    let asked = async |time| {
        let neighbour = Neighbour::start(gateway.address);
        tokio::time::sleep(time).await;
        neighbour.end()
    };
    asked(IDLE / 10).await;
    let (p99, refused) = asked(IDLE).await;
    assert_eq!(refused, 0, "the neighbour is refused when it is alone");
    p99
}

struct Row {
    answer: String,
    time: Duration,
    p99: Duration,
    refused: usize,
}

/// One hook under the attack for a while.
async fn row(arena: &Arena, hook: &str) -> Row {
    let neighbour = Neighbour::start(arena.gateway.address);
    let begun = Instant::now();
    let came = arena.attack(hook, "reject").await;
    let mut time = came.time;
    while begun.elapsed() < ATTACK {
        if hook == "load" {
            // What was refused is tried again.
            let begun = Instant::now();
            arena.gateway.manage("POST", "/stile/reload").send().await;
            time = begun.elapsed();
        } else {
            arena.call(hook, "reject").await;
        }
    }
    let (p99, refused) = neighbour.end();
    Row { answer: came.answer, time, p99, refused }
}

/// Somebody who asks the API `calm` over and over, on a thread of its own.
struct Neighbour {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<Duration>, usize)>,
}

impl Neighbour {
    fn start(address: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let of_thread = is_over.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tokio::task::LocalSet::new().block_on(&runtime, ask(address, of_thread))
        });
        Self { is_over, thread }
    }

    /// The p99 of its times, and how often it was refused.
    fn end(self) -> (Duration, usize) {
        self.is_over.store(true, Ordering::Relaxed);
        let (mut times, refused) = self.thread.join().expect("no panic");
        times.sort_unstable();
        let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or(Duration::MAX);
        (p99, refused)
    }
}

async fn ask(address: SocketAddr, is_over: Arc<AtomicBool>) -> (Vec<Duration>, usize) {
    let stream = TcpStream::connect(address).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a socket option");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    tokio::task::spawn_local(connection);
    let (mut times, mut refused) = (Vec::new(), 0);
    while !is_over.load(Ordering::Relaxed) {
        let request =
            Request::get("/calm/1").header("host", "neighbour").body(Empty::<Bytes>::new()).expect("a request");
        let begun = Instant::now();
        let answered = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            response.into_body().collect().await.map(|_| status)
        };
        refused += usize::from(!answered.await.is_ok_and(|status| status == 200));
        times.push(begun.elapsed());
        if sender.ready().await.is_err() {
            break;
        }
    }
    (times, refused)
}

fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1000.0)
}
