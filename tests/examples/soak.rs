//! Sends very many mixed requests through a gateway with all seven hooks to a real nginx, checks every answer, and
//! watches the resident memory. Run by `just soak`; the argument is the number of requests, 100,000 without one.
//!
//! A third each goes over HTTP/1.1, HTTP/2 in cleartext, and TLS (half of that each version). Every request has an id of
//! its own that must come back, and what it is (method, path, body) follows from that id: a run can be repeated.
//! Fails when one answer is wrong, or memory at the end is a fifth and 32 MiB above that after the first tenth.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

#[path = "soak/job.rs"]
mod job;
#[path = "soak/line.rs"]
mod line;
#[path = "soak/nginx.rs"]
mod nginx;

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use stile_tests::{Api, Gateway, SelfSigned, api, plugin, resident_kib};

use crate::job::Job;
use crate::line::{Dialect, Line};
use crate::nginx::Nginx;

/// How many connections of each dialect there are, and how many requests are on one at a time: 34 in all.
const LINES: [(Dialect, usize, usize); 4] =
    [(Dialect::Http1, 10, 1), (Dialect::Http2, 3, 4), (Dialect::Tls1, 4, 1), (Dialect::Tls2, 2, 4)];

/// A request that takes longer has no answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many wrong answers are told in full.
const TOLD_MAX: u64 = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let total = std::env::args().nth(1).map_or(100_000, |number| number.parse().expect("a number of requests"));
    let nginx = Nginx::start();
    let tls = SelfSigned::new();
    let gateway = Gateway::with(hooked("soak", &nginx))
        .and(hooked("read", &nginx).post(plugin("json-rewrite").config(json!({ "remove": ["/secret"] }))))
        .tls(&tls)
        .recording()
        .set(
            "/listen",
            json!([
                { "address": "127.0.0.1:0" },
                { "address": "127.0.0.1:0", "tls": { "certificate": "cert.pem", "key": "key.pem" } },
            ]),
        )
        .set("/workers", 2)
        .set("/runtime/instances_max", 128)
        .start()
        .await;
    let addresses = gateway.addresses();
    let [clear, secure] = addresses else { panic!("two listeners, not {addresses:?}") };

    let tally = Rc::new(Tally::new(total));
    let mut lines = Vec::new();
    for (dialect, connections, at_a_time) in LINES {
        let address = if dialect.is_tls() { *secure } else { *clear };
        let left = Rc::new(Cell::new(share(dialect, total)));
        for _ in 0..connections {
            let line = Rc::new(Line::new(dialect, address, tls.clone()));
            for _ in 0..at_a_time {
                lines.push(work(line.clone(), left.clone(), tally.clone()));
            }
        }
    }
    join_all(lines).await;
    let drained = gateway.drain().await;
    println!("{drained:?}, {:.0?}", tally.begun.elapsed());
    tally.verdict()
}

/// An API with every hook: what each left behind is checked in the answers.
fn hooked(id: &str, nginx: &Nginx) -> Api {
    let trace = |tag: &str| plugin("trace").config(json!({ "tag": tag }));
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"; // of `test`
    api(id)
        .strip()
        .upstream_url(&nginx.url())
        .set("/request_body_bytes_max", 16 << 20)
        .recorded()
        .pre(trace("pre"))
        .auth(plugin("token-auth").config(json!({ "tokens": [{ "token_sha256": digest, "alias": "ana" }] })))
        .post_auth(trace("post_auth"))
        .hook("endpoint", trace("endpoint"))
        .post(trace("post"))
        .response(trace("response"))
        .analytics(trace("analytics"))
}

/// How many of all requests a dialect has: a third, and those over TLS half of one each.
fn share(dialect: Dialect, total: u64) -> u64 {
    match dialect {
        Dialect::Http1 => total - 2 * (total / 3),
        Dialect::Http2 => total / 3,
        Dialect::Tls1 => total / 3 - total / 6,
        Dialect::Tls2 => total / 6,
    }
}

/// Sends one request after the other until its dialect's share is used up.
async fn work(line: Rc<Line>, left: Rc<Cell<u64>>, tally: Rc<Tally>) {
    while let Some(number) = left.get().checked_sub(1) {
        left.set(number);
        let job = Job::new(line.dialect, number);
        let outcome = tokio::time::timeout(PATIENCE, line.exchange(&job)).await;
        tally.count(&job, outcome.unwrap_or_else(|_| Err("no answer in time".to_owned())));
    }
}

/// What happened so far.
struct Tally {
    begun: Instant,
    total: u64,
    done: Cell<u64>,
    wrong: Cell<u64>,
    resident: RefCell<Vec<u64>>,
}

impl Tally {
    fn new(total: u64) -> Self {
        println!("{:>9} {:>6} {:>8} {:>8}", "requests", "wrong", "RSS MiB", "seconds");
        Self { begun: Instant::now(), total, done: Cell::new(0), wrong: Cell::new(0), resident: RefCell::default() }
    }

    fn count(&self, job: &Job, outcome: Result<(), String>) {
        self.done.set(self.done.get() + 1);
        if let Err(reason) = outcome {
            self.wrong.set(self.wrong.get() + 1);
            if self.wrong.get() <= TOLD_MAX {
                println!("  wrong: {job:?}: {reason}");
            }
        }
        if self.done.get().is_multiple_of((self.total / 10).max(1)) {
            let (resident, seconds) = (resident_kib(), self.begun.elapsed().as_secs());
            println!("{:>9} {:>6} {:>8} {seconds:>8}", self.done.get(), self.wrong.get(), resident >> 10);
            self.resident.borrow_mut().push(resident);
        }
    }

    fn verdict(&self) -> ExitCode {
        let resident = self.resident.borrow();
        let (first, last) = (resident.first().copied().unwrap_or(0), resident.last().copied().unwrap_or(0));
        let has_grown = last > first + first / 5 + (32 << 10);
        if has_grown {
            println!("memory grew from {} to {} MiB", first >> 10, last >> 10);
        }
        if has_grown || self.wrong.get() > 0 || self.done.get() != self.total {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
