//! Sessions in memory, as long as every change of them is heard of.
//!
//! An event takes a session out before the write that caused it is answered. Age is a second line. While changes are not
//! heard, nothing is answered from here but [`SessionCache::last_known`].

mod bounded;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use self::bounded::Bounded;
use super::error::StoreError;
use super::event::{Event, Listener};
use super::{Store, Stored};
use crate::model::key::KeyHash;
use crate::model::store::CacheSettings;

/// A cache of sessions. Cheap to clone; clones are one cache, for all cores.
#[derive(Clone)]
pub struct SessionCache(Arc<Shared>);

struct Shared {
    store: Store,
    settings: CacheSettings,
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    numbers: CacheNumbers,
}

/// What a cache has counted.
#[derive(Debug, Default)]
pub struct CacheNumbers {
    /// Answers from memory.
    pub hits: AtomicU64,
    /// Reads of the store.
    pub reads: AtomicU64,
    /// Answers shared with another caller's read.
    pub shared: AtomicU64,
    /// Entries that went for want of room.
    pub evicted: AtomicU64,
}

struct Shard {
    found: Bounded<Entry>,
    absent: Bounded<Entry>,
    flights: HashMap<KeyHash, Arc<Flight>>,
    /// Entries of an earlier epoch may have changed unheard.
    epoch: u64,
}

#[derive(Clone)]
struct Entry {
    value: Option<Stored>,
    read_ms: u64,
    epoch: u64,
}

/// One read of the store, for all who ask at that time. Whoever holds the lock reads.
#[derive(Default)]
struct Flight(tokio::sync::Mutex<Option<Answer>>);

type Answer = Result<Option<Stored>, StoreError>;

impl SessionCache {
    /// An empty cache.
    pub fn new(store: &Store, settings: &CacheSettings) -> Self {
        let share = |max: usize| Bounded::new(max.div_ceil(SHARDS).max(1));
        let shard = || Shard {
            found: share(settings.entries_max),
            absent: share(settings.negative_max),
            flights: HashMap::new(),
            epoch: 0,
        };
        let shared = Arc::new(Shared {
            store: store.clone(),
            settings: settings.clone(),
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            hasher: RandomState::new(),
            numbers: CacheNumbers::default(),
        });
        let listener: Weak<dyn Listener> = Arc::downgrade(&shared) as _;
        store.0.events.listen(listener);
        Self(shared)
    }

    /// The session of a key; from memory where it is known to be as the store has it, otherwise from the store, which is
    /// asked once for all who wait.
    ///
    /// # Errors
    /// As for [`Store::session`]. Errors are not kept.
    pub async fn get(&self, key: &KeyHash) -> Result<Option<Stored>, StoreError> {
        let shared = &*self.0;
        let boarding = {
            let mut shard = shared.shard(key);
            if let Some(value) = shared.fresh(&mut shard, key) {
                shared.numbers.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(value);
            }
            let flight = shard.flights.entry(key.clone()).or_default().clone();
            Boarding { shared, key, flight: Some(flight) }
        };
        let mut answer = boarding.flight().0.lock().await;
        if let Some(answer) = &*answer {
            shared.numbers.shared.fetch_add(1, Ordering::Relaxed);
            return answer.clone();
        }
        shared.numbers.reads.fetch_add(1, Ordering::Relaxed);
        let read = shared.store.session(key).await;
        shared.land(key, boarding.flight(), &read);
        *answer = Some(read.clone());
        read
    }

    /// The store behind it, for changes.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// What was last known of a key, for use while the store is away: it may have changed since. `None` where nothing is
    /// known or it is too old, `Some(None)` where there was no session.
    pub fn last_known(&self, key: &KeyHash) -> Option<Option<Stored>> {
        let mut shard = self.0.shard(key);
        let shard = &mut *shard;
        let entry = shard.found.get(key).or_else(|| shard.absent.get(key))?;
        self.0.is_younger(entry, self.0.settings.away_age_max).then(|| {
            let now_ms = self.0.store.0.clock.now_ms();
            entry.value.clone().filter(|stored| !stored.has_ended(now_ms))
        })
    }

    /// What was counted.
    pub fn numbers(&self) -> &CacheNumbers {
        &self.0.numbers
    }

    /// Keys that are being read from the store.
    pub fn reads_under_way(&self) -> usize {
        self.0.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).flights.len()).sum()
    }

    /// Entries: keys with a session, keys without.
    pub fn len(&self) -> (usize, usize) {
        let sizes = self.0.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            (shard.found.len(), shard.absent.len())
        });
        sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }
}

impl Shared {
    /// What may be answered from memory.
    fn fresh(&self, shard: &mut Shard, key: &KeyHash) -> Option<Option<Stored>> {
        if !self.store.0.events.is_whole() {
            return None;
        }
        let epoch = shard.epoch;
        if let Some(entry) = shard.found.get(key) {
            let has_ended = entry.value.as_ref().is_some_and(|stored| stored.has_ended(self.store.0.clock.now_ms()));
            let is_fresh = !has_ended && entry.epoch == epoch && self.is_younger(entry, self.settings.age_max);
            return is_fresh.then(|| entry.value.clone());
        }
        let entry = shard.absent.get(key)?;
        (entry.epoch == epoch && self.is_younger(entry, self.settings.negative_age_max)).then_some(None)
    }

    fn is_younger(&self, entry: &Entry, age_max: Duration) -> bool {
        let age_ms = self.store.0.clock.now_ms().saturating_sub(entry.read_ms);
        u128::from(age_ms) < age_max.as_millis()
    }

    /// Keeps what was read, unless something happened to it meanwhile: then the flight is no more in its place.
    fn land(&self, key: &KeyHash, flight: &Arc<Flight>, answer: &Answer) {
        let mut shard = self.shard(key);
        if !shard.flights.get(key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            return;
        }
        shard.flights.remove(key);
        let Ok(value) = answer else { return };
        let entry = Entry { value: value.clone(), read_ms: self.store.0.clock.now_ms(), epoch: shard.epoch };
        let evicted = if value.is_some() {
            shard.absent.remove(key);
            shard.found.insert(key, entry)
        } else {
            shard.found.remove(key);
            shard.absent.insert(key, entry)
        };
        self.numbers.evicted.fetch_add(evicted, Ordering::Relaxed);
    }

    fn shard(&self, key: &KeyHash) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS_U64).unwrap_or(0);
        let shard = self.shards.get(index).expect("the index stays below SHARDS");
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Shared {
    fn told(&self, event: &Event) {
        match event {
            Event::SessionChanged(key) | Event::SessionDeleted(key) => {
                let mut shard = self.shard(key);
                shard.found.remove(key);
                shard.absent.remove(key);
                // A read under way may have read the old one.
                shard.flights.remove(key);
            }
            Event::Lost => {
                for shard in &self.shards {
                    let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                    shard.epoch += 1;
                    shard.flights.clear();
                }
            }
            Event::PolicyChanged(_) | Event::Reload => {}
        }
    }
}

/// A caller's place in a flight. The last to leave takes the flight away, whether or not it landed.
struct Boarding<'a> {
    shared: &'a Shared,
    key: &'a KeyHash,
    flight: Option<Arc<Flight>>,
}

impl Boarding<'_> {
    fn flight(&self) -> &Arc<Flight> {
        self.flight.as_ref().expect("it is taken out in `drop` only")
    }
}

impl Drop for Boarding<'_> {
    fn drop(&mut self) {
        let mut shard = self.shared.shard(self.key);
        let Some(flight) = self.flight.take() else { return };
        let is_current = shard.flights.get(self.key).is_some_and(|current| Arc::ptr_eq(current, &flight));
        // Places are taken under the lock, too: nobody can come while this looks.
        drop(flight);
        if is_current && shard.flights.get(self.key).is_some_and(|current| Arc::strong_count(current) == 1) {
            shard.flights.remove(self.key);
        }
    }
}

impl std::fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionCache({:?})", self.0.store)
    }
}

const SHARDS: usize = 16;
const SHARDS_U64: u64 = 16;
