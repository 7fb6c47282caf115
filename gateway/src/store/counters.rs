//! Counters of rates and quotas in this process: exact, for all cores.
//!
//! The store's own counters where it is in memory or in a file, and the fall-back where Redis is away. A quota may have to be
//! reserved in a journal before it is used: [`Counters::take`] then says what to write down. What the journal says as well
//! may leave, and is read back when it is asked for again.

mod journal;
mod places;
mod quota;
mod room;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use self::places::{Place, Places};
use self::quota::QuotaCount;
pub(super) use self::quota::{Kept, Reserve};
use self::room::Whose;
use super::error::StoreError;
use super::limit::{Allowance, Owner, QuotaState, RateUse, Take, Verdict};
use super::share::Share;
use super::window::Window;
use crate::model::limit::QuotaLimit;
use crate::model::store::StoreLimits;

/// All counters.
pub(super) struct Counters {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    shard_max: usize,
    /// Units of quota reserved ahead; `None` where nothing is written down.
    block: Option<u64>,
    /// Who holds how many of them.
    places: Places,
    numbers: CounterNumbers,
    /// Tells one reading of the journal from the next.
    loads: AtomicU64,
    /// Which shard is searched first for a place of a share.
    turn: AtomicUsize,
}

/// What was counted of counters.
#[derive(Debug, Default)]
pub(super) struct CounterNumbers {
    /// Requests for which there was no room for another one.
    pub(super) refused: AtomicU64,
    /// Quotas that left although they go on.
    pub(super) left: AtomicU64,
    /// Quotas looked for in the journal.
    pub(super) loaded: AtomicU64,
}

#[derive(Default)]
struct Shard {
    counters: HashMap<Box<str>, Counter>,
    /// When room was last looked for in vain, in microseconds: a full shard must not be searched for each request.
    searched_us: u64,
    /// Told when the journal has written or read something, and so a quota may leave.
    written: Arc<Notify>,
}

struct Counter {
    state: State,
    /// Since room was last looked for.
    is_used: bool,
    /// Its place in the share of an API.
    place: Option<Place>,
}

enum State {
    Rate(Window),
    Quota(QuotaCount),
    /// Somebody reads it from the journal.
    Loading(u64, Arc<Notify>),
}

/// What a take came to.
pub(super) enum Taken {
    /// It was decided.
    Decided(Verdict),
    /// Something must be written down first; then the take is to be tried again.
    Wait(Waiting),
    /// The quota must be read from the journal first, and given to [`Counters::loaded`].
    Load(Ticket),
}

/// A take that waits for the journal.
pub(super) struct Waiting {
    /// Ends when it was written down, or could not be.
    pub(super) written: OwnedNotified,
    /// Failures before it; see [`Counters::failures`].
    pub(super) failures: u64,
}

/// The right to say what the journal has of a quota. Nobody else reads it meanwhile, and nobody writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) owner: Box<str>,
    number: u64,
}

/// Why a counter cannot be used yet.
enum Hindrance {
    Error(StoreError),
    Wait(Waiting),
    Load(Ticket),
}

/// Sends a line to the journal; whether it could.
type WriteLine<'w> = &'w dyn Fn(Reserve) -> bool;

impl Counters {
    /// At most so many counters; with quota reserved in blocks where `block` says so.
    pub(super) fn new(limits: &StoreLimits, block: Option<u64>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            shard_max: limits.counters_max.div_ceil(SHARDS).max(RATES_AND_QUOTA),
            block,
            places: Places::new(limits.plugin_counters_max),
            numbers: CounterNumbers::default(),
            loads: AtomicU64::new(0),
            turn: AtomicUsize::new(0),
        }
    }

    /// Counts a request, or says what hinders it. `now_us` is microseconds since 1970.
    ///
    /// `write` sends a line to the journal and says whether it could. It is called under a lock: lines of one quota must
    /// come there in the order in which they were made.
    pub(super) fn take(&self, take: &Take, now_us: u64, write: WriteLine<'_>) -> Result<Taken, StoreError> {
        self.take_in(self.block, take, now_us, write)
    }

    /// The same while the journal cannot be written: what is in memory goes on, and is written down when it can be again. A
    /// crash before that forgets it.
    pub(super) fn take_unwritten(&self, take: &Take, now_us: u64) -> Result<Taken, StoreError> {
        self.take_in(None, take, now_us, &|_| false)
    }

    fn take_in(&self, block: Option<u64>, take: &Take, now_us: u64, write: WriteLine<'_>) -> Result<Taken, StoreError> {
        take.check()?;
        let rates: SmallVec<[String; 4]> = take.rates.iter().map(RateUse::name).collect();
        let mut names: Names<'_> = rates.iter().map(|name| (&**name, self.shard_of(name))).collect();
        if let Some(quota) = &take.quota {
            names.push((quota.owner.as_str(), self.shard_of(quota.owner.as_str())));
        }
        let mut held = self.hold(&names);

        // All of them are there before one counts: what cannot be counted for want of room counts nowhere.
        for ((name, shard), index) in names.iter().zip(0..) {
            let state = |rate: &RateUse| State::Rate(Window::new(rate.algorithm, &rate.limit));
            let missing = || take.rates.get(index).map(state);
            let found = self.ensure(held.shard(*shard), name, &names, missing, take.share.as_deref(), now_us, write);
            match found {
                Ok(()) => {}
                Err(Hindrance::Error(error)) => return Err(self.refused(error, take.share.as_deref())),
                Err(Hindrance::Wait(waiting)) => return Ok(Taken::Wait(waiting)),
                Err(Hindrance::Load(ticket)) => return Ok(Taken::Load(ticket)),
            }
        }
        for (by, (rate, (name, shard))) in take.rates.iter().zip(&names).enumerate() {
            let window = held.shard(*shard).window(name)?;
            if let Err(retry_after) = window.check(rate.algorithm, &rate.limit, now_us) {
                let refused = Verdict::Limited { by, limit: rate.limit.max(), retry_after };
                return Ok(Taken::Decided(refused));
            }
        }
        let mut allowance = Allowance::default();
        if let (Some(used), Some((name, shard))) = (&take.quota, names.last()) {
            let quota = held.shard(*shard).quota(name)?;
            match quota.take(&used.owner, &used.limit, now_us / 1_000, block, write) {
                quota::Step::Taken => {}
                quota::Step::Exceeded => return Ok(Taken::Decided(Verdict::QuotaExceeded(quota.state(&used.limit)))),
                quota::Step::Busy => return Err(StoreError::Busy),
                quota::Step::Wait(waiting) => return Ok(Taken::Wait(waiting)),
            }
            allowance.quota = Some(quota.state(&used.limit));
        }
        for (rate, (name, shard)) in take.rates.iter().zip(&names) {
            let window = held.shard(*shard).window(name)?;
            window.count(&rate.limit, now_us);
            allowance.rates.push(window.state(rate.algorithm, &rate.limit, now_us));
        }
        Ok(Taken::Decided(Verdict::Allowed(allowance)))
    }

    /// What is left of a quota; nothing where only the journal knows.
    pub(super) fn quota_state(&self, owner: &Owner, limit: &QuotaLimit, now_ms: u64) -> Option<QuotaState> {
        let shard = self.lock(self.shard_of(owner.as_str()));
        match shard.counters.get(owner.as_str()).map(|counter| &counter.state) {
            Some(State::Quota(quota)) if !quota.is_over(now_ms, limit) => Some(quota.state(limit)),
            Some(State::Quota(_)) => Some(QuotaState::unused(limit)),
            _ if self.block.is_some() => None,
            _ => Some(QuotaState::unused(limit)),
        }
    }

    /// How many counters there are.
    pub(super) fn len(&self) -> usize {
        (0..self.shards.len()).map(|index| self.lock(index).counters.len()).sum()
    }

    /// What was counted.
    pub(super) fn numbers(&self) -> &CounterNumbers {
        &self.numbers
    }

    /// Has a counter be there. What is missing is made of `missing`, which makes nothing of a quota.
    #[expect(clippy::too_many_arguments, reason = "all of them are of the one take")]
    fn ensure(
        &self,
        shard: &mut Shard,
        name: &str,
        names: &[(&str, usize)],
        missing: impl FnOnce() -> Option<State>,
        share: Option<&Share>,
        now_us: u64,
        write: WriteLine<'_>,
    ) -> Result<(), Hindrance> {
        if let Some(counter) = shard.counters.get_mut(name) {
            counter.is_used = true;
            return match &counter.state {
                State::Loading(_, loaded) => Err(Hindrance::Wait(Waiting::of(loaded))),
                State::Rate(_) | State::Quota(_) => Ok(()),
            };
        }
        if shard.counters.len() >= self.shard_max && !self.room(shard, Whose::Any, names, now_us, write)? {
            return Err(Hindrance::Error(StoreError::Full("`counters_max`")));
        }
        let place = match share {
            None => None,
            Some(share) => Some(self.places.enter(share, |whose| self.room(shard, whose, names, now_us, write))?),
        };
        let (state, ticket) = match missing() {
            Some(state) => (state, None),
            None if self.block.is_none() => (State::Quota(QuotaCount::new(true)), None),
            None => {
                let number = self.loads.fetch_add(1, Ordering::Relaxed);
                self.numbers.loaded.fetch_add(1, Ordering::Relaxed);
                let ticket = Ticket { owner: name.into(), number };
                (State::Loading(number, Arc::default()), Some(ticket))
            }
        };
        shard.counters.insert(name.into(), Counter { state, is_used: true, place });
        ticket.map_or(Ok(()), |ticket| Err(Hindrance::Load(ticket)))
    }

    fn refused(&self, error: StoreError, share: Option<&Share>) -> StoreError {
        self.numbers.refused.fetch_add(1, Ordering::Relaxed);
        if let Some(share) = share {
            share.numbers.refused.fetch_add(1, Ordering::Relaxed);
        }
        error
    }

    /// Locks the shards of all names, in one order for everybody.
    fn hold(&self, names: &Names<'_>) -> Held<'_> {
        let mut indexes: SmallVec<[usize; RATES_AND_QUOTA]> = names.iter().map(|(_, shard)| *shard).collect();
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

impl Waiting {
    fn of(notify: &Arc<Notify>) -> Self {
        // No failure of a reservation is this one's.
        Self { written: notify.clone().notified_owned(), failures: u64::MAX }
    }
}

/// The counters of a take, with their shards: rates in order, then the quota.
type Names<'a> = SmallVec<[(&'a str, usize); 4]>;

/// Locked shards, by their index.
struct Held<'a>(SmallVec<[(usize, MutexGuard<'a, Shard>); RATES_AND_QUOTA]>);

impl Held<'_> {
    fn shard(&mut self, index: usize) -> &mut Shard {
        let held = self.0.iter_mut().find(|(held, _)| *held == index);
        &mut held.expect("all names of the take were locked").1
    }
}

impl Shard {
    fn window(&mut self, name: &str) -> Result<&mut Window, StoreError> {
        match self.counters.get_mut(name).map(|counter| &mut counter.state) {
            Some(State::Rate(window)) => Ok(window),
            _ => Err(StoreError::Invalid("a rate with the name of a quota")),
        }
    }

    fn quota(&mut self, name: &str) -> Result<&mut QuotaCount, StoreError> {
        match self.counters.get_mut(name).map(|counter| &mut counter.state) {
            Some(State::Quota(quota)) => Ok(quota),
            _ => Err(StoreError::Invalid("a quota with the name of a rate")),
        }
    }

    /// Who waits for the reading that a ticket is for, while it is under way.
    fn loading(&self, ticket: &Ticket) -> Option<Arc<Notify>> {
        match self.counters.get(&ticket.owner).map(|counter| &counter.state) {
            Some(State::Loading(number, loaded)) if *number == ticket.number => Some(loaded.clone()),
            _ => None,
        }
    }
}

const SHARDS: usize = 64;
const SHARDS_U64: u64 = 64;
const RATES_AND_QUOTA: usize = super::limit::RATES_MAX + 1;
