//! Values of plugins on Redis: one script, two keys for each space, whose names have nothing of what guests write.

use std::sync::Arc;
use std::time::Duration;

use ::redis::Value;
use bytes::Bytes;

use super::link::Link;
use super::question::{Question, Script};
use super::{LIFE_MS_MAX, Redis, spare_ms, unexpected};
use crate::clock::Clock;
use crate::model::store::RedisClock;
use crate::store::error::StoreError;
use crate::store::kv::{KvError, KvLimit, KvLimits};
use crate::store::{Numbers, counted};

/// The values of one plugin in one API, which gateways share.
pub(in crate::store) struct Shared {
    link: Arc<Link>,
    numbers: Arc<Numbers>,
    clock: RedisClock,
    time: Clock,
    values: String,
    ends: String,
    limits: KvLimits,
    /// The longest that a call may take; the store's own deadline may be shorter.
    deadline: Duration,
}

impl Redis {
    pub(in crate::store) fn kv(&self, name: &str, limits: KvLimits, deadline: Duration, time: &Clock) -> Shared {
        // The braces make one slot of a cluster hold both.
        let values = format!("{PREFIX}{{{name}}}");
        Shared {
            link: self.link.clone(),
            numbers: self.numbers.clone(),
            clock: self.clock,
            time: time.clone(),
            ends: format!("{values}-ends"),
            values,
            limits,
            deadline,
        }
    }
}

impl Shared {
    pub(in crate::store) async fn get(&self, key: &str) -> Result<Option<Bytes>, KvError> {
        match self.ask("get", true, key, None, b"", None).await? {
            (1, value) => Ok(Some(value.ok_or_else(|| failed(&unexpected()))?)),
            _ => Ok(None),
        }
    }

    pub(in crate::store) async fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), KvError> {
        self.ask("set", true, key, ttl, value, None).await.map(drop)
    }

    pub(in crate::store) async fn delete(&self, key: &str) -> Result<bool, KvError> {
        Ok(self.ask("delete", false, key, None, b"", None).await?.0 == 1)
    }

    pub(in crate::store) async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, KvError> {
        let (_, sum) = self.ask("add", false, key, ttl, by.to_string().as_bytes(), None).await?;
        let sum = sum.as_deref().and_then(|sum| std::str::from_utf8(sum).ok()?.parse().ok());
        sum.ok_or_else(|| failed(&unexpected()))
    }

    pub(in crate::store) async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<Duration>,
    ) -> Result<bool, KvError> {
        Ok(self.ask("swap", false, key, ttl, value, expected).await?.0 == 1)
    }

    /// Whether it was done, and the value or sum.
    async fn ask(
        &self,
        op: &str,
        may_repeat: bool,
        key: &str,
        ttl: Option<Duration>,
        value: &[u8],
        expected: Option<&[u8]>,
    ) -> Result<(i64, Option<Bytes>), KvError> {
        let now = match self.clock {
            RedisClock::Server => 0,
            RedisClock::Gateway => self.time.now_ms(),
        };
        let life = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).min(LIFE_MS_MAX).to_string());
        let question = Question::script(Script::Kv, may_repeat)
            .key(&self.values)
            .key(&self.ends)
            .arg(op)
            .arg(key)
            .arg(now.to_string())
            .arg(spare_ms(self.clock))
            .arg(self.limits.keys_max.to_string())
            .arg(self.limits.bytes_max.to_string())
            .arg(self.limits.value_bytes_max.to_string())
            .arg(life.unwrap_or_default())
            .arg(value)
            .arg(if expected.is_some() { "1" } else { "0" })
            .arg(expected.unwrap_or_default());
        let answer = counted(&self.numbers, self.link.ask_within(question, self.deadline).await);
        let Value::Array(parts) = answer.map_err(|error| failed(&error))? else { return Err(failed(&unexpected())) };
        let mut parts = parts.into_iter();
        let (Some(Value::Int(code)), value) = (parts.next(), parts.next()) else { return Err(failed(&unexpected())) };
        match (code, value) {
            (0 | 1, None) => Ok((code, None)),
            (1, Some(Value::BulkString(value))) => Ok((code, Some(value.into()))),
            (-1, None) => Err(KvError::Full(KvLimit::Keys)),
            (-2, None) => Err(KvError::Full(KvLimit::Bytes)),
            (-3, None) => Err(KvError::NotANumber),
            (-4, None) => Err(KvError::ValueTooLarge),
            _ => Err(failed(&unexpected())),
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({})", self.values)
    }
}

/// What a guest is told. The operator sees the reason at the level `debug`, and the count.
fn failed(error: &StoreError) -> KvError {
    match error {
        StoreError::Full(_) => KvError::Full(KvLimit::Server),
        error => {
            tracing::debug!(%error, "values of a plugin cannot be asked for");
            KvError::Unavailable
        }
    }
}

const PREFIX: &str = "stile-kv-";
