//! One call for all who want the same thing at the same time, and what is remembered of those who were refused.
//!
//! Neither knows what it is used for. Both are bounded and shared by all cores.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Calls in flight, by key: the first caller makes the call, those who come meanwhile get a copy of its value.
///
/// It works across threads and runtimes, and the call itself need not be `Send`. A caller that is dropped half-way leaves
/// its turn to the next one. Whoever comes after the end makes a new call: a call that fills a cache looks into it first.
#[derive(Debug)]
pub struct Flight<K, V> {
    slots: Mutex<HashMap<K, Shared<V>>>,
    keys_max: usize,
    callers_max: usize,
}

/// The value, once it is there. Whoever holds the lock makes it; `tokio` hands the lock on in the order of asking.
type Slot<V> = tokio::sync::Mutex<Option<V>>;

#[derive(Debug)]
struct Shared<V> {
    slot: Arc<Slot<V>>,
    /// At least one.
    callers: usize,
}

/// Too many keys are in flight, or too many callers wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many calls are in flight")]
pub struct FlightFull;

impl<K: Hash + Eq + Clone, V: Clone> Flight<K, V> {
    /// A flight for so many keys at one time, and so many callers of each, the first one included.
    pub fn new(keys_max: usize, callers_max: usize) -> Self {
        Self { slots: Mutex::default(), keys_max: keys_max.max(1), callers_max: callers_max.max(1) }
    }

    /// Gives the value of `call`, called by this caller or by another one of the same key that came before.
    ///
    /// # Errors
    /// It is full; nothing was called.
    pub async fn run(&self, key: &K, call: impl AsyncFnOnce() -> V) -> Result<V, FlightFull> {
        let seat = self.seat(key)?;
        let mut value = seat.slot.lock().await;
        if let Some(value) = value.as_ref() {
            return Ok(value.clone());
        }
        let made = call().await;
        *value = Some(made.clone());
        // From here on a caller begins anew; those who wait have the slot in hand.
        seat.retire();
        Ok(made)
    }

    /// Callers of all keys at this moment.
    pub fn callers(&self) -> usize {
        self.slots().values().map(|shared| shared.callers).sum()
    }

    /// Keys at this moment.
    pub fn keys(&self) -> usize {
        self.slots().len()
    }

    fn seat(&self, key: &K) -> Result<Seat<'_, K, V>, FlightFull> {
        let mut slots = self.slots();
        let is_full = slots.len() >= self.keys_max;
        let slot = match slots.get_mut(key) {
            Some(shared) if shared.callers >= self.callers_max => return Err(FlightFull),
            Some(shared) => {
                shared.callers += 1;
                Arc::clone(&shared.slot)
            }
            None if is_full => return Err(FlightFull),
            None => {
                let slot = Arc::default();
                slots.insert(key.clone(), Shared { slot: Arc::clone(&slot), callers: 1 });
                slot
            }
        };
        Ok(Seat { flight: self, key: key.clone(), slot })
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<K, Shared<V>>> {
        // Nothing between taking and giving it back leaves the map half changed.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller's place. Its end, whichever, takes the key away with the last caller.
struct Seat<'f, K: Hash + Eq + Clone, V: Clone> {
    flight: &'f Flight<K, V>,
    key: K,
    slot: Arc<Slot<V>>,
}

impl<K: Hash + Eq + Clone, V: Clone> Seat<'_, K, V> {
    /// Lets the next caller begin anew.
    fn retire(&self) {
        self.leave(|_| 0);
    }

    /// Changes how many callers there are, where the key is still this one's.
    fn leave(&self, callers: impl FnOnce(usize) -> usize) {
        let mut slots = self.flight.slots();
        let Some(shared) = slots.get_mut(&self.key).filter(|shared| Arc::ptr_eq(&shared.slot, &self.slot)) else {
            return;
        };
        shared.callers = callers(shared.callers);
        if shared.callers == 0 {
            slots.remove(&self.key);
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        self.leave(|callers| callers.saturating_sub(1));
    }
}

/// Refusals by key, each for a while. When it is full the oldest goes: its caller is asked about again.
#[derive(Debug)]
pub struct Refusals<K, R> {
    inner: Mutex<Remembered<K, R>>,
    max: usize,
    life_ms: u64,
    evicted: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Remembered<K, R> {
    by_key: HashMap<K, Refused<R>>,
    /// Keys that are asked about, how many ask, and whether one was forgotten meanwhile: then what they hear is old.
    asked: HashMap<K, (usize, bool)>,
    /// Oldest first; an entry whose number is not its key's any more has been replaced or forgotten.
    order: VecDeque<(u64, K)>,
    next: u64,
}

#[derive(Debug)]
struct Refused<R> {
    number: u64,
    until_ms: u64,
    refusal: R,
}

impl<K: Hash + Eq + Clone, R: Clone> Refusals<K, R> {
    /// Remembers so many refusals, each so many milliseconds. Zero of either remembers none.
    pub fn new(max: usize, life_ms: u64) -> Self {
        let inner = Remembered { by_key: HashMap::new(), asked: HashMap::new(), order: VecDeque::new(), next: 0 };
        Self { inner: Mutex::new(inner), max, life_ms, evicted: Arc::default() }
    }

    /// Counts on where those before it are.
    #[must_use]
    pub fn counting_on(self, before: &Self) -> Self {
        Self { evicted: before.evicted.clone(), ..self }
    }

    /// The refusal of a key, where it is young enough.
    pub fn get(&self, key: &K, now_ms: u64) -> Option<R> {
        let inner = self.inner();
        inner.by_key.get(key).filter(|refused| refused.until_ms > now_ms).map(|refused| refused.refusal.clone())
    }

    /// Begins to ask about a key: what is heard counts only if nobody forgets the key meanwhile.
    pub fn ask<'r>(&'r self, key: &'r K) -> Asking<'r, K, R> {
        self.inner().asked.entry(key.clone()).or_default().0 += 1;
        Asking { refusals: self, key }
    }

    fn put(&self, key: &K, refusal: R, now_ms: u64) {
        if self.max == 0 || self.life_ms == 0 {
            return;
        }
        let mut inner = self.inner();
        if inner.asked.get(key).is_some_and(|(_, is_old)| *is_old) {
            return;
        }
        let number = inner.next;
        inner.next += 1;
        let refused = Refused { number, until_ms: now_ms.saturating_add(self.life_ms), refusal };
        inner.by_key.insert(key.clone(), refused);
        inner.order.push_back((number, key.clone()));
        self.evicted.fetch_add(inner.shrink(self.max, now_ms), Ordering::Relaxed);
    }

    /// Forgets a key, because it is allowed now or may be.
    pub fn forget(&self, key: &K) {
        let mut inner = self.inner();
        inner.by_key.remove(key);
        if let Some((_, is_old)) = inner.asked.get_mut(key) {
            *is_old = true;
        }
    }

    /// Forgets all, because what refused has changed.
    pub fn clear(&self) {
        let mut inner = self.inner();
        inner.by_key.clear();
        inner.order.clear();
        inner.asked.values_mut().for_each(|(_, is_old)| *is_old = true);
    }

    /// Refusals held, those that are too old among them.
    pub fn held(&self) -> usize {
        self.inner().by_key.len()
    }

    /// Refusals that went before their time, to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn inner(&self) -> MutexGuard<'_, Remembered<K, R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody asks about a key. Its end, whichever, is noted.
#[derive(Debug)]
pub struct Asking<'r, K: Hash + Eq + Clone, R: Clone> {
    refusals: &'r Refusals<K, R>,
    key: &'r K,
}

impl<K: Hash + Eq + Clone, R: Clone> Asking<'_, K, R> {
    /// Remembers that the key is refused.
    pub fn refused(self, refusal: R, now_ms: u64) {
        self.refusals.put(self.key, refusal, now_ms);
    }
}

impl<K: Hash + Eq + Clone, R: Clone> Drop for Asking<'_, K, R> {
    fn drop(&mut self) {
        let mut inner = self.refusals.inner();
        if let Some((askers, _)) = inner.asked.get_mut(self.key) {
            *askers -= 1;
            if *askers == 0 {
                inner.asked.remove(self.key);
            }
        }
    }
}

impl<K: Hash + Eq, R> Remembered<K, R> {
    /// Takes away what is at an end and, from the oldest on, what is too much; how many went before their time.
    fn shrink(&mut self, max: usize, now_ms: u64) -> u64 {
        let mut evicted = 0;
        while let Some((number, key)) = self.order.front() {
            let current = self.by_key.get(key).filter(|refused| refused.number == *number);
            let is_young = current.is_some_and(|refused| refused.until_ms > now_ms);
            // Replaced and forgotten ones wait in the order, but no longer than `max` others.
            if is_young && self.by_key.len() <= max && self.order.len() <= max.saturating_mul(2) {
                break;
            }
            if current.is_some() {
                self.by_key.remove(key);
            }
            evicted += u64::from(is_young);
            self.order.pop_front();
        }
        evicted
    }
}

#[cfg(test)]
mod tests;
