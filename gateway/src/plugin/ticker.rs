//! Ends the slices of guests: a thread that advances the engine's epoch while they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// Advances the engine's epoch while guests run; parked while none does.
#[derive(Debug)]
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Calls begun, to see whether there was one since the last look.
    calls: AtomicU64,
    running: AtomicU64,
    parked: AtomicBool,
    stop: AtomicBool,
}

/// One running call; the ticker ticks as long as there is one.
#[derive(Debug)]
pub struct Running<'t>(&'t Ticker);

impl Ticker {
    /// Starts the thread.
    pub fn start(engine: Engine, tick: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name("stile-ticker".to_owned()).spawn({
            let shared = shared.clone();
            move || run(&shared, &engine, tick)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that a call begins.
    pub fn enter(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::Relaxed);
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(self)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.shared.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread only sleeps and counts; it cannot have panicked, and there would be nothing to do about it.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, engine: &Engine, tick: Duration) {
    let mut idle_ticks = 0;
    let mut calls_seen = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let calls = shared.calls.load(Ordering::SeqCst);
        let is_idle = calls == calls_seen && shared.running.load(Ordering::Relaxed) == 0;
        calls_seen = calls;
        idle_ticks = if is_idle { idle_ticks + 1 } else { 0 };
        if idle_ticks < IDLE_TICKS_BEFORE_PARKING {
            std::thread::sleep(tick);
            engine.increment_epoch();
            continue;
        }
        shared.parked.store(true, Ordering::SeqCst);
        // A call that began after the look above sees `parked` and unparks: the token makes `park` return at once.
        if shared.calls.load(Ordering::SeqCst) == calls_seen && !shared.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        shared.parked.store(false, Ordering::SeqCst);
        idle_ticks = 0;
    }
}

/// Parking and waking cost the caller a system call, so a short pause between calls does not park.
const IDLE_TICKS_BEFORE_PARKING: u32 = 40;
