//! Counters of rates and quotas in this process: exact, for all cores.
//!
//! The store's own counters where it is in memory or in a file, and the fall-back where Redis is away. A quota may have to be
//! reserved in a journal before it is used: [`Counters::take`] then says what to write down.

mod quota;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::sync::futures::OwnedNotified;

use self::quota::QuotaCount;
pub(super) use self::quota::{Kept, Reserve};
use super::error::StoreError;
use super::limit::{Allowance, Owner, QuotaState, QuotaUse, Take, Verdict};
use super::window::Window;
use crate::model::limit::QuotaLimit;

/// All counters.
pub(super) struct Counters {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    shard_max: usize,
    /// Units of quota reserved ahead; `None` where nothing is written down.
    block: Option<u64>,
    refused: AtomicU64,
}

#[derive(Default)]
struct Shard {
    counters: HashMap<Box<str>, Counter>,
    /// Not swept before, in microseconds: a full shard must not be swept for each request.
    swept_us: u64,
}

enum Counter {
    Rate(Window),
    Quota(QuotaCount),
}

/// What a take came to.
pub(super) enum Taken {
    /// It was decided.
    Decided(Verdict),
    /// Quota must be reserved first; then the take is to be tried again.
    Wait(Waiting),
}

/// A take that waits for a reservation.
pub(super) struct Waiting {
    /// Ends when it was written down, or could not be.
    pub(super) written: OwnedNotified,
    /// Failures before it; see [`Counters::failures`].
    pub(super) failures: u64,
}

impl Counters {
    /// At most so many counters; with quota reserved in blocks where `block` says so.
    pub(super) fn new(counters_max: usize, block: Option<u64>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            shard_max: counters_max.div_ceil(SHARDS).max(RATES_AND_QUOTA),
            block,
            refused: AtomicU64::new(0),
        }
    }

    /// Counts a request, or says what hinders it. `now_us` is microseconds since 1970.
    ///
    /// `write` sends a line to the journal and says whether it could. It is called under a lock: lines of one quota must
    /// come there in the order in which they were made.
    pub(super) fn take(&self, take: &Take, now_us: u64, write: &dyn Fn(Reserve) -> bool) -> Result<Taken, StoreError> {
        take.check()?;
        let names: SmallVec<[String; 4]> = take.rates.iter().map(super::limit::RateUse::name).collect();
        let mut held = self.hold(names.iter().map(String::as_str).chain(take.quota.iter().map(|q| q.owner.as_str())));

        for (by, (rate, name)) in take.rates.iter().zip(&names).enumerate() {
            let window = self.window(held.shard(self.shard_of(name)), name, rate, now_us)?;
            if let Err(retry_after) = window.check(rate.algorithm, &rate.limit, now_us) {
                let refused = Verdict::Limited { by, limit: rate.limit.max(), retry_after };
                return Ok(Taken::Decided(refused));
            }
        }
        let mut allowance = Allowance::default();
        if let Some(QuotaUse { owner, limit }) = &take.quota {
            let quota = self.quota(held.shard(self.shard_of(owner.as_str())), owner, now_us)?;
            match quota.take(owner, limit, now_us / 1_000, self.block, write) {
                quota::Step::Taken => {}
                quota::Step::Exceeded => return Ok(Taken::Decided(Verdict::QuotaExceeded(quota.state(limit)))),
                quota::Step::Busy => return Err(StoreError::Busy),
                quota::Step::Wait(waiting) => return Ok(Taken::Wait(waiting)),
            }
            allowance.quota = Some(quota.state(limit));
        }
        for (rate, name) in take.rates.iter().zip(&names) {
            let window = self.window(held.shard(self.shard_of(name)), name, rate, now_us)?;
            window.count(&rate.limit, now_us);
            allowance.rates.push(window.state(rate.algorithm, &rate.limit, now_us));
        }
        Ok(Taken::Decided(Verdict::Allowed(allowance)))
    }

    /// What is left of a quota.
    pub(super) fn quota_state(&self, owner: &Owner, limit: &QuotaLimit, now_ms: u64) -> QuotaState {
        let shard = self.lock(self.shard_of(owner.as_str()));
        match shard.counters.get(owner.as_str()) {
            Some(Counter::Quota(quota)) if !quota.is_over(now_ms, limit) => quota.state(limit),
            _ => QuotaState { max: limit.max(), remaining: limit.max(), renews_ms: None },
        }
    }

    /// Sets how much of a quota was used; `None` forgets it. `write` is as in [`Counters::take`].
    pub(super) fn set_quota<T>(
        &self,
        owner: &Owner,
        used: Option<(u64, &QuotaLimit)>,
        now_ms: u64,
        write: impl FnOnce(Kept) -> T,
    ) -> Result<T, StoreError> {
        let mut shard = self.lock(self.shard_of(owner.as_str()));
        let quota = self.quota(&mut shard, owner, now_ms.saturating_mul(1_000))?;
        Ok(write(quota.set(owner, used, now_ms)))
    }

    /// Notes what a shared store said, so that a fall-back goes on from there.
    pub(super) fn note_quota(&self, owner: &Owner, state: &QuotaState, now_ms: u64) {
        let mut shard = self.lock(self.shard_of(owner.as_str()));
        if let Ok(quota) = self.quota(&mut shard, owner, now_ms.saturating_mul(1_000)) {
            quota.note(state);
        }
    }

    /// Puts back what a journal has.
    pub(super) fn restore(&self, kept: &Kept) {
        let index = self.shard_of(&kept.owner);
        let mut shard = self.lock(index);
        shard.counters.insert(kept.owner.clone(), Counter::Quota(QuotaCount::restored(kept)));
    }

    /// Says that a reservation was written down, or could not be.
    pub(super) fn reserved(&self, reserve: &Reserve, is_written: bool) {
        let mut shard = self.lock(self.shard_of(&reserve.kept.owner));
        if let Some(Counter::Quota(quota)) = shard.counters.get_mut(&reserve.kept.owner) {
            quota.reserved(reserve, is_written);
        }
    }

    /// How often a quota's reservation could not be written down.
    pub(super) fn failures(&self, owner: &Owner) -> u64 {
        match self.lock(self.shard_of(owner.as_str())).counters.get(owner.as_str()) {
            Some(Counter::Quota(quota)) => quota.failures(),
            _ => 0,
        }
    }

    /// What was used of each quota whose journal says more.
    pub(super) fn settled(&self) -> Vec<Kept> {
        let mut settled = Vec::new();
        for index in 0..self.shards.len() {
            for (owner, counter) in &self.lock(index).counters {
                if let Counter::Quota(quota) = counter {
                    settled.extend(quota.settled(owner));
                }
            }
        }
        settled
    }

    /// How many counters there are.
    pub(super) fn len(&self) -> usize {
        (0..self.shards.len()).map(|index| self.lock(index).counters.len()).sum()
    }

    /// How often there was no room for another one.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn window<'a>(
        &self,
        shard: &'a mut Shard,
        name: &str,
        rate: &super::limit::RateUse,
        now_us: u64,
    ) -> Result<&'a mut Window, StoreError> {
        let fresh = || Counter::Rate(Window::new(rate.algorithm, &rate.limit));
        match self.counter(shard, name, fresh, now_us)? {
            Counter::Rate(window) => Ok(window),
            Counter::Quota(_) => Err(StoreError::Invalid("a rate with the name of a quota")),
        }
    }

    fn quota<'a>(&self, shard: &'a mut Shard, owner: &Owner, now_us: u64) -> Result<&'a mut QuotaCount, StoreError> {
        let fresh = || Counter::Quota(QuotaCount::new(self.block.is_none()));
        match self.counter(shard, owner.as_str(), fresh, now_us)? {
            Counter::Quota(quota) => Ok(quota),
            Counter::Rate(_) => Err(StoreError::Invalid("a quota with the name of a rate")),
        }
    }

    fn counter<'a>(
        &self,
        shard: &'a mut Shard,
        name: &str,
        fresh: impl FnOnce() -> Counter,
        now_us: u64,
    ) -> Result<&'a mut Counter, StoreError> {
        if !shard.counters.contains_key(name) {
            if shard.counters.len() >= self.shard_max && !shard.make_room(now_us) {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(StoreError::Full("`counters_max`"));
            }
            shard.counters.insert(name.into(), fresh());
        }
        shard.counters.get_mut(name).ok_or(StoreError::Invalid("a counter that was there"))
    }

    /// Locks the shards of all names, in one order for everybody.
    fn hold<'a>(&self, names: impl Iterator<Item = &'a str>) -> Held<'_> {
        let mut indexes: SmallVec<[usize; RATES_AND_QUOTA]> = names.map(|name| self.shard_of(name)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        Held(indexes.into_iter().map(|index| (index, self.lock(index))).collect())
    }

    fn shard_of(&self, name: &str) -> usize {
        usize::try_from(self.hasher.hash_one(name) % SHARDS_U64).unwrap_or(0)
    }

    fn lock(&self, index: usize) -> MutexGuard<'_, Shard> {
        let shard = self.shards.get(index).expect("`shard_of` stays below SHARDS");
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locked shards, by their index.
struct Held<'a>(SmallVec<[(usize, MutexGuard<'a, Shard>); RATES_AND_QUOTA]>);

impl Held<'_> {
    fn shard(&mut self, index: usize) -> &mut Shard {
        let held = self.0.iter_mut().find(|(held, _)| *held == index);
        &mut held.expect("all names of the take were locked").1
    }
}

impl Shard {
    /// Drops what says no more than a new one would; at most once a second.
    fn make_room(&mut self, now_us: u64) -> bool {
        if now_us >= self.swept_us && now_us - self.swept_us < 1_000_000 {
            return false;
        }
        self.swept_us = now_us;
        let before = self.counters.len();
        self.counters.retain(|_, counter| match counter {
            Counter::Rate(window) => !window.is_idle(now_us),
            Counter::Quota(quota) => !quota.is_idle(now_us / 1_000),
        });
        self.counters.len() < before
    }
}

const SHARDS: usize = 64;
const SHARDS_U64: u64 = 64;
const RATES_AND_QUOTA: usize = super::limit::RATES_MAX + 1;
