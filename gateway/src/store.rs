//! What outlives a request: sessions, policies, counters of rates and quotas, values of plugins.
//!
//! A [`Store`] is one contract that memory, a file and Redis keep; `store/tests/contract.rs` is the contract in code. Keys of
//! sessions come hashed. What a record means is not known here, nor what is answered when a limit refuses.

mod backend;
mod cache;
mod counters;
mod embedded;
mod error;
mod event;
pub mod json;
pub mod kv;
mod limit;
mod memory;
mod policies;
mod policy_cache;
mod record;
mod redis;
mod sessions;
mod share;
mod window;
mod writes;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use self::backend::Backend;
pub use self::cache::{CacheNumbers, SessionCache};
use self::counters::{CounterNumbers, Counters, Taken};
pub use self::error::{OpenError, StoreError, StoreTrouble};
use self::event::Events;
pub use self::event::{Event, Listener};
use self::kv::KvNumbers;
pub use self::limit::{Allowance, Owner, QuotaState, QuotaUse, RATES_MAX, RateKey, RateState, RateUse, Take, Verdict};
pub use self::policy_cache::PolicyCache;
pub use self::record::{Cursor, Life, Page};
pub use self::sessions::{Edited, Stored, Version};
pub use self::share::{Share, ShareNumbers};
use crate::clock::Clock;
use crate::model::limit::QuotaLimit;
use crate::model::store::StoreSettings;

/// A store. Cheap to clone; clones are one store, for all cores.
///
/// Every call ends within the store's deadline. What was acknowledged is durable: sessions and policies are on disk (in the
/// file's store) or with the server (on Redis) when the call returns; of a quota at most one block counts too much after a
/// crash; rates begin anew with the process in memory and in a file. Values of plugins are in a file some time after the call;
/// after a crash each plugin finds its values as they were at one moment.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    backend: Backend,
    clock: Clock,
    events: Events,
    record_bytes_max: usize,
    /// Counts where the backend is away.
    local: Counters,
    numbers: Arc<Numbers>,
}

/// What a store has counted since it was opened.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Calls.
    pub calls: AtomicU64,
    /// Calls without an answer because the store was away.
    pub away: AtomicU64,
    /// Calls that failed for another reason.
    pub failed: AtomicU64,
    /// Of these for want of room.
    pub full: AtomicU64,
    /// Of these because a record was too large.
    pub too_large: AtomicU64,
    /// Requests counted in this process because the store was away.
    pub local: AtomicU64,
    /// Connections made to Redis.
    pub connections: AtomicU64,
    /// How often Redis was given up until a probe succeeds.
    pub circuit_opened: AtomicU64,
    /// How often the subscription to changes was lost.
    pub subscriptions_lost: AtomicU64,
    /// Values of plugins.
    pub kv: KvNumbers,
}

impl Store {
    /// Opens a store. Redis need not be there yet: calls fail until it is.
    ///
    /// # Errors
    /// The file cannot be opened, or a setting cannot be used.
    pub fn open(settings: &StoreSettings, clock: Clock) -> Result<Self, OpenError> {
        let events = Events::new();
        let numbers = Arc::new(Numbers::default());
        let backend = Backend::open(settings, &clock, &events, &numbers)?;
        Ok(Self(Arc::new(Shared {
            backend,
            clock,
            events,
            record_bytes_max: settings.limits.record_bytes_max,
            local: Counters::new(&settings.limits, None),
            numbers,
        })))
    }

    /// A store in memory, with default settings.
    pub fn in_memory(clock: Clock) -> Self {
        Self::open(&StoreSettings::default(), clock).expect("memory needs nothing that could be missing")
    }

    /// The time that it goes by.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Counts a request against its rates and quota: all of them, or none where one refuses. On Redis one round trip; in a
    /// cluster one for each owner.
    ///
    /// # Errors
    /// The store is away, or has no room for another counter.
    pub async fn take(&self, take: &Take) -> Result<Verdict, StoreError> {
        let verdict = self.counted(self.0.backend.take(take, &self.0.clock).await)?;
        if self.0.backend.may_be_away()
            && let Some(state) = verdict.quota()
        {
            self.0.local.note_quota(take, state, self.0.clock.now_ms());
        }
        Ok(verdict)
    }

    /// Counts a request in this process alone: the fall-back for a store that is away. A quota goes on from what the store
    /// said last; rates begin anew. Where the store is a file that cannot be written, rates go on as well, and what is used
    /// is written down as soon as it can be.
    ///
    /// # Errors
    /// There is no room for another counter.
    pub fn take_locally(&self, take: &Take) -> Result<Verdict, StoreError> {
        self.0.numbers.local.fetch_add(1, Ordering::Relaxed);
        if let Some(counters) = self.0.backend.counters() {
            match counters.take_unwritten(take, self.now_us())? {
                Taken::Decided(verdict) => return Ok(verdict),
                // What is in the file only is counted apart until it can be read.
                Taken::Load(ticket) => counters.not_loaded(&ticket),
                Taken::Wait(_) => {}
            }
        }
        match self.0.local.take(take, self.now_us(), &|_| false)? {
            Taken::Decided(verdict) => Ok(verdict),
            Taken::Wait(_) | Taken::Load(_) => Err(StoreError::Busy),
        }
    }

    /// What is left of a quota.
    pub async fn quota(&self, owner: &Owner, limit: &QuotaLimit) -> Result<QuotaState, StoreError> {
        self.counted(self.0.backend.quota(owner, limit, &self.0.clock).await)
    }

    /// Forgets what was used of a quota; it begins anew with the next request.
    pub async fn reset_quota(&self, owner: &Owner) -> Result<(), StoreError> {
        self.counted(self.0.backend.set_quota(owner, None, &self.0.clock).await)?;
        self.0.local.forget_quota(owner);
        Ok(())
    }

    /// Sets what remains of a quota, which goes on to its renewal.
    pub async fn set_quota_remaining(
        &self,
        owner: &Owner,
        limit: &QuotaLimit,
        remaining: u64,
    ) -> Result<(), StoreError> {
        let used = limit.max().saturating_sub(remaining);
        self.counted(self.0.backend.set_quota(owner, Some((used, limit)), &self.0.clock).await)?;
        // Without room it is not noted.
        let _ = self.0.local.set_quota_at_once(owner, Some((used, limit)), self.0.clock.now_ms());
        Ok(())
    }

    /// Has a listener told of each event at once, as long as it lives.
    pub fn listen(&self, listener: Weak<dyn Listener>) {
        self.0.events.listen(listener);
    }

    /// Events from now on, those of other gateways too.
    #[cfg(test)]
    fn subscribe(&self) -> event::Subscription {
        self.0.events.subscribe()
    }

    /// Tells every gateway of this store, this one too, to read its definitions again.
    ///
    /// # Errors
    /// The store is away.
    pub async fn announce_reload(&self) -> Result<(), StoreError> {
        self.counted(self.0.backend.announce(&Event::Reload).await)?;
        self.0.events.tell(Event::Reload);
        Ok(())
    }

    /// Goes up whenever definitions are to be read again because a gateway says so, or may have said so.
    pub fn reloads(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.events.reloads()
    }

    /// What is wrong at this moment; nothing where it answers and is heard, which memory and a file always are.
    pub fn trouble(&self) -> Option<StoreTrouble> {
        let unheard = (!self.0.events.is_whole()).then_some(StoreTrouble::Unheard);
        self.0.backend.trouble().or(unheard)
    }

    /// What was counted.
    pub fn numbers(&self) -> &Numbers {
        &self.0.numbers
    }

    /// Counters of rates and quotas held in this process.
    pub fn counters_held(&self) -> usize {
        self.0.backend.counters().map_or(0, Counters::len) + self.0.local.len()
    }

    /// Requests for which there was no room for a counter.
    pub fn counters_refused(&self) -> u64 {
        self.of_counters(|numbers| &numbers.refused)
    }

    /// Quotas whose counter left although they go on.
    pub fn counters_left(&self) -> u64 {
        self.of_counters(|numbers| &numbers.left)
    }

    /// Quotas looked for in the file.
    pub fn counters_loaded(&self) -> u64 {
        self.of_counters(|numbers| &numbers.loaded)
    }

    /// Commits of changes to the file.
    pub fn commits(&self) -> u64 {
        match &self.0.backend {
            Backend::Embedded(embedded) => embedded.commits(),
            Backend::Memory(_) | Backend::Redis(_) => 0,
        }
    }

    /// Sessions that plugins made, where they are counted in this process.
    pub fn sessions_made(&self) -> usize {
        self.0.backend.made().unwrap_or(0)
    }

    fn of_counters(&self, number: fn(&CounterNumbers) -> &AtomicU64) -> u64 {
        let all = self.0.backend.counters().into_iter().chain([&self.0.local]);
        all.map(|counters| number(counters.numbers()).load(Ordering::Relaxed)).sum()
    }

    fn now_us(&self) -> u64 {
        self.0.clock.now_ms().saturating_mul(1_000)
    }

    fn counted<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        counted(&self.0.numbers, answer)
    }
}

fn counted<T>(numbers: &Numbers, answer: Result<T, StoreError>) -> Result<T, StoreError> {
    numbers.calls.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = &answer {
        let count = if error.is_away() { &numbers.away } else { &numbers.failed };
        count.fetch_add(1, Ordering::Relaxed);
        match error {
            StoreError::Full(_) => _ = numbers.full.fetch_add(1, Ordering::Relaxed),
            StoreError::TooLarge => _ = numbers.too_large.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
    }
    answer
}

impl Verdict {
    /// The quota, where the verdict says something of it.
    pub fn quota(&self) -> Option<&QuotaState> {
        match self {
            Self::Allowed(allowance) => allowance.quota.as_ref(),
            Self::QuotaExceeded(state) => Some(state),
            Self::Limited { .. } => None,
        }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.0.backend.name())
    }
}

#[cfg(test)]
mod tests;
