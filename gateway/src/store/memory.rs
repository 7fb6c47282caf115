//! A store in memory: gone with the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::counters::{Counters, Taken};
use super::error::StoreError;
use super::kv::values::Values;
use super::limit::{Owner, QuotaState, Take, Verdict};
use super::record::{Cursor, Delete, Entry, Page, Table, Write};
use crate::clock::Clock;
use crate::model::limit::QuotaLimit;
use crate::model::store::StoreLimits;

/// Records and counters in memory.
pub(super) struct Memory {
    sessions: Mutex<Records>,
    policies: Mutex<Records>,
    records_max: usize,
    counters: Counters,
    values: Arc<Values>,
}

type Records = BTreeMap<Box<str>, Entry>;

impl Memory {
    pub(super) fn new(limits: &StoreLimits, clock: &Clock) -> Self {
        Self {
            sessions: Mutex::default(),
            policies: Mutex::default(),
            records_max: limits.records_max,
            counters: Counters::new(limits.counters_max, None),
            values: Arc::new(Values::new(clock.clone(), limits.kv_bytes_max)),
        }
    }

    pub(super) fn read(&self, table: Table, key: &str, now_ms: u64) -> Option<Bytes> {
        self.lock(table).get(key).filter(|entry| entry.is_live(now_ms)).map(|entry| entry.value.clone())
    }

    pub(super) fn write(&self, write: &Write, now_ms: u64) -> Result<bool, StoreError> {
        let mut records = self.lock(write.table);
        let old = records.get(&write.key).filter(|entry| entry.is_live(now_ms));
        let Some(new) = write.decide(old, now_ms) else { return Ok(false) };
        if !records.contains_key(&write.key) && records.len() >= self.records_max {
            records.retain(|_, entry| entry.is_live(now_ms));
            if records.len() >= self.records_max {
                return Err(StoreError::Full("`records_max`"));
            }
        }
        records.insert(write.key.clone(), new);
        Ok(true)
    }

    pub(super) fn delete(&self, delete: &Delete, now_ms: u64) -> bool {
        self.lock(delete.table).remove(&delete.key).is_some_and(|entry| entry.is_live(now_ms))
    }

    pub(super) fn list(&self, table: Table, from: Option<&Cursor>, max: usize, now_ms: u64) -> Page<String> {
        let from = from.map_or(Bound::Unbounded, |cursor| Bound::Excluded(cursor.as_str()));
        let records = self.lock(table);
        let live = records.range::<str, _>((from, Bound::Unbounded)).filter(|(_, entry)| entry.is_live(now_ms));
        let items: Vec<String> = live.take(max).map(|(key, _)| key.to_string()).collect();
        let next = (items.len() == max).then(|| items.last().map(|last| Cursor(last.as_str().into()))).flatten();
        Page { items, next }
    }

    pub(super) fn take(&self, take: &Take, now_us: u64) -> Result<Verdict, StoreError> {
        match self.counters.take(take, now_us, &|_| false)? {
            Taken::Decided(verdict) => Ok(verdict),
            Taken::Wait(_) => Err(StoreError::Busy),
        }
    }

    pub(super) fn quota(&self, owner: &Owner, limit: &QuotaLimit, now_ms: u64) -> QuotaState {
        self.counters.quota_state(owner, limit, now_ms)
    }

    pub(super) fn set_quota(
        &self,
        owner: &Owner,
        used: Option<(u64, &QuotaLimit)>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.counters.set_quota(owner, used, now_ms, |_| ())
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn values(&self) -> &Arc<Values> {
        &self.values
    }

    fn lock(&self, table: Table) -> MutexGuard<'_, Records> {
        let records = match table {
            Table::Sessions => &self.sessions,
            Table::Policies => &self.policies,
        };
        records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
