//! Turns for guests that compute for long: an epoch ticker, and a slow lane for each core.
//!
//! A call that outlives its first slice goes on in turns, one slice per core between two looks at the sockets. What
//! ends a call is its deadline, not this.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Engine;

/// A core's lane for calls that outlived their first slice: one of them runs at a time, in fair order.
#[derive(Debug, Clone)]
pub struct SlowLane(Arc<Semaphore>);

/// A call's place in the slow lane; empty until the call is slow.
#[derive(Debug, Clone, Default)]
pub struct Turn(Option<Arc<Mutex<Option<OwnedSemaphorePermit>>>>);

impl Default for SlowLane {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl SlowLane {
    /// Gives the turn back, waits for the next one, and lets the core look at its sockets in between.
    pub fn next_turn(&self, turn: &mut Turn) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let lane = self.0.clone();
        turn.end();
        let turn = turn.0.get_or_insert_default().clone();
        Box::pin(async move {
            let permit = lane.acquire_owned().await.ok();
            *turn.lock().unwrap_or_else(PoisonError::into_inner) = permit;
            tokio::task::yield_now().await;
        })
    }
}

impl Turn {
    /// Gives the turn back, if there is one.
    pub fn end(&self) {
        if let Some(turn) = &self.0 {
            turn.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Waits for something on a guest's behalf. The turn goes back as soon as it really waits: a guest that sleeps has no
    /// use for the core, and others would wait with it.
    pub async fn waiting<T>(self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            if polled.is_pending() {
                self.end();
            }
            polled
        })
        .await
    }
}

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
