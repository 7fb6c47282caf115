//! A store in memory: gone with the process.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::counters::{Counters, Taken};
use super::error::StoreError;
use super::kv::values::Values;
use super::limit::{Owner, QuotaState, Take, Verdict};
use super::record::{Cursor, Delete, Entry, Life, Page, Table, Write, Written};
use super::share::{Made, rank};
use crate::clock::Clock;
use crate::model::limit::QuotaLimit;
use crate::model::store::StoreLimits;

/// Records and counters in memory.
pub(super) struct Memory {
    sessions: Mutex<Records>,
    policies: Mutex<Records>,
    /// Locked after `sessions`.
    made: Mutex<Made>,
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
            made: Mutex::new(Made::new(limits.plugin_sessions_max)),
            records_max: limits.records_max,
            counters: Counters::new(limits, None),
            values: Arc::new(Values::new(clock.clone(), limits.kv_bytes_max)),
        }
    }

    pub(super) fn read(&self, table: Table, key: &str, now_ms: u64) -> Option<Entry> {
        self.lock(table).get(key).filter(|entry| entry.is_live(now_ms)).cloned()
    }

    pub(super) fn write(&self, write: &Write, now_ms: u64) -> Result<Written, StoreError> {
        let mut records = self.lock(write.table);
        let old = records.get(&write.key).filter(|entry| entry.is_live(now_ms));
        let Some(new) = write.decide(old, now_ms) else { return Ok(Written::alone(false)) };
        let mut written = Written::alone(true);
        if let Some(share) = &write.share {
            for leaving in self.made_ones().make_room(share, &write.key, now_ms) {
                records.remove(&*leaving.key);
                written.evicted.extend((!leaving.has_ended).then(|| (*leaving.key).into()));
            }
        }
        if !records.contains_key(&write.key) && records.len() >= self.records_max {
            records.retain(|_, entry| entry.is_live(now_ms));
            if records.len() >= self.records_max {
                return Err(StoreError::Full("`records_max`"));
            }
        }
        if write.table == Table::Sessions {
            match &write.share {
                Some(share) => self.made_ones().put(share.api.as_str(), &write.key, rank(new.expires_ms, now_ms)),
                // What an operator writes is the operator's.
                None if write.life != Life::Kept => {
                    self.made_ones().remove(&write.key);
                }
                None => {}
            }
        }
        records.insert(write.key.clone(), new);
        Ok(written)
    }

    pub(super) fn delete(&self, delete: &Delete, now_ms: u64) -> bool {
        let mut records = self.lock(delete.table);
        if delete.table == Table::Sessions {
            self.made_ones().remove(&delete.key);
        }
        records.remove(&delete.key).is_some_and(|entry| entry.is_live(now_ms))
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
            Taken::Wait(_) | Taken::Load(_) => Err(StoreError::Busy),
        }
    }

    pub(super) fn quota(&self, owner: &Owner, limit: &QuotaLimit, now_ms: u64) -> QuotaState {
        self.counters.quota_state(owner, limit, now_ms).unwrap_or_else(|| QuotaState::unused(limit))
    }

    pub(super) fn set_quota(
        &self,
        owner: &Owner,
        used: Option<(u64, &QuotaLimit)>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.counters.set_quota_at_once(owner, used, now_ms)
    }

    /// Sessions that plugins made.
    pub(super) fn made(&self) -> usize {
        self.made_ones().len()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(super) fn values(&self) -> &Arc<Values> {
        &self.values
    }

    fn made_ones(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, table: Table) -> MutexGuard<'_, Records> {
        let records = match table {
            Table::Sessions => &self.sessions,
            Table::Policies => &self.policies,
        };
        records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
