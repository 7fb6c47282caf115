//! What comes to counters from outside of a take: what is set, what another store said, and what the journal answers.

use super::quota::{Kept, QuotaCount, Reserve};
use super::{Counter, Counters, Hindrance, State, Taken, Ticket};
use crate::model::limit::QuotaLimit;
use crate::store::error::StoreError;
use crate::store::limit::{Owner, QuotaState, Take};

impl Counters {
    /// Sets how much of a quota was used; `None` forgets it. `write` sends the line to the journal, as in [`Counters::take`].
    /// What has to come first, if something has.
    pub(in crate::store) fn set_quota(
        &self,
        owner: &Owner,
        used: Option<(u64, &QuotaLimit)>,
        now_ms: u64,
        write: impl FnOnce(Kept) -> Result<(), StoreError>,
    ) -> Result<Option<Taken>, StoreError> {
        let name = owner.as_str();
        let mut shard = self.lock(self.shard_of(name));
        match self.ensure(&mut shard, name, &[(name, 0)], || None, None, now_ms.saturating_mul(1_000), &|_| false) {
            Ok(()) => {}
            Err(Hindrance::Error(error)) => return Err(self.refused(error, None)),
            Err(Hindrance::Wait(waiting)) => return Ok(Some(Taken::Wait(waiting))),
            Err(Hindrance::Load(ticket)) => return Ok(Some(Taken::Load(ticket))),
        }
        let quota = shard.quota(name)?;
        let kept = quota.set(owner, used, now_ms);
        write(kept)?;
        if self.block.is_some() {
            quota.sent();
        }
        Ok(None)
    }

    /// The same where nothing is written down.
    pub(in crate::store) fn set_quota_at_once(
        &self,
        owner: &Owner,
        used: Option<(u64, &QuotaLimit)>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let hindered = self.set_quota(owner, used, now_ms, |_| Ok(()))?;
        if hindered.is_some() { Err(StoreError::Busy) } else { Ok(()) }
    }

    /// Forgets a quota of which nothing is written down.
    pub(in crate::store) fn forget_quota(&self, owner: &Owner) {
        self.lock(self.shard_of(owner.as_str())).counters.remove(owner.as_str());
    }

    /// Notes what a shared store said, so that a fall-back goes on from there. Without room it is not noted.
    pub(in crate::store) fn note_quota(&self, take: &Take, state: &QuotaState, now_ms: u64) {
        let Some(quota) = &take.quota else { return };
        let name = quota.owner.as_str();
        let mut shard = self.lock(self.shard_of(name));
        let (share, now_us) = (take.share.as_deref(), now_ms.saturating_mul(1_000));
        if self.ensure(&mut shard, name, &[(name, 0)], || None, share, now_us, &|_| false).is_ok()
            && let Ok(quota) = shard.quota(name)
        {
            quota.note(state);
        }
    }

    /// Says what the journal has of a quota. An old ticket says nothing.
    pub(in crate::store) fn loaded(&self, ticket: &Ticket, kept: Option<&Kept>) {
        let found = || State::Quota(kept.map_or_else(|| QuotaCount::new(false), QuotaCount::restored));
        self.land(ticket, |counter| counter.state = found());
    }

    /// Gives a ticket back: the journal could not be read. Whoever waits tries it again.
    pub(in crate::store) fn not_loaded(&self, ticket: &Ticket) {
        let mut shard = self.lock(self.shard_of(&ticket.owner));
        let loading = shard.loading(ticket);
        if let Some(loaded) = loading {
            shard.counters.remove(&ticket.owner);
            loaded.notify_waiters();
            shard.written.notify_waiters();
        }
    }

    fn land(&self, ticket: &Ticket, fill: impl FnOnce(&mut Counter)) {
        let mut shard = self.lock(self.shard_of(&ticket.owner));
        if let Some(loaded) = shard.loading(ticket)
            && let Some(counter) = shard.counters.get_mut(&ticket.owner)
        {
            fill(counter);
            loaded.notify_waiters();
            shard.written.notify_waiters();
        }
    }

    /// Says that a reservation was written down, or could not be.
    pub(in crate::store) fn reserved(&self, reserve: &Reserve, is_written: bool) {
        let mut shard = self.lock(self.shard_of(&reserve.kept.owner));
        if let Ok(quota) = shard.quota(&reserve.kept.owner) {
            quota.reserved(reserve, is_written);
        }
        shard.written.notify_waiters();
    }

    /// Says that what [`Counters::set_quota`] sent was written down, or could not be.
    pub(in crate::store) fn kept(&self, kept: &Kept, is_written: bool) {
        let mut shard = self.lock(self.shard_of(&kept.owner));
        if let Ok(quota) = shard.quota(&kept.owner) {
            quota.answered(is_written);
        }
        shard.written.notify_waiters();
    }

    /// How often a quota's reservation could not be written down.
    pub(in crate::store) fn failures(&self, owner: &Owner) -> u64 {
        self.lock(self.shard_of(owner.as_str())).quota(owner.as_str()).map_or(0, |quota| quota.failures())
    }

    /// What was used of each quota whose journal says more.
    pub(in crate::store) fn settled(&self) -> Vec<Kept> {
        let mut settled = Vec::new();
        for index in 0..self.shards.len() {
            for (owner, counter) in &self.lock(index).counters {
                if let State::Quota(quota) = &counter.state {
                    settled.extend(quota.settled(owner));
                }
            }
        }
        settled
    }
}
