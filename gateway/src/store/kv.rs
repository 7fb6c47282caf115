//! Values that plugins keep between requests, in memory.
//!
//! Each pair of API and plugin has a space of its own: no key of one names a value of another.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Clock;
use crate::model::id::{ApiId, PluginName};
use crate::model::plugin::Limits;

/// The values of all plugins.
#[derive(Debug, Clone)]
pub struct Kv(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    bytes_used: AtomicU64,
    bytes_max: u64,
    refused: AtomicU64,
    spaces: Mutex<Spaces>,
}

type Spaces = HashMap<(ApiId, PluginName), Arc<Mutex<Space>>>;

/// The values of one plugin in one API.
#[derive(Debug, Clone)]
pub struct KvSpace {
    shared: Arc<Shared>,
    space: Arc<Mutex<Space>>,
    keys_max: usize,
    key_bytes_max: usize,
    value_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Space {
    entries: HashMap<Box<str>, Entry>,
}

#[derive(Debug)]
struct Entry {
    value: Bytes,
    expires_ms: Option<u64>,
}

/// Why a value was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The key is empty or too long.
    #[error("key is empty or longer than `kv_key_bytes_max`")]
    KeyInvalid,
    /// The value is too long.
    #[error("value is longer than `kv_value_bytes_max`")]
    ValueTooLarge,
    /// The plugin has `kv_keys_max` keys, or all plugins together have `kv_bytes_max` bytes.
    #[error("no room for another value")]
    Full,
    /// The value is not a number, or the sum is out of its range.
    #[error("value is not a number, or out of its range")]
    NotANumber,
}

impl Kv {
    /// An empty store of at most so many bytes, keys and their overhead included.
    pub fn new(clock: Clock, bytes_max: u64) -> Self {
        let (bytes_used, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Self(Arc::new(Shared { clock, bytes_used, bytes_max, refused, spaces: Mutex::default() }))
    }

    /// The space of a plugin in an API; the same one for the same pair.
    pub fn space(&self, api: &ApiId, plugin: &PluginName, limits: &Limits) -> KvSpace {
        let mut spaces = self.0.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let space = spaces.entry((api.clone(), plugin.clone())).or_default().clone();
        let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        KvSpace {
            shared: self.0.clone(),
            space,
            keys_max: size(limits.kv_keys_max),
            key_bytes_max: size(limits.kv_key_bytes_max),
            value_bytes_max: size(limits.kv_value_bytes_max),
        }
    }

    /// Bytes in use, of all spaces.
    pub fn bytes_used(&self) -> u64 {
        self.0.bytes_used.load(Ordering::Relaxed)
    }

    /// How often a value was refused for want of room.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl KvSpace {
    /// The value, if there is one that has not expired.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, KvError> {
        self.check_key(key)?;
        let now = self.shared.clock.now_ms();
        Ok(self.lock().live(key, now).map(|entry| entry.value.clone()))
    }

    /// Keeps a value, for `ttl` or until it is deleted.
    pub fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), KvError> {
        self.check_key(key)?;
        let now = self.shared.clock.now_ms();
        self.insert(&mut self.lock(), key, value, expiry(now, ttl), now)
    }

    /// Deletes a value; whether there was one.
    pub fn delete(&self, key: &str) -> Result<bool, KvError> {
        self.check_key(key)?;
        let now = self.shared.clock.now_ms();
        let mut space = self.lock();
        let was_live = space.live(key, now).is_some();
        self.remove(&mut space, key);
        Ok(was_live)
    }

    /// Adds to a number, which is zero where there is none; `ttl` counts from its making. Returns the sum.
    pub fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
        self.check_key(key)?;
        let now = self.shared.clock.now_ms();
        let mut space = self.lock();
        let (before, expires_ms) = match space.live(key, now) {
            None => (0, expiry(now, ttl)),
            Some(entry) => {
                let text = std::str::from_utf8(&entry.value).map_err(|_| KvError::NotANumber)?;
                (text.parse().map_err(|_| KvError::NotANumber)?, entry.expires_ms)
            }
        };
        let sum = i64::checked_add(before, by).ok_or(KvError::NotANumber)?;
        self.insert(&mut space, key, sum.to_string().into(), expires_ms, now)?;
        Ok(sum)
    }

    /// Writes `value` if the value is still `expected`; whether it was written.
    pub fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<bool, KvError> {
        self.check_key(key)?;
        let now = self.shared.clock.now_ms();
        let mut space = self.lock();
        if space.live(key, now).map(|entry| &entry.value[..]) != expected {
            return Ok(false);
        }
        self.insert(&mut space, key, value, expiry(now, ttl), now)?;
        Ok(true)
    }

    fn check_key(&self, key: &str) -> Result<(), KvError> {
        if key.is_empty() || key.len() > self.key_bytes_max { Err(KvError::KeyInvalid) } else { Ok(()) }
    }

    fn insert(
        &self,
        space: &mut Space,
        key: &str,
        value: Bytes,
        expires_ms: Option<u64>,
        now: u64,
    ) -> Result<(), KvError> {
        if value.len() > self.value_bytes_max {
            return Err(KvError::ValueTooLarge);
        }
        if !space.entries.contains_key(key) && space.entries.len() >= self.keys_max {
            self.drop_expired(space, now);
            if space.entries.len() >= self.keys_max {
                return Err(self.full());
            }
        }
        let before = space.entries.get(key).map_or(0, |entry| cost(key, &entry.value));
        let after = cost(key, &value);
        if !self.resize(before, after) {
            self.drop_expired(space, now);
            self.drop_expired_elsewhere(now);
            let before = space.entries.get(key).map_or(0, |entry| cost(key, &entry.value));
            if !self.resize(before, after) {
                return Err(self.full());
            }
        }
        space.entries.insert(key.into(), Entry { value, expires_ms });
        Ok(())
    }

    /// Takes the difference from the budget of all plugins, if there is room.
    fn resize(&self, before: u64, after: u64) -> bool {
        let fits = |used: u64| {
            let sum = used.saturating_sub(before).saturating_add(after);
            (sum <= self.shared.bytes_max || after <= before).then_some(sum)
        };
        self.shared.bytes_used.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn remove(&self, space: &mut Space, key: &str) {
        if let Some(entry) = space.entries.remove(key) {
            self.shared.bytes_used.fetch_sub(cost(key, &entry.value), Ordering::Relaxed);
        }
    }

    fn drop_expired(&self, space: &mut Space, now: u64) {
        let mut freed = 0;
        space.entries.retain(|key, entry| {
            let is_live = entry.is_live(now);
            freed += if is_live { 0 } else { cost(key, &entry.value) };
            is_live
        });
        self.shared.bytes_used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// What expired in other spaces must not keep this one out. A space that is in use is left for another time: two that
    /// waited for each other would wait for ever.
    fn drop_expired_elsewhere(&self, now: u64) {
        let spaces = self.shared.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        for space in spaces.values() {
            if let Ok(mut space) = space.try_lock() {
                self.drop_expired(&mut space, now);
            }
        }
    }

    fn full(&self) -> KvError {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
        KvError::Full
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Space> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Space {
    fn live(&self, key: &str, now: u64) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.is_live(now))
    }
}

impl Entry {
    fn is_live(&self, now: u64) -> bool {
        self.expires_ms.is_none_or(|expires| expires > now)
    }
}

fn expiry(now: u64, ttl: Option<Duration>) -> Option<u64> {
    ttl.map(|ttl| now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)))
}

/// What an entry takes, its place in the map included.
fn cost(key: &str, value: &Bytes) -> u64 {
    const OVERHEAD_BYTES: usize = 128;
    u64::try_from(key.len() + value.len() + OVERHEAD_BYTES).unwrap_or(u64::MAX)
}
