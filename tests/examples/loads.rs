//! How long a new version of a plugin takes from the file being there to the first request that it answers, for a small and a
//! large component, compiled and from the cache, and how long requests of another API wait meanwhile. Run by `just loads`.
//! Fails where their p99 is above twice that of quiet times and 5 ms.
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use stile_tests::{Gateway, Line, Upstream, api, guest, plugin};
use wasm_encoder::{CodeSection, CustomSection, Function, FunctionSection, Module, Section as _, TypeSection, ValType};

const CALLERS: usize = 4;
const QUIET: Duration = Duration::from_secs(5);
const LARGE_BYTES: usize = 10_000_000;
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let upstream = Upstream::start();
    let [one, two] = ["swap-1", "swap-2"].map(|name| std::fs::read(guest(name)).expect("it was built"));
    let swapped = api("swapped").upstream(&upstream).pre(plugin("swap").function("answer"));
    let other = api("other").upstream(&upstream).pre(plugin("hello"));
    let builder = Gateway::with(swapped).and(other).file("swap.wasm", &one).plugin("swap", "file", "swap.wasm");
    let builder = builder.set("/workers", 1).set("/reload/settle_ms", 1).set("/runtime/cache_dir", "cache");
    let gateway = builder.start().await;

    let waits = Rc::new(Waits::default());
    let callers = join_all((0..CALLERS).map(|_| call(gateway.address, &waits)));
    let measuring = async {
        tokio::time::sleep(QUIET).await;
        let quiet = waits.p99();
        println!("another API's p99 in quiet times: {:.2} ms", ms(quiet));
        println!(
            "{:>9} {:>9} {:>6} {:>10} {:>10} {:>13}",
            "bytes", "from", "times", "median ms", "max ms", "others' p99"
        );
        let code = code_of(LARGE_BYTES);
        let (mut line, mut worst, mut mark) = (Line::to(gateway.address).await, Duration::ZERO, 0);
        for (times, more) in [(20, None), (4, Some(&code))] {
            let mut versions = Vec::new();
            for (content, version) in [(&one, "1"), (&two, "2")].into_iter().cycle().take(times) {
                mark += 1;
                versions.push((version, component(content, more, mark)));
            }
            // The first time each is compiled, then each is known: that is soon done, so it is done again for more requests.
            for (from, rounds) in [("compiler", 1), ("cache", 5)] {
                let (mut taken, bytes) = (Vec::new(), versions.first().map_or(0, |(_, file)| file.len()));
                // What it costs to write them is not what is measured.
                let named = |number: usize| gateway.folder().join(format!("{number}.new"));
                for (number, (_, content)) in versions.iter().enumerate() {
                    std::fs::write(named(number), content).expect("it is written");
                }
                waits.clear();
                for (number, (version, _)) in (0..rounds).flat_map(|_| versions.iter().enumerate()) {
                    let next = gateway.folder().join("next");
                    std::fs::hard_link(named(number), &next).expect("it is linked");
                    let begun = Instant::now();
                    std::fs::rename(next, gateway.folder().join("swap.wasm")).expect("it is renamed");
                    while line.get("/swapped/").await.expect("it is answered").text() != *version {
                        assert!(begun.elapsed() < PATIENCE, "a file of {bytes} bytes is not taken up");
                    }
                    taken.push(begun.elapsed());
                }
                taken.sort_unstable();
                let (median, max) = (at(&taken, 50), at(&taken, 100));
                let others = waits.p99();
                worst = worst.max(others);
                println!(
                    "{bytes:>9} {from:>9} {:>6} {:>10.1} {:>10.1} {:>10.2} ms",
                    taken.len(),
                    ms(median),
                    ms(max),
                    ms(others)
                );
            }
        }
        waits.is_over.set(true);
        (quiet, worst)
    };
    let ((quiet, worst), _) = tokio::join!(measuring, callers);
    let allowed = 2 * quiet + Duration::from_millis(5);
    println!("others' p99 at worst {:.2} ms, allowed {:.2} ms", ms(worst), ms(allowed));
    if worst > allowed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// How long the other API's callers waited.
#[derive(Default)]
struct Waits {
    is_over: Cell<bool>,
    times: RefCell<Vec<Duration>>,
}

impl Waits {
    fn clear(&self) {
        self.times.borrow_mut().clear();
    }

    /// Of the waits since it was asked before.
    fn p99(&self) -> Duration {
        let mut times = self.times.take();
        times.sort_unstable();
        at(&times, 99)
    }
}

/// The time that so many per cent are not above.
fn at(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or_default()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

async fn call(address: SocketAddr, waits: &Waits) {
    let mut line = Line::to(address).await;
    while !waits.is_over.get() {
        let reply = line.get("/other/").await.expect("it is answered");
        assert_eq!(reply.status(), 200);
        waits.times.borrow_mut().push(reply.time);
    }
}

/// A component with a mark that gives it a digest of its own, and with a module more if asked.
fn component(content: &[u8], more: Option<&Vec<u8>>, mark: u32) -> Vec<u8> {
    let mut component = content.to_vec();
    if let Some(module) = more {
        // A section that holds a core module: nobody makes an instance of it, but it is compiled like others.
        wasm_encoder::RawSection { id: 1, data: module }.append_to(&mut component);
    }
    CustomSection { name: "mark".into(), data: mark.to_le_bytes().as_slice().into() }.append_to(&mut component);
    component
}

/// A core module with about so many bytes of code.
fn code_of(bytes: usize) -> Vec<u8> {
    const ROUNDS: i32 = 200;
    let mut function = Function::new([(1, ValType::I32)]);
    let mut body = function.instructions();
    for round in 0..ROUNDS {
        body.local_get(0)
            .i32_const(round)
            .i32_add()
            .local_get(1)
            .i32_xor()
            .local_tee(1)
            .i32_const(7)
            .i32_rotl()
            .local_set(0);
    }
    body.local_get(1).end();
    let functions = u32::try_from(bytes / function.byte_len()).expect("not that many");
    let (mut types, mut declared, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([ValType::I32], [ValType::I32]);
    for _ in 0..functions {
        declared.function(0);
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&code);
    module.finish()
}
