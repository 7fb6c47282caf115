//! What a session may call, and which limits count there: its access rights, made ready once and asked for each request.
//!
//! Pure. [`Rights`] belongs beside the session that it was made of, in the cache that keeps both.

mod pattern;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use pattern::Patterns;

use pattern::{Budget, Pattern};

use crate::model::limit::{QuotaLimit, RateInvalid, RateLimit};
use crate::model::session::{AccessRight, Rate, Session};

/// The rights of a session, with their patterns compiled.
#[derive(Debug)]
pub struct Rights {
    /// `None` where the session names no API, which allows all of them.
    apis: Option<HashMap<String, Right>>,
    rate: Result<Pace, RateInvalid>,
    quota: Option<QuotaLimit>,
    problems: Vec<String>,
}

#[derive(Debug)]
struct Right {
    versions: Vec<String>,
    /// `None` allows every path.
    urls: Option<Vec<Url>>,
    /// An error where one of them cannot be used: what it limits would have no limit.
    endpoints: Result<Vec<Endpoint>, RateInvalid>,
    /// `None` leaves it to the session.
    rate: Option<Result<Pace, RateInvalid>>,
    /// `None` leaves it to the session; `Some(None)` is no limit.
    quota: Option<Option<QuotaLimit>>,
    scope: Arc<str>,
}

#[derive(Debug)]
struct Url {
    pattern: Pattern,
    methods: Vec<String>,
}

#[derive(Debug)]
struct Endpoint {
    pattern: Pattern,
    method: String,
    name: Arc<str>,
    rate: Result<Pace, RateInvalid>,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Call<'r> {
    /// The API's id.
    pub api: &'r str,
    /// The version that it asks for; `None` where the API has none.
    pub version: Option<&'r str>,
    /// The method, in upper case. `GET` does not imply `HEAD`.
    pub method: &'r str,
    /// The canonical path, with the version where the path names it.
    pub path: &'r str,
    /// The canonical path below the API's listen path, beginning with `/`, with the version where the path names it.
    pub stripped: &'r str,
}

/// Why a session may not make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Its rights do not name the API.
    #[error("the session has no right to the api")]
    Api,
    /// Its rights name other versions.
    #[error("the session has no right to the version of the api")]
    Version,
    /// Its rights name other paths, or the path with other methods.
    #[error("the session has no right to the path")]
    Path,
    /// A rate of it cannot be counted; without a limit it would be a right that nobody gave.
    #[error("the session has a rate that cannot be counted")]
    RateInvalid,
}

/// The limits of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The rate of the session on this API; `None` is no limit. Never beside `endpoint_rate`.
    pub rate: Option<RateLimit>,
    /// The rate of the endpoint, which counts instead of `rate`.
    pub endpoint_rate: Option<EndpointRate>,
    /// The quota; `None` is no limit.
    pub quota: Option<QuotaLimit>,
    /// Which of the session's counters: empty for the one of the session as a whole.
    pub scope: Arc<str>,
    /// Whether a call above the rate waits and tries again.
    pub throttle: Option<Throttle>,
}

/// The rate of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRate {
    /// Method and path as the right has them (`GET /orders`): the name of its counter.
    pub name: Arc<str>,
    /// The limit.
    pub limit: RateLimit,
}

/// A call above the rate waits, so many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// The time between two tries; at most a minute.
    pub interval: Duration,
    /// Tries after the first; at most 100.
    pub retries: u32,
}

/// A rate, ready to be counted.
#[derive(Debug, Clone, Copy)]
struct Pace {
    limit: Option<RateLimit>,
    throttle: Option<Throttle>,
}

impl Rights {
    /// Makes a session's rights ready. `patterns` is shared by all sessions, as most have theirs from the same policies.
    ///
    /// What cannot be used grants nothing and is told in [`Rights::problems`]: a pattern that is no regular expression, or
    /// more than 1,000 patterns or 64 KiB of them in one session. Where the pattern is of an endpoint's rate, the right to the
    /// API as a whole grants nothing.
    pub fn of(session: &Session, patterns: &Patterns) -> Self {
        let mut budget = Budget::default();
        let mut problems = Vec::new();
        let mut pattern = |text: &str| match patterns.get(text, &mut budget) {
            Ok(pattern) => Some(pattern),
            Err(problem) => {
                if problems.len() < PROBLEMS_MAX {
                    problems.push(problem);
                }
                None
            }
        };
        let apis = session.access_rights.iter().map(|right| (right.api_id.clone(), Right::of(right, &mut pattern)));
        let apis = (!session.access_rights.is_empty()).then(|| apis.collect());
        Self { apis, rate: Pace::of(&session.rate), quota: QuotaLimit::of(&session.quota), problems }
    }

    /// What of the session could not be used, for the log.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Whether the session may make the call.
    ///
    /// Paths match as regular expressions that begin where the path begins, against the whole path and against the one below
    /// the listen path. Tyk looks for a match anywhere in the whole path, so that a right to `/public` also opens
    /// `/private/public`; here it does not. The end is open, as in Tyk: write `$` to close it.
    ///
    /// # Errors
    /// It may not; see [`Denied`].
    pub fn check(&self, call: &Call<'_>) -> Result<(), Denied> {
        let Some(right) = self.right(call.api)? else { return Ok(()) };
        let is_version = |version: &str| right.versions.is_empty() || right.versions.iter().any(|of| of == version);
        if !call.version.is_none_or(is_version) {
            return Err(Denied::Version);
        }
        let Some(urls) = &right.urls else { return Ok(()) };
        let allows = |url: &Url| url.methods.iter().any(|method| method == call.method) && url.pattern.matches(call);
        if urls.iter().any(allows) { Ok(()) } else { Err(Denied::Path) }
    }

    /// The limits that count for a call, the narrower before the wider as in Tyk: the rate of the first endpoint of the right
    /// that matches method and path, otherwise the right's own, otherwise the session's. Quota: the right's own, otherwise the
    /// session's. A limit that is there and negative is no limit, and the wider one does not count either.
    ///
    /// Unlike in Tyk a right with a quota of its own and no rate takes the session's rate, not none.
    ///
    /// # Errors
    /// The session has no right to the API, or the rate cannot be counted.
    pub fn limits_for(&self, call: &Call<'_>) -> Result<Limits, Denied> {
        let right = self.right(call.api)?;
        let of_right = right.and_then(|right| right.rate.as_ref()).unwrap_or(&self.rate);
        let endpoints = match right.map(|right| &right.endpoints) {
            Some(Ok(endpoints)) => endpoints.as_slice(),
            Some(Err(RateInvalid)) => return Err(Denied::RateInvalid),
            None => &[],
        };
        let endpoint = endpoints.iter().find(|endpoint| endpoint.takes(call));
        let pace = endpoint.map_or(of_right, |endpoint| &endpoint.rate).map_err(|RateInvalid| Denied::RateInvalid)?;
        let name = endpoint.map(|endpoint| Arc::clone(&endpoint.name));
        Ok(Limits {
            rate: pace.limit.filter(|_| name.is_none()),
            endpoint_rate: name.zip(pace.limit).map(|(name, limit)| EndpointRate { name, limit }),
            quota: right.and_then(|right| right.quota).unwrap_or(self.quota),
            scope: right.map(|right| Arc::clone(&right.scope)).unwrap_or_default(),
            throttle: pace.throttle,
        })
    }

    fn right(&self, api: &str) -> Result<Option<&Right>, Denied> {
        match &self.apis {
            None => Ok(None),
            Some(apis) => apis.get(api).map(Some).ok_or(Denied::Api),
        }
    }
}

impl Right {
    fn of(right: &AccessRight, pattern: &mut impl FnMut(&str) -> Option<Pattern>) -> Self {
        let urls = right
            .allowed_urls
            .iter()
            .filter_map(|url| Some(Url { pattern: pattern(&url.url)?, methods: url.methods.clone() }));
        // A list of which nothing can be used allows nothing.
        let urls = if right.allowed_urls.is_empty() { None } else { Some(urls.collect()) };
        let endpoints = right.endpoints.iter().map(|endpoint| {
            // A limit is not lost to a small letter.
            let method = endpoint.method.to_ascii_uppercase();
            Ok(Endpoint {
                pattern: pattern(&endpoint.path).ok_or(RateInvalid)?,
                name: format!("{method} {}", endpoint.path).into(),
                method,
                rate: Pace::of(&endpoint.rate),
            })
        });
        Self {
            versions: right.versions.clone(),
            urls,
            endpoints: endpoints.collect(),
            rate: right.rate.as_ref().map(Pace::of),
            quota: right.quota.as_ref().map(QuotaLimit::of),
            scope: right.allowance_scope.as_str().into(),
        }
    }
}

impl Endpoint {
    fn takes(&self, call: &Call<'_>) -> bool {
        self.method == call.method && self.pattern.matches(call)
    }
}

impl Pace {
    fn of(rate: &Rate) -> Result<Self, RateInvalid> {
        let limit = RateLimit::of(rate)?;
        let interval = Duration::try_from_secs_f64(rate.throttle_interval).unwrap_or_default();
        let retries = u32::try_from(rate.throttle_retries).unwrap_or_default();
        let waits = limit.is_some() && !interval.is_zero() && retries > 0;
        let throttle = Throttle { interval: interval.min(THROTTLE_MAX), retries: retries.min(RETRIES_MAX) };
        Ok(Self { limit, throttle: waits.then_some(throttle) })
    }
}

const PROBLEMS_MAX: usize = 10;
const THROTTLE_MAX: Duration = Duration::from_secs(60);
const RETRIES_MAX: u32 = 100;

#[cfg(test)]
mod tests;
