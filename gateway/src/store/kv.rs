//! Values that plugins keep between requests, wherever the store keeps them.
//!
//! Each pair of API and plugin has a space of its own: no key of one names a value of another. Limits are the same with every
//! kind of store; what expired takes no room.

pub(super) mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use self::values::Held;
use super::redis::kv::Shared;
use super::{Numbers, Store};
use crate::model::id::{ApiId, PluginName};
use crate::model::plugin::Limits;

/// The values of one plugin in one API.
#[derive(Debug, Clone)]
pub struct KvSpace {
    place: Place,
    limits: KvLimits,
    numbers: Arc<Numbers>,
}

#[derive(Debug, Clone)]
enum Place {
    /// In this process.
    Here(Held),
    /// On Redis.
    There(Arc<Shared>),
}

/// How much a space holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct KvLimits {
    pub(super) keys_max: u64,
    pub(super) key_bytes_max: u64,
    pub(super) value_bytes_max: u64,
    /// Of keys and values with their overhead.
    pub(super) bytes_max: u64,
}

/// Why a value was not kept or not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The key is empty or too long.
    #[error("key is empty or longer than `kv_key_bytes_max`")]
    KeyInvalid,
    /// The value is too long.
    #[error("value is longer than `kv_value_bytes_max`")]
    ValueTooLarge,
    /// There is no room.
    #[error("no room for another value: {}", .0.as_str())]
    Full(KvLimit),
    /// The value is not a number, or the sum is out of its range.
    #[error("value is not a number, or out of its range")]
    NotANumber,
    /// The store is away. What was asked for may have happened all the same.
    #[error("the store does not answer")]
    Unavailable,
}

/// What has no room for another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvLimit {
    /// The plugin has as many keys as it may have.
    Keys,
    /// The plugin has as many bytes as it may have.
    Bytes,
    /// All plugins together have as many bytes as they may have in this process.
    AllBytes,
    /// The server is at its own limit.
    Server,
}

/// What was counted of values of plugins.
#[derive(Debug, Default)]
pub struct KvNumbers {
    /// Keys that are empty or too long.
    pub keys_invalid: AtomicU64,
    /// Values that are too long.
    pub values_too_large: AtomicU64,
    /// Values for which there was no room, by [`KvLimit`].
    full: [AtomicU64; KvLimit::ALL.len()],
    /// Calls without an answer because the store was away.
    pub unavailable: AtomicU64,
}

impl Store {
    /// The space of a plugin in an API; the same one for the same pair.
    pub fn kv(&self, api: &ApiId, plugin: &PluginName, limits: &Limits) -> KvSpace {
        // Names have no slash.
        let name = format!("{api}/{plugin}");
        let kept = KvLimits {
            keys_max: limits.kv_keys_max.into(),
            key_bytes_max: limits.kv_key_bytes_max.into(),
            value_bytes_max: limits.kv_value_bytes_max.into(),
            bytes_max: limits.kv_bytes_max,
        };
        let shared = &self.0;
        // Half of the call's time: a guest that hears of a store that hangs can still answer.
        let place = match shared.backend.values() {
            Ok(values) => Place::Here(values.space(&name, kept)),
            Err(redis) => Place::There(Arc::new(redis.kv(&name, kept, limits.deadline / 2, &shared.clock))),
        };
        KvSpace { place, limits: kept, numbers: shared.numbers.clone() }
    }

    /// Bytes of values that are held in this process.
    pub fn kv_bytes(&self) -> u64 {
        self.0.backend.values().map_or(0, |values| values.bytes_used())
    }

    /// How often values could not be written to the file; they are tried again.
    pub fn kv_writes_failed(&self) -> u64 {
        self.0.backend.values().map_or(0, |values| values.writes_failed())
    }
}

impl KvSpace {
    /// The value, if there is one that has not expired.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, KvError> {
        self.check_key(key)?;
        match &self.place {
            Place::Here(held) => Ok(held.get(key)),
            Place::There(shared) => self.counted(shared.get(key).await),
        }
    }

    /// Keeps a value, for `ttl` or until it is deleted.
    pub async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), KvError> {
        self.check_key(key)?;
        self.check_value(&value)?;
        self.counted(match &self.place {
            Place::Here(held) => held.set(key, value, ttl),
            Place::There(shared) => shared.set(key, &value, ttl).await,
        })
    }

    /// Deletes a value; whether there was one.
    pub async fn delete(&self, key: &str) -> Result<bool, KvError> {
        self.check_key(key)?;
        match &self.place {
            Place::Here(held) => Ok(held.delete(key)),
            Place::There(shared) => self.counted(shared.delete(key).await),
        }
    }

    /// Adds to a number, which is zero where there is none; `ttl` counts from its making. Returns the sum.
    pub async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
        self.check_key(key)?;
        self.counted(match &self.place {
            Place::Here(held) => held.increment(key, by, ttl),
            Place::There(shared) => shared.increment(key, by, ttl).await,
        })
    }

    /// Writes `value` if the value is still `expected`; whether it was written.
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<bool, KvError> {
        self.check_key(key)?;
        self.check_value(&value)?;
        self.counted(match &self.place {
            Place::Here(held) => held.compare_and_set(key, expected, value, ttl),
            Place::There(shared) => shared.compare_and_set(key, expected, &value, ttl).await,
        })
    }

    fn check_key(&self, key: &str) -> Result<(), KvError> {
        if key.is_empty() || is_above(key.len(), self.limits.key_bytes_max) {
            return self.counted(Err(KvError::KeyInvalid));
        }
        Ok(())
    }

    fn check_value(&self, value: &[u8]) -> Result<(), KvError> {
        if is_above(value.len(), self.limits.value_bytes_max) {
            return self.counted(Err(KvError::ValueTooLarge));
        }
        Ok(())
    }

    fn counted<T>(&self, answer: Result<T, KvError>) -> Result<T, KvError> {
        let numbers = &self.numbers.kv;
        let count = match answer {
            Ok(_) | Err(KvError::NotANumber) => return answer,
            Err(KvError::KeyInvalid) => &numbers.keys_invalid,
            Err(KvError::ValueTooLarge) => &numbers.values_too_large,
            Err(KvError::Full(limit)) => numbers.full(limit),
            Err(KvError::Unavailable) => &numbers.unavailable,
        };
        count.fetch_add(1, Ordering::Relaxed);
        answer
    }
}

impl KvLimit {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Keys, Self::Bytes, Self::AllBytes, Self::Server];

    /// The key of the configuration, or the server's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "kv_keys_max",
            Self::Bytes => "kv_bytes_max",
            Self::AllBytes => "runtime.kv_bytes_max",
            Self::Server => "maxmemory",
        }
    }
}

impl KvNumbers {
    /// Values for which there was no room because of this limit.
    pub const fn full(&self, limit: KvLimit) -> &AtomicU64 {
        let [keys, bytes, all_bytes, server] = &self.full;
        match limit {
            KvLimit::Keys => keys,
            KvLimit::Bytes => bytes,
            KvLimit::AllBytes => all_bytes,
            KvLimit::Server => server,
        }
    }
}

pub(super) fn is_above(len: usize, max: u64) -> bool {
    u64::try_from(len).unwrap_or(u64::MAX) > max
}

/// What an entry takes beside key and value: its place in the map.
pub(super) const OVERHEAD_BYTES: u64 = 128;
