//! Limits that are counted: so many requests in a period, so many until renewal.
//!
//! Made once from what a session or definition says, in whole numbers, so that counting cannot drift.

use std::num::NonZeroU64;
use std::time::Duration;

use super::session::{Quota, Rate};

/// So many requests in so many microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimit {
    max: NonZeroU64,
    per_us: NonZeroU64,
}

/// How requests are counted against a [`RateLimit`]. A request that was refused counts in none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    /// Windows one after the other, at multiples of the period since 1970: at most `max` in each, up to twice as many
    /// across a border.
    Fixed,
    /// At most `max` in any period, whenever it begins. Exact up to [`SLIDING_SLOTS`] requests in the period; above, times
    /// are rounded up to that fraction of it, which refuses a little early and never late.
    #[default]
    Sliding,
    /// One request each `per / max`, with up to `burst` at once (GCRA): at most `max + burst - 1` in any period, so with a
    /// burst of 1 never more than `max`.
    Smooth {
        /// Requests at once; zero counts as 1, more than `max` as `max`.
        burst: u32,
    },
}

/// So many requests until renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuotaLimit {
    max: NonZeroU64,
    renewal: Option<NonZeroU64>,
}

/// A rate cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a rate: requests and period must be numbers, the period more than nothing and at most a year")]
pub struct RateInvalid;

/// Times that the sliding window keeps for one limit, at most.
pub const SLIDING_SLOTS: u64 = 1_000;

impl RateLimit {
    /// So many requests in a period of a millisecond to a year. More than a thousand million requests count as that many.
    pub fn new(max: NonZeroU64, per: Duration) -> Result<Self, RateInvalid> {
        let per_us = u64::try_from(per.as_micros()).map_err(|_| RateInvalid)?;
        if !(PER_US_MIN..=PER_US_MAX).contains(&per_us) {
            return Err(RateInvalid);
        }
        Ok(Self { max: max.min(REQUESTS_MAX), per_us: NonZeroU64::new(per_us).ok_or(RateInvalid)? })
    }

    /// The limit of a session's rate; `None` where its `requests` are zero or less, which is no limit.
    ///
    /// A broken number of requests becomes a whole one in a period that is as much shorter or longer: 2.5 in a second are 2
    /// in 0.8 seconds, 0.5 in a second are 1 in two.
    pub fn of(rate: &Rate) -> Result<Option<Self>, RateInvalid> {
        if !rate.requests.is_finite() || !rate.per_seconds.is_finite() {
            return Err(RateInvalid);
        }
        if rate.requests <= 0.0 {
            return Ok(None);
        }
        let requests = rate.requests.min(1e9);
        let whole = requests.floor().max(1.0);
        let per = Duration::try_from_secs_f64(rate.per_seconds * whole / requests).map_err(|_| RateInvalid)?;
        // Whole and from 1 to 10^9 by now.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded on the lines above")]
        let max = NonZeroU64::new(whole as u64).ok_or(RateInvalid)?;
        Self::new(max, per.max(Duration::from_micros(if per.is_zero() { 0 } else { PER_US_MIN }))).map(Some)
    }

    /// Requests in the period.
    pub const fn max(&self) -> u64 {
        self.max.get()
    }

    /// The period, in microseconds.
    pub const fn per_us(&self) -> u64 {
        self.per_us.get()
    }

    /// How the smooth limiter counts: each request costs `.1`, each microsecond pays back `.0`. Whole numbers whose products
    /// stay below 2^53, which is what a Lua number holds.
    pub fn smooth(&self) -> (u64, u64) {
        let (max, per) = (self.max(), self.per_us());
        let divisor = gcd(max, per);
        let (pay, cost) = (max / divisor, per / divisor);
        match max.checked_mul(cost) {
            Some(product) if product < 1 << 52 => (pay, cost),
            // Rounded up to whole microseconds a request, which is stricter by less than one.
            _ => (1, per.div_ceil(max)),
        }
    }
}

impl QuotaLimit {
    /// The same, renewing after so long where it never would. Zero is never.
    #[must_use]
    pub fn renewing_after(self, life: Duration) -> Self {
        Self { renewal: self.renewal.or(NonZeroU64::new(life.as_secs())), ..self }
    }

    /// So many requests, renewed so many seconds after the first of them; never where `renewal_seconds` is zero.
    pub fn new(max: NonZeroU64, renewal_seconds: u64) -> Self {
        let bounded = |number: NonZeroU64, most: u64| number.min(NonZeroU64::new(most).unwrap_or(NonZeroU64::MAX));
        Self {
            max: bounded(max, 1 << 50),
            renewal: NonZeroU64::new(renewal_seconds).map(|seconds| bounded(seconds, RENEWAL_SECONDS_MAX)),
        }
    }

    /// The limit of a session's quota; `None` where its `max` is zero or less, which is no limit.
    pub fn of(quota: &Quota) -> Option<Self> {
        let max = u64::try_from(quota.max).ok().and_then(NonZeroU64::new)?;
        Some(Self::new(max, u64::try_from(quota.renewal_rate).unwrap_or(0)))
    }

    /// Requests until renewal.
    pub const fn max(&self) -> u64 {
        self.max.get()
    }

    /// Milliseconds from the first request to renewal; `None` never renews.
    pub fn renewal_ms(&self) -> Option<u64> {
        self.renewal.map(|seconds| seconds.get() * 1_000)
    }
}

const fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

const REQUESTS_MAX: NonZeroU64 = NonZeroU64::new(1_000_000_000).expect("it is not zero");
const PER_US_MIN: u64 = 1_000;
const PER_US_MAX: u64 = 366 * 86_400 * 1_000_000;
const RENEWAL_SECONDS_MAX: u64 = 100 * 366 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_become_whole_numbers() {
        check(10.0, 1.0, Ok(Some((10, 1_000_000))));
        check(2.5, 1.0, Ok(Some((2, 800_000))));
        check(0.5, 1.0, Ok(Some((1, 2_000_000))));
        check(0.0, 1.0, Ok(None));
        check(-1.0, 0.0, Ok(None));
        check(1.0, 0.0, Err(RateInvalid));
        check(1.0, -5.0, Err(RateInvalid));
        check(f64::NAN, 1.0, Err(RateInvalid));
        check(1.0, f64::INFINITY, Err(RateInvalid));
        check(1.0, 1e300, Err(RateInvalid));
        check(1e300, 1.0, Ok(Some((1_000_000_000, 1_000_000))));
        check(1e-300, 1.0, Err(RateInvalid));
        check(5.0, 0.000_1, Ok(Some((5, 1_000))));
    }

    #[track_caller]
    fn check(requests: f64, per_seconds: f64, expected: Result<Option<(u64, u64)>, RateInvalid>) {
        let rate = Rate { requests, per_seconds, ..Rate::default() };
        assert_eq!(RateLimit::of(&rate).map(|limit| limit.map(|limit| (limit.max(), limit.per_us()))), expected);
    }

    #[test]
    fn smooth_limits_stay_within_what_a_lua_number_holds() {
        let limit = |max, us| {
            RateLimit::new(NonZeroU64::new(max).expect("given"), Duration::from_micros(us)).expect("given in range")
        };
        assert_eq!(limit(10, 1_000_000).smooth(), (1, 100_000));
        assert_eq!(limit(3, 1_000_000).smooth(), (3, 1_000_000));
        let (pay, cost) = limit(999_999_937, 86_400_000_000).smooth();
        assert!(999_999_937 * cost < 1 << 52, "{pay} {cost}");
    }
}
