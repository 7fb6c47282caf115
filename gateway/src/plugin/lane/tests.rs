//! Who has a turn, where, and how it ends.

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

/// A plugin, and a call of it.
#[derive(Default)]
struct Plugin {
    slice: Slice,
    habit: Habit,
    held: AtomicU64,
}

impl Plugin {
    /// One that begins in the lane.
    fn slow() -> Self {
        let debt = Debt { held: LATER, at: Instant::now(), watched_until: None };
        Self { habit: Habit(Mutex::new(debt)), ..Self::default() }
    }

    fn account(&self) -> Account<'_> {
        Account { plugin: std::ptr::from_ref(self).addr(), habit: &self.habit, held: &self.held }
    }

    async fn run<T: Send + 'static>(
        &self,
        lane: &SlowLane,
        deadline: Instant,
        guest: impl Future<Output = T> + Send,
    ) -> Ended<T> {
        lane.run(&self.slice, self.account(), deadline, guest).await
    }
}

#[tokio::test]
async fn a_guest_goes_on_in_the_lane_when_its_slice_is_over() {
    let (lane, plugin) = (SlowLane::start(7).unwrap(), Plugin::default());
    let guest = async {
        assert!(!is_in_lane());
        compute(&plugin.slice).await;
        assert!(is_in_lane());
        // It waits for what its core's runtime drives.
        tokio::time::sleep(Duration::from_millis(1)).await;
        is_in_lane()
    };
    assert_eq!(plugin.run(&lane, deadline(), guest).await, Ended::Answer(true));
    assert_eq!(Plugin::slow().run(&lane, deadline(), async { is_in_lane() }).await, Ended::Answer(true));
}

#[tokio::test]
async fn what_holds_the_lane_does_not_hold_the_core() {
    let (lane, slow) = (SlowLane::start(7).unwrap(), Plugin::slow());
    let (core_worked, sees) = mpsc::channel();
    let guest = async move { sees.recv_timeout(LATER).is_ok() };
    let core = async {
        tokio::task::yield_now().await;
        core_worked.send(()).unwrap();
    };
    let (saw, ()) = tokio::join!(slow.run(&lane, deadline(), guest), core);
    assert_eq!(saw, Ended::Answer(true));
    assert_eq!(slow.held.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_plugin_that_holds_its_core_begins_in_the_lane() {
    let (lane, plugin) = (SlowLane::start(7).unwrap(), Plugin::default());
    // By its own work, and not because of what else the machine does.
    let holds = || async {
        let begun = time_at_work();
        while time_at_work() - begun < 2 * DEBT_MAX {
            std::hint::spin_loop();
        }
        is_in_lane()
    };
    // From the first such call on it is watched.
    for (held, in_lane) in [(1, false), (2, false), (2, true)] {
        // A guest whose caller leaves is noted as well: what counts is when it left the core.
        assert_eq!(plugin.run(&lane, deadline(), holds()).await, Ended::Answer(in_lane));
        assert_eq!(plugin.held.load(Ordering::Relaxed), held);
    }
    assert!(plugin.habit.is_slow());
    plugin.habit.debt().at -= 4 * DEBT_MAX * FORGIVEN;
    assert!(!plugin.habit.is_slow(), "it is forgiven with time");
}

#[tokio::test]
async fn guests_in_the_lane_take_turns() {
    let (lane, first, second) = (SlowLane::start(7).unwrap(), Plugin::slow(), Plugin::slow());
    let is_done = AtomicBool::new(false);
    let waits = async {
        while !is_done.load(Ordering::Relaxed) {
            compute(&first.slice).await;
        }
    };
    let does = async {
        compute(&second.slice).await;
        is_done.store(true, Ordering::Relaxed);
    };
    let (waited, did) = tokio::join!(first.run(&lane, deadline(), waits), second.run(&lane, deadline(), does));
    assert_eq!((waited, did), (Ended::Answer(()), Ended::Answer(())));
}

#[test]
fn plugins_share_the_lane_by_what_they_use() {
    let mut turns = Turns::default();
    let come = |turns: &mut Turns, plugin, visit| {
        let (runnable, task) = async_task::spawn(async {}, drop);
        task.detach();
        turns.add(plugin, Turn { visit, spent: Arc::default(), runnable });
    };
    let next = |turns: &mut Turns, used_ms| {
        let (plugin, turn) = turns.next().unwrap();
        turns.done(plugin, Duration::from_millis(used_ms));
        (plugin, turn.visit)
    };
    // One plugin has many calls with long pieces, the other one with short ones.
    (1..=3).for_each(|visit| come(&mut turns, 1, visit));
    come(&mut turns, 2, 4);
    assert_eq!(next(&mut turns, 30), (1, 1));
    for _ in 0..30 {
        assert!(turns.has_others(1, 2) && !turns.has_others(1, 1));
        assert_eq!(next(&mut turns, 1), (2, 4));
        come(&mut turns, 2, 4);
    }
    assert_eq!(next(&mut turns, 30), (1, 2));
    // Whoever goes away takes its debt along, and nobody saves up.
    assert_eq!(next(&mut turns, 1), (2, 4));
    assert_eq!(next(&mut turns, 30), (1, 3));
    come(&mut turns, 1, 5);
    come(&mut turns, 3, 6);
    assert_eq!(next(&mut turns, 1), (3, 6));
    assert_eq!(next(&mut turns, 0), (1, 5));
    assert!(turns.next().is_none() && turns.plugins.is_empty(), "{turns:?}");
}

#[tokio::test]
async fn a_guest_without_a_turn_until_its_deadline_was_crowded_out_by_others() {
    let (lane, holds, waits) = (SlowLane::start(7).unwrap(), Plugin::slow(), Plugin::slow());
    let (tell, is_over) = mpsc::channel::<()>();
    let held = holds.run(&lane, deadline(), async move { is_over.recv_timeout(LATER).is_ok() });
    let (held, waited) = tokio::join!(held, async {
        let soon = Instant::now() + Duration::from_millis(1);
        let waited = [waits.run(&lane, soon, async {}).await, holds.run(&lane, soon, async {}).await];
        tell.send(()).unwrap();
        waited
    });
    assert_eq!(held, Ended::Answer(true));
    assert_eq!(waited, [Ended::Crowded, Ended::Late], "its own calls are no others");
}

#[tokio::test]
async fn a_guest_that_waits_is_left_at_its_deadline_and_keeps_nobody() {
    let lane = SlowLane::start(7).unwrap();
    for plugin in [Plugin::default(), Plugin::slow()] {
        let soon = Instant::now() + Duration::from_millis(1);
        assert_eq!(plugin.run(&lane, soon, std::future::pending::<()>()).await, Ended::Late);
        assert_eq!(plugin.run(&lane, deadline(), async {}).await, Ended::Answer(()));
    }
}

#[tokio::test]
async fn a_guest_that_works_at_its_deadline_ends_its_slice() {
    let (lane, plugin) = (SlowLane::start(7).unwrap(), Plugin::slow());
    let (has_begun, is_done) = (AtomicBool::new(false), AtomicBool::new(false));
    let works = async {
        has_begun.store(true, Ordering::Relaxed);
        hold(Duration::from_millis(10));
        is_done.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    };
    let soon = Instant::now() + Duration::from_millis(1);
    assert_eq!(plugin.run(&lane, soon, works).await, Ended::Late);
    assert_eq!(has_begun.load(Ordering::Relaxed), is_done.load(Ordering::Relaxed));
}

#[tokio::test]
async fn whoever_drops_a_guest_at_work_waits_for_it() {
    let (lane, plugin) = (SlowLane::start(7).unwrap(), Plugin::slow());
    let (is_done, is_at_work) = (AtomicBool::new(false), Notify::new());
    let works = async {
        is_at_work.notify_one();
        hold(Duration::from_millis(10));
        is_done.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = plugin.run(&lane, deadline(), works) => panic!("it waits for ever"),
        () = is_at_work.notified() => {}
    }
    assert!(is_done.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_panic_in_the_lane_is_its_callers() {
    let lane = SlowLane::start(7).unwrap();
    let panics = tokio::spawn({
        let lane = lane.clone();
        async move { Plugin::slow().run::<()>(&lane, deadline(), async { panic!("in the lane") }).await }
    });
    assert!(panics.await.unwrap_err().is_panic());
    assert_eq!(Plugin::slow().run(&lane, deadline(), async { 1 }).await, Ended::Answer(1));
}
