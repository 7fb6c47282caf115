//! Values of guests, kept between requests. Where the store is elsewhere, waiting for it counts for the call's deadline.

use std::time::Duration;

use super::{Host, imports};
use crate::plugin::grain;
use crate::store::kv::{KvError, KvSpace};
use imports::kv::Error;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl imports::kv::Host for Host {
    async fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        self.charge(key.len())?;
        let value = self.kv()?.get(&key).await;
        if let Ok(Some(bytes)) = &value {
            self.owe(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        Ok(value.map(|value| value.map(|bytes| bytes.to_vec())).map_err(Error::from))
    }

    async fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> Answer<()> {
        self.charge(key.len() + value.len())?;
        Ok(self.kv()?.set(&key, value.into(), self.ttl(ttl_ms)).await.map_err(Error::from))
    }

    async fn delete(&mut self, key: String) -> Answer<bool> {
        self.charge(key.len())?;
        Ok(self.kv()?.delete(&key).await.map_err(Error::from))
    }

    async fn increment(&mut self, key: String, by: i64, ttl_ms: Option<u64>) -> Answer<i64> {
        self.charge(key.len())?;
        Ok(self.kv()?.increment(&key, by, self.ttl(ttl_ms)).await.map_err(Error::from))
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Answer<bool> {
        self.charge(key.len() + value.len() + expected.as_ref().map_or(0, Vec::len))?;
        let swapped = self.kv()?.compare_and_set(&key, expected.as_deref(), value.into(), self.ttl(ttl_ms)).await;
        Ok(swapped.map_err(Error::from))
    }
}

impl Host {
    fn kv(&self) -> wasmtime::Result<&KvSpace> {
        Ok(&self.identity()?.kv)
    }

    /// A life ends where a grain of the guest's clocks begins: a value that goes away tells the time too.
    fn ttl(&self, ttl_ms: Option<u64>) -> Option<Duration> {
        ttl_ms.map(Duration::from_millis).map(|life| {
            if life.is_zero() {
                return life;
            }
            let whole = Duration::from_nanos(grain::until_end(grain::nanoseconds(life), self.limits.clock_grain));
            // Stores round down to milliseconds: the life, and the time that it is.
            whole.saturating_add(STORE_GRAIN)
        })
    }
}

impl From<KvError> for Error {
    fn from(error: KvError) -> Self {
        match error {
            KvError::KeyInvalid => Self::KeyInvalid,
            KvError::ValueTooLarge => Self::ValueTooLarge,
            KvError::Full(_) => Self::Full,
            KvError::NotANumber => Self::NotANumber,
            KvError::Unavailable => Self::Unavailable,
        }
    }
}

const STORE_GRAIN: Duration = Duration::from_millis(2);
