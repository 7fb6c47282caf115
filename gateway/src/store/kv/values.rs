//! Values of plugins in this process: all there is of them in memory, and what a file's store writes down behind.
//!
//! A changed key is noted until the file has it. Whoever writes takes all that changed in a space at one moment, so the file
//! has each plugin's values as they were at one time.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use bytes::Bytes;

use super::{KvError, KvLimit, KvLimits, OVERHEAD_BYTES, is_above};
use crate::clock::Clock;
use crate::store::record::Entry;

/// The values of all plugins.
pub(in crate::store) struct Values {
    clock: Clock,
    bytes_used: AtomicU64,
    bytes_max: u64,
    spaces: Mutex<HashMap<Box<str>, Arc<Space>>>,
    /// With a file.
    journal: Option<Journal>,
}

/// What is still to be written.
#[derive(Default)]
struct Journal {
    /// Whether there is something.
    is_changed: AtomicBool,
    /// Tells who writes, once for all that changes until it is taken.
    wake: Mutex<Option<Box<dyn Fn() + Send>>>,
    writes_failed: AtomicU64,
}

/// The values of one plugin in one API.
struct Space {
    name: Box<str>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Box<str>, Value>,
    bytes: u64,
    /// No entry ends before.
    first_end_ms: Option<u64>,
    /// Keys whose entry, or want of one, the file does not have yet.
    unwritten: HashSet<Box<str>>,
}

struct Value {
    entry: Entry,
    /// Whether the file may have a row of this key.
    is_in_file: bool,
}

/// A space in use, with its limits. A space that nobody holds goes when its room is needed.
#[derive(Clone)]
pub(in crate::store) struct Held {
    values: Arc<Values>,
    space: Arc<Space>,
    limits: KvLimits,
}

/// What changed in one space since it was written last.
pub(in crate::store) struct Changes {
    space: Arc<Space>,
    /// The entry of each key, or that there is none.
    pub(in crate::store) rows: Vec<(Box<str>, Option<Entry>)>,
}

impl Values {
    /// An empty store of at most so many bytes, keys and their overhead included.
    pub(in crate::store) fn new(clock: Clock, bytes_max: u64) -> Self {
        Self { clock, bytes_used: AtomicU64::new(0), bytes_max, spaces: Mutex::default(), journal: None }
    }

    /// One that notes what is to be written.
    pub(in crate::store) fn journaled(clock: Clock, bytes_max: u64) -> Self {
        Self { journal: Some(Journal::default()), ..Self::new(clock, bytes_max) }
    }

    /// The space of this name.
    pub(in crate::store) fn space(self: &Arc<Self>, name: &str, limits: KvLimits) -> Held {
        let mut spaces = self.spaces();
        // One that is locked is in use: who waited for it here could wait for one who waits for this lock.
        spaces.retain(|_, space| space.is_held() || space.try_lock().is_none_or(|inner| !inner.is_idle()));
        let space = spaces.entry(name.into()).or_insert_with(|| Space::new(name)).clone();
        Held { values: self.clone(), space, limits }
    }

    /// Takes what the file has. What has ended there is to be removed.
    pub(in crate::store) fn restore(&self, space: &str, key: &str, entry: Option<Entry>) {
        let space = self.spaces().entry(space.into()).or_insert_with(|| Space::new(space)).clone();
        let mut inner = space.lock();
        match entry.filter(|entry| entry.is_live(self.clock.now_ms())) {
            Some(entry) => {
                let bytes = cost(key, &entry.value);
                self.bytes_used.fetch_add(bytes, Ordering::Relaxed);
                inner.bytes += bytes;
                inner.put(key, Value { entry, is_in_file: true });
            }
            None => self.note(&mut inner, key),
        }
    }

    /// Bytes in use, of all spaces.
    pub(in crate::store) fn bytes_used(&self) -> u64 {
        self.bytes_used.load(Ordering::Relaxed)
    }

    /// How often writing failed.
    pub(in crate::store) fn writes_failed(&self) -> u64 {
        self.journal.as_ref().map_or(0, |journal| journal.writes_failed.load(Ordering::Relaxed))
    }

    /// Has this called when there is something to write, or nothing any more.
    pub(in crate::store) fn wake_with(&self, wake: Option<Box<dyn Fn() + Send>>) {
        if let Some(journal) = &self.journal {
            *journal.wake.lock().unwrap_or_else(PoisonError::into_inner) = wake;
        }
    }

    /// Whether there is something to write.
    pub(in crate::store) fn is_changed(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.is_changed.load(Ordering::SeqCst))
    }

    /// What is to be written: whole spaces, until they have so many bytes. Whether that is all.
    pub(in crate::store) fn take_changes(&self, bytes_max: u64) -> (Vec<Changes>, bool) {
        let Some(journal) = &self.journal else { return (Vec::new(), true) };
        // First, so that what changes from now on is told again.
        journal.is_changed.store(false, Ordering::SeqCst);
        let spaces: Vec<Arc<Space>> = self.spaces().values().cloned().collect();
        let (mut taken, mut bytes) = (Vec::new(), 0_u64);
        for space in spaces {
            if bytes >= bytes_max {
                journal.is_changed.store(true, Ordering::SeqCst);
                return (taken, false);
            }
            let mut inner = space.lock();
            let keys = std::mem::take(&mut inner.unwritten);
            let mut rows = Vec::with_capacity(keys.len());
            for key in keys {
                let value = inner.entries.get_mut(&key);
                bytes += value.as_ref().map_or(OVERHEAD_BYTES, |value| cost(&key, &value.entry.value));
                let entry = value.map(|value| {
                    value.is_in_file = true;
                    value.entry.clone()
                });
                rows.push((key, entry));
            }
            drop(inner);
            if !rows.is_empty() {
                taken.push(Changes { space, rows });
            }
        }
        (taken, true)
    }

    /// Notes again what could not be written.
    pub(in crate::store) fn put_back(&self, changes: Vec<Changes>) {
        let Some(journal) = &self.journal else { return };
        journal.writes_failed.fetch_add(1, Ordering::Relaxed);
        for Changes { space, rows } in changes {
            space.lock().unwritten.extend(rows.into_iter().map(|(key, _)| key));
        }
        journal.is_changed.store(true, Ordering::SeqCst);
    }

    /// Takes the difference from the budget of all plugins, if there is room.
    fn resize(&self, before: u64, after: u64) -> bool {
        let fits = |used: u64| {
            let sum = used.saturating_sub(before).saturating_add(after);
            (sum <= self.bytes_max || after <= before).then_some(sum)
        };
        self.bytes_used.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// What expired in other spaces must not keep one out, nor what nobody holds. A space that is in use is left for another
    /// time: two that waited for each other would wait for ever.
    fn make_room(&self, now: u64, fits: impl Fn() -> bool) -> bool {
        let spaces = self.spaces();
        for space in spaces.values() {
            if let Some(mut inner) = space.try_lock() {
                self.drop_expired(&mut inner, now);
            }
        }
        if fits() {
            return true;
        }
        for space in spaces.values().filter(|space| !space.is_held()) {
            if let Some(mut inner) = space.try_lock() {
                self.drop_if(&mut inner, |_| true);
                if fits() {
                    return true;
                }
            }
        }
        false
    }

    fn drop_expired(&self, inner: &mut Inner, now: u64) {
        if inner.first_end_ms.is_some_and(|first| first <= now) {
            self.drop_if(inner, |entry| !entry.is_live(now));
        }
    }

    fn drop_if(&self, inner: &mut Inner, goes: impl Fn(&Entry) -> bool) {
        let gone: Vec<Box<str>> =
            inner.entries.iter().filter(|(_, value)| goes(&value.entry)).map(|(key, _)| key.clone()).collect();
        for key in &gone {
            self.remove(inner, key);
        }
        inner.first_end_ms = inner.entries.values().filter_map(|value| value.entry.expires_ms).min();
    }

    fn remove(&self, inner: &mut Inner, key: &str) {
        let Some(value) = inner.entries.remove(key) else { return };
        let bytes = cost(key, &value.entry.value);
        inner.bytes = inner.bytes.saturating_sub(bytes);
        self.bytes_used.fetch_sub(bytes, Ordering::Relaxed);
        if value.is_in_file {
            self.note(inner, key);
        } else {
            // Nothing to remove from the file: keys that come and go leave nothing behind.
            inner.unwritten.remove(key);
        }
    }

    /// Has the key written.
    fn note(&self, inner: &mut Inner, key: &str) {
        let Some(journal) = &self.journal else { return };
        if !inner.unwritten.contains(key) {
            inner.unwritten.insert(key.into());
        }
        let is_first = !journal.is_changed.load(Ordering::SeqCst) && !journal.is_changed.swap(true, Ordering::SeqCst);
        if is_first && let Some(wake) = &*journal.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
    }

    fn spaces(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Space>>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(super) fn get(&self, key: &str) -> Option<Bytes> {
        let now = self.values.clock.now_ms();
        self.space.lock().live(key, now).map(|entry| entry.value.clone())
    }

    pub(super) fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), KvError> {
        let now = self.values.clock.now_ms();
        self.insert(&mut self.space.lock(), key, Entry { value, expires_ms: expiry(now, ttl) }, now)
    }

    pub(super) fn delete(&self, key: &str) -> bool {
        let now = self.values.clock.now_ms();
        let mut inner = self.space.lock();
        let was_live = inner.live(key, now).is_some();
        self.values.remove(&mut inner, key);
        was_live
    }

    pub(super) fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
        let now = self.values.clock.now_ms();
        let mut inner = self.space.lock();
        let (before, expires_ms) = match inner.live(key, now) {
            None => (0, expiry(now, ttl)),
            Some(entry) => (number(&entry.value).ok_or(KvError::NotANumber)?, entry.expires_ms),
        };
        let sum = i64::checked_add(before, by).ok_or(KvError::NotANumber)?;
        let value = Bytes::from(sum.to_string());
        if is_above(value.len(), self.limits.value_bytes_max) {
            return Err(KvError::ValueTooLarge);
        }
        self.insert(&mut inner, key, Entry { value, expires_ms }, now)?;
        Ok(sum)
    }

    pub(super) fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<bool, KvError> {
        let now = self.values.clock.now_ms();
        let mut inner = self.space.lock();
        if inner.live(key, now).map(|entry| &entry.value[..]) != expected {
            return Ok(false);
        }
        self.insert(&mut inner, key, Entry { value, expires_ms: expiry(now, ttl) }, now)?;
        Ok(true)
    }

    fn insert(&self, inner: &mut Inner, key: &str, entry: Entry, now: u64) -> Result<(), KvError> {
        let (values, after) = (&self.values, cost(key, &entry.value));
        if self.full(inner, key, after).is_some() {
            values.drop_expired(inner, now);
            if let Some(limit) = self.full(inner, key, after) {
                return Err(KvError::Full(limit));
            }
        }
        let mut before = inner.cost(key);
        if !values.resize(before, after) {
            values.drop_expired(inner, now);
            before = inner.cost(key);
            if !values.make_room(now, || values.resize(before, after)) {
                return Err(KvError::Full(KvLimit::AllBytes));
            }
        }
        inner.bytes = inner.bytes.saturating_sub(before).saturating_add(after);
        let old = inner.entries.get(key).map(|old| old.is_in_file);
        // Where there is none and that is to be written, the file has one.
        let is_in_file = old.unwrap_or_else(|| inner.unwritten.contains(key));
        values.note(inner, key);
        inner.put(key, Value { entry, is_in_file });
        Ok(())
    }

    /// Which limit of the plugin an entry of so many bytes would go over.
    fn full(&self, inner: &Inner, key: &str, after: u64) -> Option<KvLimit> {
        let before = inner.cost(key);
        if before == 0 && u64::try_from(inner.entries.len()).unwrap_or(u64::MAX) >= self.limits.keys_max {
            return Some(KvLimit::Keys);
        }
        let sum = inner.bytes.saturating_sub(before).saturating_add(after);
        (after > before && sum > self.limits.bytes_max).then_some(KvLimit::Bytes)
    }
}

impl Space {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.into(), inner: Mutex::default() })
    }

    /// Whether anybody has it but the list, whose lock must be held to ask.
    fn is_held(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Inner>> {
        match self.inner.try_lock() {
            Ok(inner) => Some(inner),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Inner {
    fn live(&self, key: &str, now: u64) -> Option<&Entry> {
        self.entries.get(key).map(|value| &value.entry).filter(|entry| entry.is_live(now))
    }

    fn put(&mut self, key: &str, value: Value) {
        let end = value.entry.expires_ms;
        self.first_end_ms = self.first_end_ms.into_iter().chain(end).min();
        self.entries.insert(key.into(), value);
    }

    /// What the entry of a key takes, zero where there is none.
    fn cost(&self, key: &str) -> u64 {
        self.entries.get(key).map_or(0, |value| cost(key, &value.entry.value))
    }

    fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.unwritten.is_empty()
    }
}

impl Changes {
    /// The name of the space.
    pub(in crate::store) fn space(&self) -> &str {
        &self.space.name
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({})", self.space.name)
    }
}

fn expiry(now: u64, ttl: Option<Duration>) -> Option<u64> {
    ttl.map(|ttl| now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)))
}

/// A number as we write it, and Redis: no plus, no zeros before it.
fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.starts_with(|first: char| matches!(first, '1'..='9')) || text == "0";
    text.parse().ok().filter(|_| is_plain)
}

fn cost(key: &str, value: &Bytes) -> u64 {
    u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX).saturating_add(OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: KvLimits = KvLimits { keys_max: 100, key_bytes_max: 100, value_bytes_max: 100, bytes_max: 10_000 };

    /// What is to be written: a value, or nothing where the row goes.
    fn taken(values: &Values) -> Vec<(String, Option<Bytes>)> {
        let (changes, _) = values.take_changes(u64::MAX);
        let rows = changes.into_iter().flat_map(|changes| changes.rows);
        let mut rows: Vec<_> = rows.map(|(key, entry)| (key.to_string(), entry.map(|entry| entry.value))).collect();
        rows.sort();
        rows
    }

    #[test]
    fn what_could_not_be_written_is_written_later_as_it_is_then() {
        let values = Arc::new(Values::journaled(Clock::manual(0), 10_000));
        let held = values.space("orders/a", WIDE);
        for key in ["changed", "deleted", "same"] {
            held.set(key, Bytes::from_static(b"1"), None).expect("there is room");
        }
        let (changes, is_all) = values.take_changes(u64::MAX);
        assert!(is_all && !values.is_changed());
        held.set("changed", Bytes::from_static(b"2"), None).expect("there is room");
        held.delete("deleted");
        values.put_back(changes);
        assert!(values.is_changed());
        assert_eq!(values.writes_failed(), 1);
        let one = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let expected = [("changed", one("2")), ("deleted", None), ("same", one("1"))];
        assert_eq!(taken(&values), expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(taken(&values), []);
    }

    #[test]
    fn keys_that_come_and_go_between_two_writes_leave_nothing_to_write() {
        let values = Arc::new(Values::journaled(Clock::manual(0), 10_000));
        let held = values.space("orders/a", WIDE);
        held.increment("kept", 1, None).expect("there is room");
        taken(&values);
        for number in 0..1_000 {
            held.increment(&number.to_string(), 1, None).expect("there is room");
            held.delete(&number.to_string());
        }
        for _ in 0..3 {
            held.delete("kept");
            held.increment("kept", 1, None).expect("there is room");
        }
        held.delete("kept");
        assert_eq!(taken(&values), [("kept".to_owned(), None)]);
    }
}
