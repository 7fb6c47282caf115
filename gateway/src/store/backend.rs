//! The one place that knows which stores there are.

use std::sync::Arc;

use super::Numbers;
use super::counters::Counters;
use super::embedded::Embedded;
use super::error::{OpenError, StoreError, StoreTrouble};
use super::event::{Event, Events};
use super::kv::values::Values;
use super::limit::{Owner, QuotaState, Take, Verdict};
use super::memory::Memory;
use super::record::{Cursor, Delete, Entry, Page, Table, Write, Written};
use super::redis::Redis;
use crate::clock::Clock;
use crate::model::limit::QuotaLimit;
use crate::model::store::{StoreKind, StoreSettings};

/// One of the stores.
pub(super) enum Backend {
    Memory(Box<Memory>),
    Embedded(Box<Embedded>),
    Redis(Box<Redis>),
}

impl Backend {
    pub(super) fn open(
        settings: &StoreSettings,
        clock: &Clock,
        events: &Events,
        numbers: &Arc<Numbers>,
    ) -> Result<Self, OpenError> {
        match &settings.kind {
            StoreKind::Memory => Ok(Self::Memory(Box::new(Memory::new(&settings.limits, clock)))),
            StoreKind::Embedded(embedded) => {
                Ok(Self::Embedded(Box::new(Embedded::open(embedded, &settings.limits, clock, events)?)))
            }
            StoreKind::Redis(redis) => {
                Ok(Self::Redis(Box::new(Redis::open(redis, &settings.limits, events, numbers)?)))
            }
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Embedded(_) => "embedded",
            Self::Redis(_) => "redis",
        }
    }

    /// Whether calls may fail because the store is elsewhere.
    pub(super) const fn may_be_away(&self) -> bool {
        match self {
            Self::Memory(_) | Self::Embedded(_) => false,
            Self::Redis(_) => true,
        }
    }

    /// Whether it is away at this moment.
    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        match self {
            Self::Memory(_) => None,
            Self::Embedded(embedded) => embedded.trouble(),
            Self::Redis(redis) => redis.trouble(),
        }
    }

    pub(super) async fn read(&self, table: Table, key: &str, clock: &Clock) -> Result<Option<Entry>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.read(table, key, clock.now_ms())),
            Self::Embedded(embedded) => embedded.read(table, key, clock.now_ms()).await,
            Self::Redis(redis) => redis.read(table, key, clock).await,
        }
    }

    pub(super) async fn write(&self, write: Write, clock: &Clock) -> Result<Written, StoreError> {
        match self {
            Self::Memory(memory) => memory.write(&write, clock.now_ms()),
            Self::Embedded(embedded) => embedded.write(write, clock.now_ms()).await,
            Self::Redis(redis) => redis.write(&write, clock).await,
        }
    }

    pub(super) async fn delete(&self, delete: Delete, clock: &Clock) -> Result<bool, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.delete(&delete, clock.now_ms())),
            Self::Embedded(embedded) => embedded.delete(delete, clock.now_ms()).await,
            Self::Redis(redis) => redis.delete(&delete).await,
        }
    }

    pub(super) async fn list(
        &self,
        table: Table,
        from: Option<&Cursor>,
        max: usize,
        clock: &Clock,
    ) -> Result<Page<String>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.list(table, from, max, clock.now_ms())),
            Self::Embedded(embedded) => embedded.list(table, from, max, clock.now_ms()).await,
            Self::Redis(redis) => redis.list(table, from, max).await,
        }
    }

    pub(super) async fn take(&self, take: &Take, clock: &Clock) -> Result<Verdict, StoreError> {
        match self {
            Self::Memory(memory) => memory.take(take, clock.now_ms().saturating_mul(1_000)),
            Self::Embedded(embedded) => embedded.take(take, clock).await,
            Self::Redis(redis) => redis.take(take, clock).await,
        }
    }

    pub(super) async fn quota(
        &self,
        owner: &Owner,
        limit: &QuotaLimit,
        clock: &Clock,
    ) -> Result<QuotaState, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.quota(owner, limit, clock.now_ms())),
            Self::Embedded(embedded) => embedded.quota(owner, limit, clock.now_ms()).await,
            Self::Redis(redis) => redis.quota(owner, limit, clock).await,
        }
    }

    pub(super) async fn set_quota(
        &self,
        owner: &Owner,
        used: Option<(u64, &QuotaLimit)>,
        clock: &Clock,
    ) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => memory.set_quota(owner, used, clock.now_ms()),
            Self::Embedded(embedded) => embedded.set_quota(owner, used, clock.now_ms()).await,
            Self::Redis(redis) => redis.set_quota(owner, used).await,
        }
    }

    /// Tells other gateways.
    pub(super) async fn announce(&self, event: &Event) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) | Self::Embedded(_) => Ok(()),
            Self::Redis(redis) => redis.announce(event).await,
        }
    }

    /// Values of plugins that are held in this process, or the server that has them.
    pub(super) fn values(&self) -> Result<&Arc<Values>, &Redis> {
        match self {
            Self::Memory(memory) => Ok(memory.values()),
            Self::Embedded(embedded) => Ok(embedded.values()),
            Self::Redis(redis) => Err(redis),
        }
    }

    /// Sessions that plugins made; nothing where they are counted elsewhere.
    pub(super) fn made(&self) -> Option<usize> {
        match self {
            Self::Memory(memory) => Some(memory.made()),
            Self::Embedded(embedded) => Some(embedded.made()),
            Self::Redis(_) => None,
        }
    }

    pub(super) fn counters(&self) -> Option<&Counters> {
        match self {
            Self::Memory(memory) => Some(memory.counters()),
            Self::Embedded(embedded) => Some(embedded.counters()),
            Self::Redis(_) => None,
        }
    }
}
