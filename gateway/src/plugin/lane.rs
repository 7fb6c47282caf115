//! Turns for guests that compute for long: an epoch ticker, and a slow lane for each core.
//!
//! A call that outlives its first slice goes on in turns, one slice per core between two looks at the sockets. What
//! ends a call is its deadline, not this.
//!
//! Some pieces of work no tick cuts short: an instruction that moves megabytes, pages that the kernel has to find, an answer
//! that is copied. After one of these the lane rests as long as the core was held, so that a request of somebody else
//! meets one of them and not one at each of its steps. A plugin that does so again and again begins in the lane at once.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Engine;

/// A core's lane for calls that outlived their first slice: one of them runs at a time, in fair order.
#[derive(Debug, Clone)]
pub struct SlowLane(Arc<Lane>);

#[derive(Debug)]
struct Lane {
    turns: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    calls: u64,
    turn: Option<Turn>,
    /// Since when a guest holds the core.
    held_since: Instant,
    rests_until: Instant,
}

/// The turn that a call has.
#[derive(Debug)]
struct Turn {
    call: Call,
    /// Not before the core has looked at its sockets.
    has_begun: bool,
    _permit: OwnedSemaphorePermit,
}

/// One call on the lane's core; by default none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Call(u64);

/// Which of the last calls held a core for long, one bit each.
#[derive(Debug, Default)]
pub struct Habit(AtomicU8);

impl Default for SlowLane {
    fn default() -> Self {
        let now = Instant::now();
        let state = Mutex::new(State { calls: 0, turn: None, held_since: now, rests_until: now });
        Self(Arc::new(Lane { turns: Arc::new(Semaphore::new(1)), state }))
    }
}

impl SlowLane {
    /// One more call.
    pub fn call(&self) -> Call {
        let mut state = self.0.state();
        state.calls += 1;
        Call(state.calls)
    }

    /// Gives the call's turn back, waits for the next one, and lets the core look at its sockets in between.
    pub fn next_turn(&self, call: Call) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let held = self.0.state().held_since.elapsed();
        self.0.rest_after(held);
        self.0.end(call);
        let lane = self.0.clone();
        Box::pin(async move {
            let Ok(permit) = lane.turns.clone().acquire_owned().await else { return };
            let rests_until = lane.state().rests_until;
            if rests_until > Instant::now() {
                tokio::time::sleep_until(rests_until.into()).await;
            }
            lane.state().turn = Some(Turn { call, has_begun: false, _permit: permit });
            tokio::task::yield_now().await;
            if let Some(turn) = lane.state().turn.as_mut().filter(|turn| turn.call == call) {
                turn.has_begun = true;
            }
        })
    }

    /// Has the guest of a call run. `was_long` is set where it once holds the core for long in one piece.
    ///
    /// A guest that waits, for whatever it asked the host, gives its turn back: it has no use for the core, and others would
    /// wait with it. The turn ends with the call, however that ends.
    pub async fn run<T>(&self, call: Call, was_long: &mut bool, guest: impl Future<Output = T>) -> T {
        let _ends = Ends(&self.0, call);
        let mut guest = pin!(guest);
        poll_fn(|cx| {
            let begun = Instant::now();
            self.0.state().held_since = begun;
            let polled = guest.as_mut().poll(cx);
            let held = begun.elapsed();
            *was_long |= held > LONG;
            if polled.is_ready() {
                self.0.rest_after(held);
            } else {
                self.0.waits(call);
            }
            polled
        })
        .await
    }
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rests where a guest that leaves the core now has held it for long.
    fn rest_after(&self, held: Duration) {
        if held > LONG {
            self.state().rests_until = Instant::now() + held.min(REST_MAX);
        }
    }

    /// The call waits for something else than its turn.
    fn waits(&self, call: Call) {
        let ended = self.state().turn.take_if(|turn| turn.call == call && turn.has_begun);
        drop(ended);
    }

    fn end(&self, call: Call) {
        let ended = self.state().turn.take_if(|turn| turn.call == call);
        drop(ended);
    }
}

/// Ends the turn of a call that is dropped half-way too.
struct Ends<'l>(&'l Lane, Call);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

impl Habit {
    /// Notes whether one more call did so.
    pub fn note(&self, was_long: bool) {
        // Calls of one core only: nothing comes in between.
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before << 1 | u8::from(was_long), Ordering::Relaxed);
    }

    /// Whether the next one is likely to. Once is a machine that was busy with something else.
    pub fn is_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed).count_ones() >= HABIT_MIN
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

/// Two ticks: what a slice takes, and as much for a tick that came late.
const LONG: Duration = Duration::from_millis(1);
/// A rest is for others. What holds a core for longer than this is slow enough.
const REST_MAX: Duration = Duration::from_millis(10);
/// Of eight calls; each has its `init` as one of them where instances are not reused.
const HABIT_MIN: u32 = 3;
/// Parking and waking cost the caller a system call, so a short pause between calls does not park.
const IDLE_TICKS_BEFORE_PARKING: u32 = 40;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const PIECE: Duration = Duration::from_millis(5);

    /// Holds the core like an instruction that no tick cuts short.
    async fn hold() {
        let begun = Instant::now();
        while begun.elapsed() < PIECE {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn a_lane_rests_as_long_as_its_core_was_held() {
        let (lane, mut was_long) = (SlowLane::default(), false);
        lane.run(lane.call(), &mut was_long, hold()).await;
        assert!(was_long);

        let begun = Instant::now();
        lane.next_turn(lane.call()).await;
        assert!(begun.elapsed() > PIECE / 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_turn_ends_with_its_call_and_where_its_guest_waits() {
        let (lane, mut was_long) = (SlowLane::default(), false);
        let has_turn = || lane.0.turns.available_permits() == 0;
        let call = lane.call();
        let answers = lane.run(call, &mut was_long, async {
            lane.next_turn(call).await;
            assert!(has_turn());
            tokio::task::yield_now().await;
            assert!(!has_turn(), "it waited");
            lane.next_turn(call).await;
            assert!(has_turn());
        });
        answers.await;
        assert!(!has_turn(), "it ended");

        let other = lane.call();
        let dropped = lane.run(other, &mut was_long, async {
            lane.next_turn(other).await;
            std::future::pending::<()>().await;
        });
        tokio::time::timeout(Duration::from_millis(1), dropped).await.unwrap_err();
        assert!(!has_turn(), "it was dropped");
    }

    #[test]
    fn a_plugin_is_slow_that_is_so_again_and_again() {
        let habit = Habit::default();
        for was_long in [true, false, true, false] {
            habit.note(was_long);
            assert!(!habit.is_slow());
        }
        habit.note(true);
        assert!(habit.is_slow());
        (0..8).for_each(|_| habit.note(false));
        assert!(!habit.is_slow());
    }
}
