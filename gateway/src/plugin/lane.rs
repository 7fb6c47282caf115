//! The slow lane: a thread beside each core, for guests that compute for long.
//!
//! A call begins on its core. One that outlives its first slice goes on in the core's slow lane, while the core goes back to its
//! sockets. Plugins share the lane by the time that they use, and the calls of one take turns. What ends a call is its
//! deadline, not this.
//!
//! Some pieces of work no tick cuts short: an instruction that moves megabytes, pages that the kernel has to find, an answer
//! that is copied. In the lane the kernel cuts them. A plugin that holds its core in such pieces for more than its part of
//! the time begins there at once.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_task::{Builder, Runnable};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

/// A core's slow lane. Cheap to clone; its thread ends with the last one.
#[derive(Debug, Clone)]
pub struct SlowLane(Arc<Open>);

/// Closes the lane when the last way to it is gone.
#[derive(Debug)]
struct Open(Arc<Lane>);

#[derive(Debug, Default)]
struct Lane {
    turns: Mutex<Turns>,
    came: Condvar,
    left: Condvar,
}

/// Who waits, and who is at work.
#[derive(Debug, Default)]
struct Turns {
    plugins: Vec<Waiting>,
    /// What the plugin had used that came last: whoever comes now has used as much.
    clock: Duration,
    at_work: Option<AtWork>,
    visits: u64,
    is_closed: bool,
}

/// What waits of one plugin, or what it still owes the others.
#[derive(Debug)]
struct Waiting {
    plugin: usize,
    used: Duration,
    turns: VecDeque<Turn>,
}

#[derive(Debug, Clone, Copy)]
struct AtWork {
    plugin: usize,
    visit: u64,
}

/// One slice of a guest.
#[derive(Debug)]
struct Turn {
    visit: u64,
    /// What the visit used, in nanoseconds.
    spent: Arc<AtomicU64>,
    runnable: Runnable,
}

/// On whose account a guest runs.
#[derive(Debug, Clone, Copy)]
pub struct Account<'p> {
    /// Which plugin it is: plugins share the lane, and not their calls.
    pub plugin: usize,
    /// How long it held the core before.
    pub habit: &'p Habit,
    /// How often guests did.
    pub held: &'p AtomicU64,
}

/// How a guest's run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// With this.
    Answer(T),
    /// It waited, or worked, beyond its deadline.
    Late,
    /// Other plugins had the lane for most of the time until its deadline.
    Crowded,
}

impl SlowLane {
    /// Starts the thread.
    pub fn start(core: usize) -> std::io::Result<Self> {
        let lane = Arc::new(Lane::default());
        std::thread::Builder::new().name(format!("stile-lane-{core}")).spawn({
            let lane = lane.clone();
            move || lane.work()
        })?;
        Ok(Self(Arc::new(Open(lane))))
    }

    /// Has a guest run until it ends or is late: on this core, or in the lane if it holds cores for long.
    ///
    /// Whoever drops the future of a guest that has a turn right now waits for the end of the slice. The future must not be
    /// leaked while it is under way: the guest borrows what is around it.
    pub async fn run<T: Send + 'static>(
        &self,
        slice: &Slice,
        account: Account<'_>,
        deadline: Instant,
        guest: impl Future<Output = T> + Send,
    ) -> Ended<T> {
        let mut guest = pin!(guest);
        if !account.habit.is_slow() {
            let first = poll_fn(|cx| {
                let watched = account.habit.watch();
                let begun = slice.begin();
                let polled = guest.as_mut().poll(cx);
                if begun.elapsed() > LONG {
                    account.held.fetch_add(1, Ordering::Relaxed);
                    account.habit.held(watched);
                }
                match polled {
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                    Poll::Pending if slice.is_over() => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            });
            match until(deadline, first).await {
                None => return Ended::Late,
                Some(Some(answer)) => return Ended::Answer(answer),
                Some(None) => {}
            }
        }
        // Boxed: on the path of a short call it would only make every request's future larger.
        Box::pin(self.visit(slice, account.plugin, deadline, guest)).await
    }

    /// Has a guest go on in the lane.
    async fn visit<T: Send + 'static>(
        &self,
        slice: &Slice,
        plugin: usize,
        deadline: Instant,
        guest: Pin<&mut (impl Future<Output = T> + Send)>,
    ) -> Ended<T> {
        let lane = &self.0.0;
        let visit = lane.visit();
        let (begun, spent) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let schedule = {
            let (lane, spent) = (lane.clone(), spent.clone());
            move |runnable| lane.come(plugin, Turn { visit, spent: spent.clone(), runnable })
        };
        let guest = Visitor { guest, slice, runtime: Handle::current() };
        // Before the task, so that it is dropped after it.
        let _left = Left { lane, visit };
        // SAFETY: the guest is `Send`. What it borrows is there whenever it is polled: when this future goes, the task is
        // dropped, which closes it, so that no turn that begins later polls it, and then `_left` waits for the turn that
        // began before. A turn that finds it closed drops a pinned reference and a handle, which touches nothing borrowed.
        #[expect(unsafe_code, reason = "see above")]
        let (runnable, task) = unsafe { Builder::new().propagate_panic(true).spawn_unchecked(|()| guest, schedule) };
        let mut task = task.fallible();
        runnable.schedule();
        if let Ok(ended) = tokio::time::timeout_at(deadline.into(), &mut task).await {
            return ended.map_or(Ended::Late, Ended::Answer);
        }
        let had = Duration::from_nanos(spent.load(Ordering::Relaxed));
        let is_crowded = had < begun.elapsed() / OWN_PART && lane.turns().has_others(plugin, visit);
        // A guest at work is ended by its next tick.
        let mut cancelled = pin!(task.cancel());
        let ended = poll_fn(|cx| match cancelled.as_mut().poll(cx) {
            Poll::Pending if !lane.turns().is_at_work(visit) => Poll::Ready(None),
            polled => polled,
        });
        match ended.await {
            Some(answer) => Ended::Answer(answer),
            None if is_crowded => Ended::Crowded,
            None => Ended::Late,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let dropped = {
            let mut turns = self.0.turns();
            turns.is_closed = true;
            std::mem::take(&mut turns.plugins)
        };
        self.0.came.notify_all();
        drop(dropped);
    }
}

impl Lane {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of one more visit.
    fn visit(&self) -> u64 {
        let mut turns = self.turns();
        turns.visits += 1;
        turns.visits
    }

    fn come(&self, plugin: usize, turn: Turn) {
        let refused = {
            let mut turns = self.turns();
            if turns.is_closed {
                Some(turn)
            } else {
                turns.add(plugin, turn);
                None
            }
        };
        drop(refused);
        self.came.notify_one();
    }

    /// Gives turns until nobody can come any more.
    fn work(&self) {
        // On Linux this is the thread's own. What fails here, costs others some time.
        let _ = rustix::process::setpriority_process(None, NICE);
        let mut turns = self.turns();
        loop {
            if let Some((plugin, turn)) = turns.next() {
                let Turn { visit, spent, runnable } = turn;
                turns.at_work = Some(AtWork { plugin, visit });
                drop(turns);
                let done = Done { lane: self, plugin, spent, begun: time_at_work() };
                runnable.run();
                drop(done);
                turns = self.turns();
            } else if turns.is_closed {
                return;
            } else {
                turns = self.came.wait(turns).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

impl Turns {
    /// A plugin that was away has no more to its credit than one that comes for the first time.
    fn add(&mut self, plugin: usize, turn: Turn) {
        let clock = self.clock;
        match self.plugins.iter_mut().find(|waiting| waiting.plugin == plugin) {
            Some(waiting) => {
                waiting.used = waiting.used.max(clock);
                waiting.turns.push_back(turn);
            }
            None => self.plugins.push(Waiting { plugin, used: clock, turns: VecDeque::from([turn]) }),
        }
    }

    /// Of the plugin that has used the lane least, the turn that waited longest.
    fn next(&mut self) -> Option<(usize, Turn)> {
        let waiting = self.plugins.iter_mut().filter(|waiting| !waiting.turns.is_empty());
        let least = waiting.min_by_key(|waiting| waiting.used)?;
        self.clock = self.clock.max(least.used);
        Some((least.plugin, least.turns.pop_front()?))
    }

    /// Who used more than others did pays with his next turns, so it is kept until others have caught up.
    fn done(&mut self, plugin: usize, used: Duration) {
        self.at_work = None;
        let clock = self.clock;
        if let Some(waiting) = self.plugins.iter_mut().find(|waiting| waiting.plugin == plugin) {
            waiting.used += used;
        }
        self.plugins.retain(|waiting| !waiting.turns.is_empty() || waiting.used > clock);
    }

    fn take_back(&mut self, visit: u64) -> Option<Turn> {
        self.plugins.iter_mut().find_map(|waiting| {
            let at = waiting.turns.iter().position(|turn| turn.visit == visit)?;
            waiting.turns.remove(at)
        })
    }

    fn is_at_work(&self, visit: u64) -> bool {
        self.at_work.is_some_and(|at_work| at_work.visit == visit)
    }

    /// Whether a visit waits for its turn, and others work or wait for theirs.
    fn has_others(&self, plugin: usize, visit: u64) -> bool {
        let waits = self.plugins.iter().any(|waiting| waiting.turns.iter().any(|turn| turn.visit == visit));
        let other_waits = || self.plugins.iter().any(|other| other.plugin != plugin && !other.turns.is_empty());
        waits && (self.at_work.is_some_and(|at_work| at_work.plugin != plugin) || other_waits())
    }
}

/// A turn's end, however it comes.
struct Done<'l> {
    lane: &'l Lane,
    plugin: usize,
    spent: Arc<AtomicU64>,
    begun: Duration,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let used = time_at_work().saturating_sub(self.begun);
        self.spent.fetch_add(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.lane.turns().done(self.plugin, used);
        self.lane.left.notify_all();
    }
}

/// A guest in the lane, with the runtime of its core: it may wait for what that drives.
struct Visitor<'c, G> {
    guest: Pin<&'c mut G>,
    slice: &'c Slice,
    runtime: Handle,
}

impl<G: Future> Future for Visitor<'_, G> {
    type Output = G::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<G::Output> {
        let this = &mut *self;
        let _entered = this.runtime.enter();
        this.slice.begin();
        this.guest.as_mut().poll(cx)
    }
}

/// Takes a visit's turn back when dropped, or waits until the lane has left it.
struct Left<'l> {
    lane: &'l Lane,
    visit: u64,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let mut turns = self.lane.turns();
        let turn = turns.take_back(self.visit);
        while turns.is_at_work(self.visit) {
            turns = self.lane.left.wait(turns).unwrap_or_else(PoisonError::into_inner);
        }
        drop(turns);
        drop(turn);
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

/// How long a plugin held a core in pieces, which is forgiven as time goes by.
///
/// A core that was busy with something else is not the plugin's doing: after a first long piece it is watched for a while, by the
/// time that the thread itself has worked.
#[derive(Debug)]
pub struct Habit(Mutex<Debt>);

#[derive(Debug)]
struct Debt {
    held: Duration,
    at: Instant,
    watched_until: Option<Instant>,
}

impl Default for Habit {
    fn default() -> Self {
        Self(Mutex::new(Debt { held: Duration::ZERO, at: Instant::now(), watched_until: None }))
    }
}

impl Habit {
    /// Whether its calls had better begin in the lane: it held the core for more than its hundredth of the time.
    pub fn is_slow(&self) -> bool {
        let debt = self.debt();
        debt.held > DEBT_MAX && debt.left(Instant::now()) > DEBT_MAX
    }

    /// The time at work, while it is watched.
    fn watch(&self) -> Option<Duration> {
        self.debt().watched_until.filter(|until| *until > Instant::now()).map(|_| time_at_work())
    }

    /// It held the core for long in one piece, from then on if it was watched.
    fn held(&self, since: Option<Duration>) {
        let (now, mut debt) = (Instant::now(), self.debt());
        debt.held = debt.left(now);
        debt.at = now;
        debt.watched_until = Some(now + WATCH);
        if let Some(held) = since.map(|since| time_at_work().saturating_sub(since)).filter(|held| *held > LONG) {
            debt.held += held;
        }
    }

    fn debt(&self) -> MutexGuard<'_, Debt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debt {
    fn left(&self, now: Instant) -> Duration {
        self.held.saturating_sub(now.saturating_duration_since(self.at) / FORGIVEN)
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
/// What a plugin may hold a core for at once, beside its share of the time.
const DEBT_MAX: Duration = Duration::from_millis(10);
/// Of so much time, one part is forgiven.
const FORGIVEN: u32 = 100;
/// Who had less than this part of the time in the lane was not late by himself, if others were there.
const OWN_PART: u32 = 4;
/// How long a plugin is watched after a long piece.
const WATCH: Duration = Duration::from_secs(10);
/// Cores come first.
const NICE: i32 = 5;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
