//! The arithmetic of one rate in this process: fixed window, sliding window, smooth.
//!
//! Whole numbers only. `check` asks, `count` counts; nothing is counted by asking. `redis/take.lua` does the same there.

use std::collections::VecDeque;
use std::time::Duration;

use super::limit::RateState;
use crate::model::limit::{Algorithm, RateLimit, SLIDING_SLOTS};

/// The state of one counter. Times are microseconds since 1970.
#[derive(Debug, Clone)]
pub(super) enum Window {
    /// The window that began at `start`, and what passed in it.
    Fixed { per_us: u64, start: u64, count: u64 },
    /// When requests passed, oldest first, and how many at that time.
    Sliding { passed: VecDeque<(u64, u64)>, total: u64, per_us: u64 },
    /// What is not paid back yet, at a time. A request costs `cost`, a microsecond pays `pay`.
    Smooth { pay: u64, cost: u64, at: u64, debt: u64 },
}

impl Window {
    pub(super) fn new(algorithm: Algorithm, limit: &RateLimit) -> Self {
        match algorithm {
            Algorithm::Fixed => Self::Fixed { per_us: limit.per_us(), start: 0, count: 0 },
            Algorithm::Sliding => Self::Sliding { passed: VecDeque::new(), total: 0, per_us: limit.per_us() },
            Algorithm::Smooth { .. } => {
                let (pay, cost) = limit.smooth();
                Self::Smooth { pay, cost, at: 0, debt: 0 }
            }
        }
    }

    /// Whether one more would pass now: what is left before it, or the wait.
    ///
    /// What lies more than a period in the future was written before a clock was set back, and is forgotten.
    pub(super) fn check(&mut self, algorithm: Algorithm, limit: &RateLimit, now: u64) -> Result<(), Duration> {
        self.adapt(algorithm, limit);
        match self {
            Self::Fixed { per_us, start, count } => {
                let begins = now - now % *per_us;
                if begins > *start || *start > begins.saturating_add(*per_us) {
                    (*start, *count) = (begins, 0);
                }
                if *count < limit.max() {
                    Ok(())
                } else {
                    Err(micros(start.saturating_add(*per_us).saturating_sub(now)))
                }
            }
            Self::Sliding { passed, total, per_us } => {
                *per_us = limit.per_us();
                let is_over = |time: u64| time.saturating_add(limit.per_us()) <= now;
                // Rounding up puts a time at most one slot ahead.
                while passed.back().is_some_and(|(time, _)| *time > now.saturating_add(limit.per_us())) {
                    *total -= passed.pop_back().map_or(0, |(_, count)| count);
                }
                while passed.front().is_some_and(|(time, _)| is_over(*time)) {
                    *total -= passed.pop_front().map_or(0, |(_, count)| count);
                }
                if *total < limit.max() {
                    return Ok(());
                }
                // A limit that was lowered waits until enough of them are over.
                let mut too_many = *total - limit.max() + 1;
                let mut free_at = now;
                for (time, count) in passed.iter() {
                    free_at = time.saturating_add(limit.per_us());
                    too_many = too_many.saturating_sub(*count);
                    if too_many == 0 {
                        break;
                    }
                }
                Err(micros(free_at.saturating_sub(now)))
            }
            Self::Smooth { pay, cost, at, debt } => {
                if *at > now.saturating_add(limit.per_us()) {
                    (*at, *debt) = (now, 0);
                }
                *debt = debt.saturating_sub(now.saturating_sub(*at).saturating_mul(*pay));
                *at = now.max(*at);
                let room = (burst(algorithm, limit) - 1) * *cost;
                if *debt <= room { Ok(()) } else { Err(micros((*debt - room).div_ceil(*pay) + (*at - now))) }
            }
        }
    }

    /// Counts one that [`Window::check`] let pass at the same time.
    pub(super) fn count(&mut self, limit: &RateLimit, now: u64) {
        match self {
            Self::Fixed { count, .. } => *count += 1,
            Self::Sliding { passed, total, .. } => {
                let slot = slot(limit, now);
                *total += 1;
                match passed.back_mut() {
                    Some((time, count)) if *time >= slot => *count += 1,
                    _ => passed.push_back((slot, 1)),
                }
            }
            Self::Smooth { cost, debt, .. } => *debt += *cost,
        }
    }

    /// What is left now, after `check` or `count` at the same time.
    pub(super) fn state(&self, algorithm: Algorithm, limit: &RateLimit, now: u64) -> RateState {
        let (remaining, reset) = match self {
            Self::Fixed { per_us, start, count } => {
                (limit.max().saturating_sub(*count), start.saturating_add(*per_us).saturating_sub(now))
            }
            Self::Sliding { passed, total, per_us } => {
                let last = passed.back().map_or(now, |(time, _)| time.saturating_add(*per_us));
                (limit.max().saturating_sub(*total), last.saturating_sub(now))
            }
            Self::Smooth { pay, cost, at, debt } => {
                let room = burst(algorithm, limit) * *cost;
                (room.saturating_sub(*debt) / *cost, debt.div_ceil(*pay) + at.saturating_sub(now))
            }
        };
        RateState { limit: limit.max(), remaining, reset: micros(reset) }
    }

    /// Whether it says no more than a new one would.
    pub(super) fn is_idle(&self, now: u64) -> bool {
        match self {
            Self::Fixed { per_us, start, .. } => start.saturating_add(*per_us) <= now,
            Self::Sliding { passed, per_us, .. } => {
                passed.back().is_none_or(|(time, _)| time.saturating_add(*per_us) <= now)
            }
            Self::Smooth { pay, at, debt, .. } => at.saturating_add(debt.div_ceil(*pay)) <= now,
        }
    }

    /// A changed limit applies at once. What was counted in another unit is carried over or, in a fixed window of another
    /// length, begins anew.
    fn adapt(&mut self, algorithm: Algorithm, limit: &RateLimit) {
        match (&mut *self, algorithm) {
            (Self::Fixed { per_us, .. }, Algorithm::Fixed) if *per_us == limit.per_us() => {}
            (Self::Sliding { .. }, Algorithm::Sliding) => {}
            (Self::Smooth { pay, cost, debt, .. }, Algorithm::Smooth { .. }) => {
                let (new_pay, new_cost) = limit.smooth();
                if (*pay, *cost) != (new_pay, new_cost) {
                    let requests = u128::from(*debt) * u128::from(new_cost);
                    *debt = u64::try_from(requests.div_ceil(u128::from(*cost))).unwrap_or(u64::MAX / 2);
                    (*pay, *cost) = (new_pay, new_cost);
                }
            }
            _ => *self = Self::new(algorithm, limit),
        }
    }
}

/// The time that a request is kept under: exact while there are few, otherwise rounded up to a slot.
fn slot(limit: &RateLimit, now: u64) -> u64 {
    if limit.max() <= SLIDING_SLOTS { now } else { now.next_multiple_of((limit.per_us() / SLIDING_SLOTS).max(1)) }
}

fn burst(algorithm: Algorithm, limit: &RateLimit) -> u64 {
    match algorithm {
        Algorithm::Smooth { burst } => u64::from(burst).clamp(1, limit.max()),
        Algorithm::Fixed | Algorithm::Sliding => limit.max(),
    }
}

const fn micros(us: u64) -> Duration {
    Duration::from_micros(us)
}
