//! The one place that knows which stores there are.

use bytes::Bytes;

use super::counters::Counters;
use super::embedded::Embedded;
use super::error::{OpenError, StoreError};
use super::event::{Event, Events};
use super::limit::{Owner, QuotaState, Take, Verdict};
use super::memory::Memory;
use super::record::{Cursor, Delete, Page, Table, Write};
use crate::clock::Clock;
use crate::model::limit::QuotaLimit;
use crate::model::store::{StoreKind, StoreSettings};

/// One of the stores.
pub(super) enum Backend {
    Memory(Memory),
    Embedded(Box<Embedded>),
}

impl Backend {
    pub(super) fn open(settings: &StoreSettings, clock: &Clock, _events: &Events) -> Result<Self, OpenError> {
        match &settings.kind {
            StoreKind::Memory => Ok(Self::Memory(Memory::new(&settings.limits))),
            StoreKind::Embedded(embedded) => {
                Ok(Self::Embedded(Box::new(Embedded::open(embedded, &settings.limits, clock)?)))
            }
            StoreKind::Redis(_) => Err(OpenError::Redis("not offered yet".to_owned())),
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Memory(_) => "memory",
            Self::Embedded(_) => "embedded",
        }
    }

    /// Whether calls may fail because the store is elsewhere.
    pub(super) const fn may_be_away(&self) -> bool {
        match self {
            Self::Memory(_) | Self::Embedded(_) => false,
        }
    }

    pub(super) async fn read(&self, table: Table, key: &str, clock: &Clock) -> Result<Option<Bytes>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.read(table, key, clock.now_ms())),
            Self::Embedded(embedded) => embedded.read(table, key, clock.now_ms()).await,
        }
    }

    pub(super) async fn write(&self, write: Write, clock: &Clock) -> Result<bool, StoreError> {
        match self {
            Self::Memory(memory) => memory.write(&write, clock.now_ms()),
            Self::Embedded(embedded) => embedded.write(write, clock.now_ms()).await,
        }
    }

    pub(super) async fn delete(&self, delete: Delete, clock: &Clock) -> Result<bool, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.delete(&delete, clock.now_ms())),
            Self::Embedded(embedded) => embedded.delete(delete, clock.now_ms()).await,
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
        }
    }

    pub(super) async fn take(&self, take: &Take, clock: &Clock) -> Result<Verdict, StoreError> {
        match self {
            Self::Memory(memory) => memory.take(take, clock.now_ms().saturating_mul(1_000)),
            Self::Embedded(embedded) => embedded.take(take, clock).await,
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
            Self::Embedded(embedded) => Ok(embedded.quota(owner, limit, clock.now_ms())),
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
        }
    }

    /// Tells other gateways.
    pub(super) async fn announce(&self, _event: &Event) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) | Self::Embedded(_) => Ok(()),
        }
    }

    pub(super) fn counters(&self) -> Option<&Counters> {
        match self {
            Self::Memory(memory) => Some(memory.counters()),
            Self::Embedded(embedded) => Some(embedded.counters()),
        }
    }
}
