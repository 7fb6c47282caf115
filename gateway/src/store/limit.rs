//! Taking: one request counted against its rates and its quota, all or nothing.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::error::StoreError;
use super::share::Share;
use crate::model::id::ApiId;
use crate::model::key::KeyHash;
use crate::model::limit::{Algorithm, QuotaLimit, RateLimit};

/// Who owns counters: a session or an API. Counters of one owner are kept together (one slot of a cluster).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(Box<str>);

/// One counter of a rate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RateKey {
    owner: Owner,
    part: Box<str>,
}

/// One rate that a request counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateUse {
    /// The counter.
    pub key: RateKey,
    /// The limit.
    pub limit: RateLimit,
    /// How it is counted. Counters of one key and two algorithms are two.
    pub algorithm: Algorithm,
}

/// The quota that a request counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaUse {
    /// The counter.
    pub owner: Owner,
    /// The limit.
    pub limit: QuotaLimit,
}

/// What one request counts against: rates in order, then a quota.
///
/// All are looked at before any is counted: a request that one of them refuses counts in none. In a cluster the rates of the
/// quota's owner come last, whatever the order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Take {
    /// At most [`RATES_MAX`], each with a key of its own.
    pub rates: SmallVec<[RateUse; 3]>,
    /// The quota.
    pub quota: Option<QuotaUse>,
    /// Whose share its counters take places of, where a plugin made the session.
    pub share: Option<Arc<Share>>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request counts.
    Allowed(Allowance),
    /// A rate refused.
    Limited {
        /// Which of [`Take::rates`].
        by: usize,
        /// Its requests in the period.
        limit: u64,
        /// When a request could pass, if nobody else comes first.
        retry_after: Duration,
    },
    /// The quota refused.
    QuotaExceeded(QuotaState),
}

/// What is left after a request was counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowance {
    /// In the order of [`Take::rates`].
    pub rates: SmallVec<[RateState; 3]>,
    /// The quota, if there is one.
    pub quota: Option<QuotaState>,
}

/// What is left of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateState {
    /// Requests in the period.
    pub limit: u64,
    /// Requests that would pass now.
    pub remaining: u64,
    /// Until everything is left again, if nobody comes.
    pub reset: Duration,
}

/// What is left of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaState {
    /// Requests until renewal.
    pub max: u64,
    /// Requests left.
    pub remaining: u64,
    /// When it renews, in milliseconds since 1970; `None` where it never does, or has not begun.
    pub renews_ms: Option<u64>,
}

impl Owner {
    /// The counters of a session, spelled as Tyk does in Redis. `scope` is the `allowance_scope` of an access right: rights
    /// of one scope share them, and an empty one is none.
    pub fn session(key: &KeyHash, scope: Option<&str>) -> Self {
        match scope.filter(|scope| !scope.is_empty()) {
            Some(scope) => Self(format!("quota-{}-{}", plain(scope), key.as_str()).into()),
            None => Self(format!("quota-{}", key.as_str()).into()),
        }
    }

    /// The counters of an API as a whole.
    pub fn api(api: &ApiId) -> Self {
        Self(format!("api-{api}").into())
    }

    /// The counter as a whole, or one apart from it, such as that of an endpoint.
    pub fn rate(&self, part: Option<&str>) -> RateKey {
        RateKey { owner: self.clone(), part: part.map(plain).unwrap_or_default().into() }
    }

    /// Its name, which is also the name of its quota in Redis.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl QuotaState {
    /// A quota of which nothing was used.
    pub(super) const fn unused(limit: &QuotaLimit) -> Self {
        Self { max: limit.max(), remaining: limit.max(), renews_ms: None }
    }
}

impl RateUse {
    /// The counter's name. What stands in braces decides the slot of a cluster, and is the name of the owner's quota.
    pub(super) fn name(&self) -> String {
        let algorithm = match self.algorithm {
            Algorithm::Fixed => "f",
            Algorithm::Sliding => "s",
            Algorithm::Smooth { .. } => "g",
        };
        format!("stile-rate-{algorithm}-{{{}}}-{}", self.key.owner.as_str(), self.key.part)
    }

    pub(super) fn owner(&self) -> &Owner {
        &self.key.owner
    }
}

impl Take {
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.rates.len() > RATES_MAX {
            return Err(StoreError::Invalid("more than RATES_MAX rates"));
        }
        let is_twice =
            |(index, rate): (usize, &RateUse)| self.rates.iter().take(index).any(|other| other.key == rate.key);
        if self.rates.iter().enumerate().any(is_twice) {
            return Err(StoreError::Invalid("two rates with one key"));
        }
        Ok(())
    }
}

/// Braces and what a log would not show are spelled out: they come from sessions, and a brace moves a key to another slot.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '{' | '}' | '%' => {
                let _ = write!(plain, "%{:02X}", u32::from(character));
            }
            c if c.is_control() => {
                let _ = write!(plain, "%{:02X}", u32::from(c));
            }
            c => plain.push(c),
        }
    }
    plain
}

/// Rates of one [`Take`].
pub const RATES_MAX: usize = 8;
