//! A thousand APIs with three plugins each, out of twenty: how long a start from a warm cache takes, what memory they need, and
//! how many requests a second there are beside one API alone. Run by `just many`. Fails where the start takes more than 5 s, or
//! requests are fewer than nine tenths.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use stile_tests::{Folder, Gateway, Line, Upstream, api, guest, plugin, resident_kib};
use wasm_encoder::{CustomSection, Section as _};

const APIS: usize = 1_000;
const PLUGINS: usize = 20;
const OF_EACH: usize = 3;
const CALLERS: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const START_MAX: Duration = Duration::from_secs(5);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (folder, upstream) = (Folder::new(), Upstream::start());
    let content = std::fs::read(guest("swap-1")).expect("it was built");
    for number in 0..PLUGINS {
        let mut component = content.clone();
        let mark = number.to_le_bytes();
        CustomSection { name: "mark".into(), data: mark.as_slice().into() }.append_to(&mut component);
        folder.write(&format!("{number}.wasm"), component);
    }
    let (cold, gateway) = start(APIS, folder.path(), &upstream).await;
    gateway.drain().await;

    let before = resident_kib();
    let (warm, many) = start(APIS, folder.path(), &upstream).await;
    let resident = resident_kib();
    println!(
        "{APIS} APIs with {OF_EACH} of {PLUGINS} plugins each: start {:.2} s, from a warm cache {:.2} s",
        cold.as_secs_f64(),
        warm.as_secs_f64()
    );
    println!("memory {} MiB, before this start {} MiB", resident >> 10, before >> 10);

    let (_, alone) = start(1, folder.path(), &upstream).await;
    // Each API's first connection to its upstream is not what is measured.
    requests(alone.address, 1).await;
    requests(many.address, APIS).await;
    // In turns, so that what else the machine does meets both.
    let (mut of_alone, mut of_many) = (0, 0);
    for _ in 0..ROUNDS {
        of_alone += requests(alone.address, 1).await;
        of_many += requests(many.address, APIS).await;
    }
    let share = of_many as f64 / of_alone as f64;
    let per_second = |requests: u64| requests / (ROUNDS as u64 * ROUND.as_secs());
    println!(
        "requests a second: one API {}, all APIs in turn {}: {share:.2}",
        per_second(of_alone),
        per_second(of_many)
    );
    if warm > START_MAX || share < 0.9 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A gateway, and the time until its last API answered.
async fn start(apis: usize, folder: &Path, upstream: &Upstream) -> (Duration, Gateway) {
    let named = |number: usize| format!("plugin-{}", number % PLUGINS);
    let mut each = (0..apis).map(|number| {
        let used = |nth: usize| plugin(&named(number * OF_EACH + nth)).function("mark");
        (0..OF_EACH).fold(api(&number.to_string()).upstream(upstream), |api, nth| api.pre(used(nth)))
    });
    let mut builder = each.by_ref().take(1).map(Gateway::with).next().expect("there is one");
    builder = each.fold(builder, |builder, api| builder.and(api));
    for number in 0..PLUGINS.min(apis * OF_EACH) {
        let file = folder.join(format!("{number}.wasm")).display().to_string();
        builder = builder.plugin(&named(number), "file", file);
    }
    let cache = folder.join("cache").display().to_string();
    let builder = builder.set("/workers", 1).set("/runtime/cache_dir", cache);
    let begun = Instant::now();
    let gateway = builder.start().await;
    let reply = gateway.get(&format!("/{}/", apis - 1)).send().await;
    assert_eq!(reply.status(), 200);
    (begun.elapsed(), gateway)
}

/// How many requests are answered in a round, spread over so many APIs.
async fn requests(address: SocketAddr, apis: usize) -> u64 {
    let until = Instant::now() + ROUND;
    let callers = (0..CALLERS).map(async |caller| {
        let (mut line, mut done) = (Line::to(address).await, 0);
        for number in (0..apis).cycle().skip(caller * apis / CALLERS) {
            if Instant::now() >= until {
                break;
            }
            let reply = line.get(&format!("/{number}/")).await.expect("it is answered");
            assert_eq!(reply.status(), 200);
            done += 1;
        }
        done
    });
    join_all(callers).await.into_iter().sum()
}
