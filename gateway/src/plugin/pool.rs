//! Instances: made fresh for a call, or kept for the next one of the same API and configuration.
//!
//! A guest that failed, or whose call was dropped half-way, cannot be entered again. That follows from ownership: only
//! `Lease::finish` puts an instance back; dropping a lease throws its instance away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use wasmtime::Store;
use wasmtime::component::Instance;

use super::call::{self, Place};
use super::failure::CallError;
use super::host::{Host, Identity, Loopback, Outlet};
use super::lane::{Account, Habit, SlowLane};
use super::load::Generation;
use super::reclaim::Room;
use crate::model::edit_rules::EditRules;
use crate::model::plugin::{FailureKind, Isolation};

/// The instances of one plugin in one API with one configuration.
pub struct Pool {
    generation: Arc<Generation>,
    identity: Arc<Identity>,
    config: String,
    cores: Vec<Core>,
    counters: Arc<Counters>,
}

/// What a pool has on one core.
#[derive(Default)]
struct Core {
    /// Idle instances, where instances are reused. The lock is never contended.
    idle: Mutex<Vec<Live>>,
    habit: Habit,
}

/// How instances came and went. All pools share one, so that what an old pool counted is not lost with it.
#[derive(Debug, Default)]
pub struct Counters {
    /// Made.
    pub made: AtomicU64,
    /// Used again.
    pub reused: AtomicU64,
    /// Retired because of their calls or memory.
    pub retired: AtomicU64,
    /// Thrown away after a failure or a dropped call.
    pub discarded: AtomicU64,
    /// Times that a guest held a core for long in one piece.
    pub held: AtomicU64,
}

/// An instance with what it needs to run.
struct Live {
    room: Room,
    instance: Instance,
    calls: u64,
}

/// An instance on loan from its pool.
pub struct Lease<'p> {
    pool: &'p Pool,
    worker: usize,
    live: Option<Live>,
    /// How long the lease took: waiting and making.
    pub waited: Duration,
    _concurrency: OwnedSemaphorePermit,
}

/// What a worker's calls share.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Its number, below the number of workers.
    pub index: usize,
    /// Its lane for slow calls; `None` where nobody else wants the core.
    pub lane: Option<SlowLane>,
    /// Its way out for requests of plugins; `None` where there is no network.
    pub outlet: Option<Outlet>,
    /// Its way back in, for calls of plugins to APIs; `None` where nobody answers them.
    pub loopback: Option<Loopback>,
}

impl Pool {
    /// An empty pool.
    pub fn new(
        generation: Arc<Generation>,
        identity: Arc<Identity>,
        config: String,
        workers: usize,
        counters: Arc<Counters>,
    ) -> Self {
        let cores = (0..workers.max(1)).map(|_| Core::default()).collect();
        Self { generation, identity, config, cores, counters }
    }

    /// The version of the plugin.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Who calls with its instances.
    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// The configuration, as JSON text.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// What changes of sessions may leave.
    pub fn edit_rules(&self) -> &Arc<EditRules> {
        &self.identity.sessions.rules
    }

    /// Idle instances, of all workers.
    pub fn idle(&self) -> usize {
        self.cores.iter().map(|core| core.idle().len()).sum()
    }

    /// Where the next call runs.
    pub(super) fn place<'p>(&'p self, worker: &'p Worker) -> Place<'p> {
        let (Some(lane), Some(core)) = (&worker.lane, self.cores.get(worker.index)) else { return Place::Alone };
        let plugin = Arc::as_ptr(&self.generation).addr();
        Place::Core(lane, Account { plugin, habit: &core.habit, held: &self.counters.held })
    }

    /// Makes one instance, and no use of it: whether `init` takes the configuration.
    pub async fn try_first_instance(&self) -> Result<(), CallError> {
        let worker = Worker { index: 0, lane: None, outlet: None, loopback: None };
        let deadline = Instant::now() + self.generation.limits.deadline;
        self.lease(&worker, deadline).await.map(Lease::retire)
    }

    /// Takes an idle instance, or makes one. Waits for a place at most `instance_wait`.
    pub(super) async fn lease(&self, worker: &Worker, deadline: Instant) -> Result<Lease<'_>, CallError> {
        let begin = Instant::now();
        let limits = &self.generation.limits;
        let wait_until = (begin + limits.instance_wait).min(deadline);
        let concurrency =
            permit(&self.generation.concurrency, wait_until, "`concurrency_max` calls are running").await?;
        let idle = self.cores.get(worker.index).and_then(|core| core.idle().pop());
        let live = match idle {
            Some(live) => {
                self.counters.reused.fetch_add(1, Ordering::Relaxed);
                live
            }
            None => {
                let slots = self.generation.engine.slots();
                let slot =
                    permit(slots, wait_until, "all instances of the gateway are in use (`runtime.instances_max`)")
                        .await?;
                // Boxed: on the path of a reused instance it would only make every request's future larger.
                let making = Box::pin(call::instantiate(self, worker, slot, deadline));
                let (room, instance) = making.await?;
                self.counters.made.fetch_add(1, Ordering::Relaxed);
                Live { room, instance, calls: 0 }
            }
        };
        let waited = begin.elapsed();
        Ok(Lease { pool: self, worker: worker.index, live: Some(live), waited, _concurrency: concurrency })
    }

    fn put_back(&self, mut live: Live, worker: usize) {
        live.calls += 1;
        let memory_bytes = live.room.memory_bytes();
        let Isolation::Reuse { calls_max, memory_high_water_bytes } = self.generation.spec.isolation else { return };
        if live.calls >= calls_max || memory_bytes > memory_high_water_bytes {
            self.counters.retired.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Idle instances leave a quarter of all slots to others, which would wait for them in vain.
        let (slots, in_use) = self.generation.engine.slots_in_use();
        if slots.saturating_sub(in_use) < (slots / 4).max(1) {
            self.counters.retired.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Some(core) = self.cores.get(worker) {
            core.idle().push(live);
        }
    }
}

impl Core {
    fn idle(&self) -> MutexGuard<'_, Vec<Live>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// The instance and its store.
    pub(super) fn parts(&mut self) -> Option<(&mut Store<Host>, &Instance)> {
        self.live.as_mut().and_then(|live| Some((live.room.store()?, &live.instance)))
    }

    /// Lets the instance go, though nothing went wrong.
    fn retire(mut self) {
        self.live = None;
    }

    /// Ends a call that went well. Only this gives the instance back.
    pub(super) fn finish(mut self) {
        if let Some(live) = self.live.take() {
            self.pool.put_back(live, self.worker);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.live.is_some() {
            self.pool.counters.discarded.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A permit, waited for until then at most.
async fn permit(of: &Arc<Semaphore>, until: Instant, all_taken: &str) -> Result<OwnedSemaphorePermit, CallError> {
    let busy = || CallError::new(FailureKind::Busy, all_taken);
    match of.clone().try_acquire_owned() {
        Ok(permit) => Ok(permit),
        Err(TryAcquireError::Closed) => Err(busy()),
        Err(TryAcquireError::NoPermits) => {
            let waited = tokio::time::timeout_at(until.into(), of.clone().acquire_owned()).await;
            waited.ok().and_then(Result::ok).ok_or_else(busy)
        }
    }
}
