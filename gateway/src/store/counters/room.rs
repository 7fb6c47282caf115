//! Room for another counter: what says no more than a new one leaves, then quotas that the journal knows.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, TryLockError};

use super::places::{Held, Places};
use super::{Counters, Hindrance, SHARDS, Shard, State, Waiting, WriteLine};

/// What was found.
pub(super) enum Room {
    /// There is some. So many quotas left for it that go on.
    Made(u64),
    /// There will be some when the journal has answered what is under way.
    Soon,
    /// There is none.
    None,
}

/// Among whose counters room is looked for.
#[derive(Clone, Copy)]
pub(super) enum Whose<'a> {
    /// Everybody's.
    Any,
    /// Those in the share of an API.
    Of(&'a Arc<Held>),
    /// Those in any share.
    Shared(&'a Places),
}

impl Counters {
    /// Has some counters leave, of a shard that is locked and, where a share is full, of others too; whether some did.
    pub(super) fn room(
        &self,
        shard: &mut Shard,
        whose: Whose<'_>,
        names: &[(&str, usize)],
        now_us: u64,
        write: WriteLine<'_>,
    ) -> Result<bool, Hindrance> {
        let searched_us = match whose {
            Whose::Any => shard.searched_us,
            Whose::Of(held) => held.searched_us(),
            Whose::Shared(places) => places.held().searched_us(),
        };
        if now_us >= searched_us && now_us - searched_us < INTERVAL_US {
            return Ok(false);
        }
        let of_take = |of: &str| names.iter().any(|(name, _)| *name == of);
        let mut room = shard.make_room(whose, &of_take, now_us, write);
        let mut soon = matches!(room, Room::Soon).then(|| Waiting::of(&shard.written));
        let mut passed_over = 0;
        if !matches!(whose, Whose::Any) {
            // From another one each time. Those that somebody holds are passed over: locks are taken in one order only.
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            for index in 0..SHARDS {
                if matches!(room, Room::Made(_)) {
                    break;
                }
                let Some(other) = self.shards.get(first.wrapping_add(index) % SHARDS) else { continue };
                let mut other = match other.try_lock() {
                    Ok(other) => other,
                    Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
                    Err(TryLockError::WouldBlock) => {
                        passed_over += 1;
                        continue;
                    }
                };
                room = other.make_room(whose, &of_take, now_us, write);
                if matches!(room, Room::Soon) && soon.is_none() {
                    soon = Some(Waiting::of(&other.written));
                }
            }
        }
        if let Room::Made(left) = room {
            self.numbers.left.fetch_add(left, Ordering::Relaxed);
            return Ok(true);
        }
        if let Some(waiting) = soon {
            return Err(Hindrance::Wait(waiting));
        }
        // The take's own ones are always passed over; what others hold for a moment may have had room.
        if passed_over <= names.len() {
            match whose {
                Whose::Any => shard.searched_us = now_us,
                Whose::Of(held) => held.searched_in_vain(now_us),
                Whose::Shared(places) => places.held().searched_in_vain(now_us),
            }
        }
        Ok(false)
    }
}

impl Shard {
    /// Has some counters leave. Those of the take that asks stay.
    ///
    /// A rate leaves when it is over; a quota also when the journal says exactly what it says. Where none does, some are
    /// written down now, so that they may leave soon.
    fn make_room(
        &mut self,
        whose: Whose<'_>,
        of_take: &dyn Fn(&str) -> bool,
        now_us: u64,
        write: WriteLine<'_>,
    ) -> Room {
        let is_theirs = |place: &Option<super::Place>| match (whose, place) {
            (Whose::Any, _) | (Whose::Shared(_), Some(_)) => true,
            (Whose::Of(held), Some(place)) => place.is_of(held),
            _ => false,
        };
        let (now_ms, mut dropped, mut left) = (now_us / 1_000, 0_usize, 0_u64);
        // First those that nobody asked for since the last search, then any.
        for takes_used in [false, true] {
            self.counters.retain(|name, counter| {
                if left >= BATCH || !is_theirs(&counter.place) || of_take(name) {
                    return true;
                }
                let (is_over, may_leave) = match &counter.state {
                    State::Rate(window) => (window.is_idle(now_us), false),
                    State::Quota(quota) => (quota.is_idle(now_ms), quota.may_leave()),
                    State::Loading(..) => (false, false),
                };
                let is_used = std::mem::replace(&mut counter.is_used, false);
                let goes = is_over || (may_leave && (takes_used || !is_used));
                dropped += usize::from(goes);
                left += u64::from(goes && !is_over);
                !goes
            });
            if dropped > 0 {
                return Room::Made(left);
            }
        }
        let mut underway = 0;
        for (name, counter) in &mut self.counters {
            if underway >= BATCH {
                break;
            }
            if !is_theirs(&counter.place) || of_take(name) {
                continue;
            }
            let is_underway = match &mut counter.state {
                State::Rate(_) => false,
                State::Quota(quota) => quota.settle(name, write) || quota.is_being_written(),
                State::Loading(..) => true,
            };
            underway += u64::from(is_underway);
        }
        if underway > 0 { Room::Soon } else { Room::None }
    }
}

/// Quotas that leave or are written down at once.
const BATCH: u64 = 64;
/// From a search in vain to the next.
const INTERVAL_US: u64 = 1_000_000;
