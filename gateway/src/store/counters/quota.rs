//! One quota in this process, with the part of it that is reserved in a journal.
//!
//! Nothing is used that is not reserved, so a crash can forget no use. What is reserved and not used is at most one block,
//! and that is what a crash over-counts.

use std::sync::Arc;

use tokio::sync::Notify;

use super::Waiting;
use crate::model::limit::QuotaLimit;
use crate::store::limit::{Owner, QuotaState};

/// What was used of a quota.
pub(super) struct QuotaCount {
    used: u64,
    /// What the journal says was used: `used` at least, but for what was used while it could not be written.
    reserved: u64,
    /// When it renews; `None` where it has not begun, or never does.
    renews_ms: Option<u64>,
    has_begun: bool,
    /// Renewals and resets so far: an answer to an older reservation says nothing about this one.
    generation: u64,
    is_reserving: bool,
    /// Lines of the journal that are on their way: until they are written it says something else.
    pending: u32,
    /// A line could not be written, as far as is known: the journal may say something else.
    is_unsure: bool,
    /// It repeats what another store said, and nothing was used of it here.
    is_copy: bool,
    failures: u64,
    written: Arc<Notify>,
}

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Kept {
    /// Whose quota.
    pub(in crate::store) owner: Box<str>,
    /// How much of it was used; `None` takes the line out.
    pub(in crate::store) used: Option<u64>,
    /// When it renews, in milliseconds since 1970.
    pub(in crate::store) renews_ms: Option<u64>,
}

/// A line of the journal that must be written before what it says is used.
#[derive(Debug, Clone)]
pub(in crate::store) struct Reserve {
    pub(in crate::store) kept: Kept,
    generation: u64,
}

/// What a take came to.
pub(super) enum Step {
    Taken,
    Exceeded,
    Busy,
    Wait(Waiting),
}

impl Kept {
    /// What is left, if it is as the journal says.
    pub(in crate::store) fn state(&self, limit: &QuotaLimit, now_ms: u64) -> QuotaState {
        let count = QuotaCount::restored(self);
        if count.is_over(now_ms, limit) { QuotaState::unused(limit) } else { count.state(limit) }
    }
}

impl QuotaCount {
    /// Nothing used. Without a journal everything is reserved.
    pub(super) fn new(is_unwritten: bool) -> Self {
        Self {
            used: 0,
            reserved: if is_unwritten { u64::MAX } else { 0 },
            renews_ms: None,
            has_begun: false,
            generation: 0,
            is_reserving: false,
            pending: 0,
            is_unsure: false,
            is_copy: false,
            failures: 0,
            written: Arc::default(),
        }
    }

    /// Everything that was reserved counts as used. After a crash that is too much; where a counter left, it was settled before.
    pub(super) fn restored(kept: &Kept) -> Self {
        let used = kept.used.unwrap_or(0);
        Self { used, reserved: used, renews_ms: kept.renews_ms, has_begun: true, ..Self::new(false) }
    }

    pub(super) fn take(
        &mut self,
        owner: &Owner,
        limit: &QuotaLimit,
        now_ms: u64,
        block: Option<u64>,
        write: &dyn Fn(Reserve) -> bool,
    ) -> Step {
        if !self.has_begun || self.is_over(now_ms, limit) {
            self.begin(0, self.is_unwritten(), limit.renewal_ms().map(|renewal| now_ms.saturating_add(renewal)));
        }
        if self.used >= limit.max() {
            return Step::Exceeded;
        }
        let is_at_once = block.is_none();
        let block = block.map_or(0, |block| block.min(limit.max() / 20).max(1));
        if self.used < self.reserved || is_at_once {
            self.used += 1;
            self.is_copy = false;
            // Reserved ahead when half of it is used, so that callers rarely wait. Never more than a block ahead.
            let is_short = self.reserved.saturating_sub(self.used) <= block / 2 && self.reserved < limit.max();
            if is_short && block > 1 {
                self.reserve(owner, limit, block, write);
            }
            return Step::Taken;
        }
        let written = self.written.clone().notified_owned();
        let failures = self.failures;
        if !self.reserve(owner, limit, block, write) {
            return Step::Busy;
        }
        Step::Wait(Waiting { written, failures })
    }

    /// Has the next block written down, unless that is under way; whether it is.
    fn reserve(&mut self, owner: &Owner, limit: &QuotaLimit, block: u64, write: &dyn Fn(Reserve) -> bool) -> bool {
        if !self.is_reserving {
            let used = Some(self.used.saturating_add(block).min(limit.max()));
            let kept = Kept { owner: owner.as_str().into(), used, renews_ms: self.renews_ms };
            self.is_reserving = write(Reserve { kept, generation: self.generation });
            self.pending += u32::from(self.is_reserving);
        }
        self.is_reserving
    }

    /// Writes down what was really used, so that the counter may leave; whether that is under way now. What was reserved
    /// beyond is given back at once: a crash after the line must find nothing used that it does not have.
    pub(super) fn settle(&mut self, owner: &str, write: &dyn Fn(Reserve) -> bool) -> bool {
        if self.is_being_written() {
            return false;
        }
        let Some(kept) = self.settled(owner) else { return false };
        if !write(Reserve { kept, generation: self.generation }) {
            return false;
        }
        self.pending += 1;
        self.is_reserving = true;
        self.reserved = self.used;
        true
    }

    /// Whether the journal will soon say something else.
    pub(super) const fn is_being_written(&self) -> bool {
        self.pending > 0
    }

    /// Whether nothing is lost when it leaves: somewhere else is known exactly what it says.
    pub(super) const fn may_leave(&self) -> bool {
        self.is_copy || (!self.is_being_written() && !self.is_unsure && self.used == self.reserved)
    }

    /// A line was sent to the journal.
    pub(super) fn sent(&mut self) {
        self.pending += 1;
    }

    /// A line was written, or could not be.
    pub(super) fn answered(&mut self, is_written: bool) {
        self.pending = self.pending.saturating_sub(1);
        // Lines are written in order: the last one counts.
        self.is_unsure = !is_written;
    }

    pub(super) fn reserved(&mut self, reserve: &Reserve, is_written: bool) {
        self.answered(is_written);
        if reserve.generation == self.generation {
            self.is_reserving = false;
            if is_written {
                self.reserved = self.reserved.max(reserve.kept.used.unwrap_or(0));
            } else {
                self.failures += 1;
            }
        }
        self.written.notify_waiters();
    }

    pub(super) fn set(&mut self, owner: &Owner, used: Option<(u64, &QuotaLimit)>, now_ms: u64) -> Kept {
        let is_unwritten = self.is_unwritten();
        self.is_copy = false;
        match used {
            None => {
                self.begin(0, is_unwritten, None);
                self.has_begun = false;
            }
            Some((used, limit)) => {
                let renews_ms = if self.has_begun && !self.is_over(now_ms, limit) {
                    self.renews_ms
                } else {
                    limit.renewal_ms().map(|renewal| now_ms.saturating_add(renewal))
                };
                self.begin(used, is_unwritten, renews_ms);
            }
        }
        let used = self.has_begun.then_some(self.used);
        Kept { owner: owner.as_str().into(), used, renews_ms: self.renews_ms }
    }

    /// Takes over what another store counted. It knows best, but does not take back what is known here of the same time. One
    /// that never renews has no times: there the store is believed, unless something was used here that it does not know.
    pub(super) fn note(&mut self, state: &QuotaState) {
        let used = state.max.saturating_sub(state.remaining);
        let is_same = self.has_begun && same_renewal(self.renews_ms, state.renews_ms);
        let is_believed = !is_same || (state.renews_ms.is_none() && self.is_copy);
        self.used = if is_believed { used } else { self.used.max(used) };
        self.is_copy = self.used == used;
        (self.has_begun, self.renews_ms) = (true, state.renews_ms);
    }

    pub(super) fn state(&self, limit: &QuotaLimit) -> QuotaState {
        QuotaState {
            max: limit.max(),
            remaining: limit.max().saturating_sub(self.used),
            renews_ms: self.renews_ms.filter(|_| self.has_begun),
        }
    }

    /// Whether it is renewed by now. One that never did and now should renews at once, as in Tyk.
    pub(super) fn is_over(&self, now_ms: u64, limit: &QuotaLimit) -> bool {
        match self.renews_ms {
            Some(renews) => renews <= now_ms,
            None => limit.renewal_ms().is_some(),
        }
    }

    pub(super) fn is_idle(&self, now_ms: u64) -> bool {
        let is_over = self.renews_ms.is_some_and(|renews| renews <= now_ms);
        (is_over || !self.has_begun) && !self.is_being_written()
    }

    pub(super) fn settled(&self, owner: &str) -> Option<Kept> {
        let is_other = self.has_begun && !self.is_unwritten() && (self.used != self.reserved || self.is_unsure);
        is_other.then(|| Kept { owner: owner.into(), used: Some(self.used), renews_ms: self.renews_ms })
    }

    /// Whether there is no journal.
    const fn is_unwritten(&self) -> bool {
        self.reserved == u64::MAX
    }

    pub(super) const fn failures(&self) -> u64 {
        self.failures
    }

    fn begin(&mut self, used: u64, is_unwritten: bool, renews_ms: Option<u64>) {
        self.used = used;
        self.reserved = if is_unwritten { u64::MAX } else { used };
        self.renews_ms = renews_ms;
        self.has_begun = true;
        self.is_reserving = false;
        self.generation += 1;
        self.written.notify_waiters();
    }
}

/// Two clocks tell the end of one period a little apart.
fn same_renewal(a: Option<u64>, b: Option<u64>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.abs_diff(b) < 1_000,
        _ => false,
    }
}
