//! The slow lane: a thread beside each core, for guests that compute for long.
//!
//! A call begins on its core. One that outlives its first slice goes on in the core's slow lane, in turns with the others there,
//! while the core goes back to its sockets. What ends a call is its deadline, not this.
//!
//! Some pieces of work no tick cuts short: an instruction that moves megabytes, pages that the kernel has to find, an answer
//! that is copied. In the lane the kernel cuts them. A plugin that holds its core for that long again and again begins there
//! at once.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_task::{Builder, Runnable};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

/// The way to a core's slow lane. Cheap to clone; its thread ends with the last one.
#[derive(Debug, Clone)]
pub struct SlowLane {
    turns: Sender<Turn>,
    at_work: Arc<AtWork>,
}

/// One slice of a guest.
#[derive(Debug)]
struct Turn {
    visit: u64,
    runnable: Runnable,
}

/// Which visit the lane works on.
#[derive(Debug, Default)]
struct AtWork {
    visit: Mutex<Option<u64>>,
    changed: Condvar,
    visits: AtomicU64,
}

/// What a guest held for long in one piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Its core.
    pub core: bool,
    /// The core's slow lane.
    pub lane: bool,
}

impl SlowLane {
    /// Starts the thread.
    pub fn start(core: usize) -> std::io::Result<Self> {
        let (turns, taken) = channel();
        let at_work = Arc::new(AtWork::default());
        std::thread::Builder::new().name(format!("stile-lane-{core}")).spawn({
            let at_work = at_work.clone();
            move || take(&taken, &at_work)
        })?;
        Ok(Self { turns, at_work })
    }

    /// Has a guest run until it ends; from its first slice on if it `begins_here`. `None` where it waits beyond its deadline.
    ///
    /// Whoever drops the future of a guest that has a turn right now waits for the end of the slice. The future must not be
    /// leaked while it is under way: the guest borrows what is around it.
    pub async fn run<T: Send + 'static>(
        &self,
        slice: &Slice,
        begins_here: bool,
        deadline: Instant,
        guest: impl Future<Output = T> + Send,
        held: &mut Held,
    ) -> Option<T> {
        let mut guest = pin!(guest);
        if !begins_here {
            let first = poll_fn(|cx| {
                let begun = slice.begin();
                let polled = guest.as_mut().poll(cx);
                held.core |= begun.elapsed() > LONG;
                match polled {
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                    Poll::Pending if slice.is_over() => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            });
            if let Some(answer) = until(deadline, first).await? {
                return Some(answer);
            }
        }
        // Boxed: on the path of a short call it would only make every request's future larger.
        let ended = Box::pin(self.visit(slice, deadline, guest)).await;
        held.lane = ended.as_ref().is_none_or(|(_, was_long)| *was_long);
        ended.map(|(answer, _)| answer)
    }

    /// Has a guest go on in the lane.
    async fn visit<T: Send + 'static>(
        &self,
        slice: &Slice,
        deadline: Instant,
        guest: Pin<&mut (impl Future<Output = T> + Send)>,
    ) -> Option<(T, bool)> {
        let visit = self.at_work.visits.fetch_add(1, Ordering::Relaxed);
        let turns = self.turns.clone();
        let schedule = move |runnable| drop(turns.send(Turn { visit, runnable }));
        let guest = Visitor { guest, slice, runtime: Handle::current(), was_long: false };
        // Before the task, so that it is dropped after it.
        let _left = Left { at_work: &self.at_work, visit };
        // SAFETY: the guest is `Send`. What it borrows is there whenever it is polled: when this future goes, the task is
        // dropped, which closes it, so that no turn that begins later polls it, and then `_left` waits for the turn that
        // began before. A turn that finds it closed drops a pinned reference and a handle, which touches nothing borrowed.
        #[expect(unsafe_code, reason = "see above")]
        let (runnable, task) = unsafe { Builder::new().propagate_panic(true).spawn_unchecked(|()| guest, schedule) };
        let mut task = task.fallible();
        runnable.schedule();
        if let Ok(ended) = tokio::time::timeout_at(deadline.into(), &mut task).await {
            return ended;
        }
        // A guest at work is ended by its next tick.
        let mut cancelled = pin!(task.cancel());
        let ended = poll_fn(|cx| match cancelled.as_mut().poll(cx) {
            Poll::Pending if !self.at_work.is(visit) => Poll::Ready(None),
            polled => polled,
        });
        ended.await
    }
}

/// A guest in the lane, with the runtime of its core: it may wait for what that drives.
struct Visitor<'c, G> {
    guest: Pin<&'c mut G>,
    slice: &'c Slice,
    runtime: Handle,
    was_long: bool,
}

impl<G: Future> Future for Visitor<'_, G> {
    type Output = (G::Output, bool);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let _entered = this.runtime.enter();
        this.slice.begin();
        let begun = time_at_work();
        let polled = this.guest.as_mut().poll(cx);
        this.was_long |= time_at_work().saturating_sub(begun) > LONG;
        polled.map(|answer| (answer, this.was_long))
    }
}

/// Waits, when dropped, until the lane has left the visit.
struct Left<'l> {
    at_work: &'l AtWork,
    visit: u64,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let mut at_work = self.at_work.visit();
        while *at_work == Some(self.visit) {
            at_work = self.at_work.changed.wait(at_work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl AtWork {
    fn visit(&self) -> MutexGuard<'_, Option<u64>> {
        self.visit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, visit: u64) -> bool {
        *self.visit() == Some(visit)
    }
}

/// Takes turns, in the order of their coming, until nobody can come any more.
fn take(turns: &Receiver<Turn>, at_work: &AtWork) {
    // On Linux this is the thread's own. What fails here, costs others some time.
    let _ = rustix::process::setpriority_process(None, NICE);
    while let Ok(Turn { visit, runnable }) = turns.recv() {
        *at_work.visit() = Some(visit);
        runnable.run();
        *at_work.visit() = None;
        at_work.changed.notify_all();
    }
}

/// The time that this thread has worked, whatever else ran meanwhile.
fn time_at_work() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The slice that a call has, which ticks end.
#[derive(Debug, Clone)]
pub struct Slice(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    begun: Mutex<Instant>,
    is_over: AtomicBool,
}

impl Default for Slice {
    fn default() -> Self {
        Self(Arc::new(Shared { begun: Mutex::new(Instant::now()), is_over: AtomicBool::new(false) }))
    }
}

impl Slice {
    /// A slice begins with each poll.
    fn begin(&self) -> Instant {
        let now = Instant::now();
        *self.begun() = now;
        self.0.is_over.store(false, Ordering::Relaxed);
        now
    }

    fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }

    /// Ends it at a tick, unless the guest waited until just now. Others then have their turn.
    pub fn end(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        if self.begun().elapsed() < SLICE_MIN {
            return None;
        }
        self.0.is_over.store(true, Ordering::Relaxed);
        let mut gave_way = false;
        Some(Box::pin(poll_fn(move |cx| {
            if std::mem::replace(&mut gave_way, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })))
    }

    fn begun(&self) -> MutexGuard<'_, Instant> {
        self.0.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of the last calls held a core or the lane for long, one bit each.
#[derive(Debug, Default)]
pub struct Habit(AtomicU8);

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

/// Waits for a guest until its deadline. The timer is made when the guest first waits: most never do.
pub(super) async fn until<T>(deadline: Instant, guest: impl Future<Output = T>) -> Option<T> {
    let mut guest = pin!(guest);
    let first = poll_fn(|cx| {
        Poll::Ready(match guest.as_mut().poll(cx) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        })
    });
    if let Some(answer) = first.await {
        return Some(answer);
    }
    tokio::time::timeout_at(deadline.into(), guest).await.ok()
}

/// Two ticks: what a slice takes, and as much for a tick that came late.
const LONG: Duration = Duration::from_millis(1);
/// Half a tick: a guest that waited has not had less in the mean.
const SLICE_MIN: Duration = Duration::from_micros(250);
/// Of eight calls; each has its `init` as one of them where instances are not reused.
const HABIT_MIN: u32 = 3;
/// Cores come first.
const NICE: i32 = 5;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::Notify;

    use super::*;

    const LATER: Duration = Duration::from_secs(10);

    fn deadline() -> Instant {
        Instant::now() + LATER
    }

    fn is_in_lane() -> bool {
        std::thread::current().name() == Some("stile-lane-7")
    }

    fn hold(time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    /// Computes until a tick ends the slice.
    async fn compute(slice: &Slice) {
        hold(SLICE_MIN);
        slice.end().unwrap().await;
    }

    #[tokio::test]
    async fn a_guest_goes_on_in_the_lane_when_its_slice_is_over() {
        let (lane, slice, mut held) = (SlowLane::start(7).unwrap(), Slice::default(), Held::default());
        let guest = async {
            assert!(slice.end().is_none(), "it has just begun");
            assert!(!is_in_lane());
            compute(&slice).await;
            assert!(is_in_lane());
            // It waits for what its core's runtime drives.
            tokio::time::sleep(Duration::from_millis(1)).await;
            is_in_lane()
        };
        assert_eq!(lane.run(&slice, false, deadline(), guest, &mut held).await, Some(true));
        assert_eq!(held, Held::default());
        let guest = async { is_in_lane() };
        assert_eq!(lane.run(&slice, true, deadline(), guest, &mut held).await, Some(true));
    }

    #[tokio::test]
    async fn what_holds_the_lane_does_not_hold_the_core() {
        let (lane, slice, mut held) = (SlowLane::start(7).unwrap(), Slice::default(), Held::default());
        let (core_worked, sees) = mpsc::channel();
        let guest = async move {
            hold(2 * LONG);
            sees.recv_timeout(LATER).is_ok()
        };
        let core = async {
            tokio::task::yield_now().await;
            core_worked.send(()).unwrap();
        };
        let (saw, ()) = tokio::join!(lane.run(&slice, true, deadline(), guest, &mut held), core);
        assert_eq!(saw, Some(true));
        assert_eq!(held, Held { core: false, lane: true });

        let guest = async { hold(2 * LONG) };
        lane.run(&slice, false, deadline(), guest, &mut held).await.unwrap();
        assert!(held.core);
    }

    #[tokio::test]
    async fn guests_in_the_lane_take_turns() {
        let (lane, first, second) = (SlowLane::start(7).unwrap(), Slice::default(), Slice::default());
        let (mut held, mut other) = (Held::default(), Held::default());
        let is_done = AtomicBool::new(false);
        let waits = async {
            while !is_done.load(Ordering::Relaxed) {
                compute(&first).await;
            }
        };
        let does = async {
            compute(&second).await;
            is_done.store(true, Ordering::Relaxed);
        };
        let (waited, did) = tokio::join!(
            lane.run(&first, true, deadline(), waits, &mut held),
            lane.run(&second, true, deadline(), does, &mut other)
        );
        assert_eq!((waited, did), (Some(()), Some(())));
    }

    #[tokio::test]
    async fn a_guest_that_waits_is_left_at_its_deadline_and_keeps_nobody() {
        let (lane, slice, mut held) = (SlowLane::start(7).unwrap(), Slice::default(), Held::default());
        for begins_here in [false, true] {
            let soon = Instant::now() + Duration::from_millis(1);
            let waits = std::future::pending::<()>();
            assert_eq!(lane.run(&slice, begins_here, soon, waits, &mut held).await, None);
            assert_eq!(lane.run(&slice, true, deadline(), async {}, &mut held).await, Some(()));
        }
    }

    #[tokio::test]
    async fn a_guest_that_works_at_its_deadline_ends_its_slice() {
        let (lane, slice, mut held) = (SlowLane::start(7).unwrap(), Slice::default(), Held::default());
        let (has_begun, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
        let works = async {
            has_begun.store(true, Ordering::Relaxed);
            hold(Duration::from_millis(10));
            is_done.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        };
        let soon = Instant::now() + Duration::from_millis(1);
        assert_eq!(lane.run(&slice, true, soon, works, &mut held).await, None);
        assert_eq!(has_begun.load(Ordering::Relaxed), is_done.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn whoever_drops_a_guest_at_work_waits_for_it() {
        let (lane, slice, mut held) = (SlowLane::start(7).unwrap(), Slice::default(), Held::default());
        let (is_done, is_at_work) = (AtomicBool::new(false), Notify::new());
        let works = async {
            is_at_work.notify_one();
            hold(Duration::from_millis(10));
            is_done.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = lane.run(&slice, true, deadline(), works, &mut held) => panic!("it waits for ever"),
            () = is_at_work.notified() => {}
        }
        assert!(is_done.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_panic_in_the_lane_is_its_callers() {
        let (lane, slice) = (SlowLane::start(7).unwrap(), Slice::default());
        let panics = tokio::spawn({
            let (lane, slice) = (lane.clone(), slice.clone());
            async move {
                let guest = async { panic!("in the lane") };
                lane.run::<()>(&slice, true, deadline(), guest, &mut Held::default()).await
            }
        });
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(lane.run(&slice, true, deadline(), async { 1 }, &mut Held::default()).await, Some(1));
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
