//! Rates and quotas: what a request counts against, and what its answer says of that.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::access;
use super::exchange::{Exchange, Flow};
use super::reject::Reject;
use super::rights::{EndpointRate, Throttle};
use crate::model::api::{RateHeaders, Rates};
use crate::model::limit::QuotaLimit;
use crate::model::store::Away;
use crate::store::{Allowance, Owner, QuotaUse, RateUse, Take, Verdict};
use crate::telemetry::flood::Flood;

/// What of an allowance an answer tells.
#[derive(Debug)]
pub struct Told {
    allowance: Allowance,
    headers: RateHeaders,
    /// The period of the first rate.
    period: Duration,
    /// When it was counted, in milliseconds since 1970.
    now_ms: u64,
}

/// What an answer tells of one rate.
#[derive(Debug, Clone, Copy)]
pub struct RateTold {
    /// In which fields.
    pub headers: RateHeaders,
    /// Requests in the period.
    pub limit: u64,
    /// The period.
    pub period: Duration,
    /// Requests that are left.
    pub remaining: u64,
    /// When there are more.
    pub reset: Duration,
    /// When it was counted, in milliseconds since 1970.
    pub now_ms: u64,
}

/// Counts the request against the rates and the quota of its caller, and the rate of its API.
pub async fn check(rates: &Rates, exchange: &mut Exchange) -> Result<Flow, Reject> {
    let Uses { take, of_api, throttle } = uses(rates, exchange)?;
    if take.rates.is_empty() && take.quota.is_none() {
        return Ok(Flow::Next);
    }
    let period_of = |by: usize| take.rates.get(by).map(|rate| Duration::from_micros(rate.limit.per_us()));
    let mut tries = throttle.map_or(0, |throttle| throttle.retries);
    loop {
        let Some(verdict) = count(&take, exchange).await? else { return Ok(Flow::Next) };
        match verdict {
            Verdict::Allowed(allowance) => {
                if rates.headers != RateHeaders::Off {
                    let (headers, period) = (rates.headers, period_of(0).unwrap_or_default());
                    let now_ms = exchange.core.clock.now_ms();
                    exchange.told = Some(Box::new(Told { allowance, headers, period, now_ms }));
                }
                return Ok(Flow::Next);
            }
            Verdict::QuotaExceeded(state) => return Err(Reject::QuotaExceeded { renews_ms: state.renews_ms }),
            Verdict::Limited { by, limit, retry_after } => {
                let is_of_api = of_api == Some(by);
                // A caller who is throttled waits, as long as the request may take.
                if let Some(throttle) = throttle
                    && tries > 0
                    && !is_of_api
                    && Instant::now() + throttle.interval < exchange.deadline()
                {
                    tries -= 1;
                    tokio::time::sleep(throttle.interval).await;
                    continue;
                }
                let period = period_of(by).unwrap_or_default();
                let now_ms = exchange.core.clock.now_ms();
                let headers = rates.headers;
                let rate = RateTold { headers, limit, period, remaining: 0, reset: retry_after, now_ms };
                return Err(Reject::RateLimited { of_api: is_of_api, rate });
            }
        }
    }
}

/// Counts once; nothing where the store is away and nobody counts.
async fn count(take: &Take, exchange: &Exchange) -> Result<Option<Verdict>, Reject> {
    let core = &exchange.core;
    match core.store.take(take).await {
        Ok(verdict) => {
            core.store_answered();
            if let Some(untold) = UNCOUNTED.end(|| core.clock.now_ms()) {
                tracing::info!(untold, "limits are counted by the store again");
            }
            Ok(Some(verdict))
        }
        Err(error) if error.is_away() && core.away != Away::Deny => {
            if let Some(requests) = UNCOUNTED.begin(core.clock.now_ms()) {
                let away = core.away.as_str();
                tracing::warn!(requests, %error, away, "limits are not counted by the store, but as `store.away` says");
            }
            match core.away {
                Away::Allow => Ok(None),
                Away::Local | Away::Deny => core.store.take_locally(take).map(Some).map_err(Reject::Store),
            }
        }
        Err(error) => Err(Reject::Store(error)),
    }
}

static UNCOUNTED: Flood = Flood::new();

/// What a request counts against.
struct Uses {
    take: Take,
    /// Which of the rates is the API's own.
    of_api: Option<usize>,
    throttle: Option<Throttle>,
}

fn uses(rates: &Rates, exchange: &Exchange) -> Result<Uses, Reject> {
    let mut take = Take::default();
    let mut throttle = None;
    let (api, algorithm) = (&exchange.plan.api, rates.algorithm);
    if let Some(caller) = exchange.caller.as_deref() {
        let limits = exchange.as_call(|call| caller.rights.limits_for(call)).map_err(access::denied)?;
        let owner = Owner::session(&caller.key, Some(&limits.scope));
        if let Some(EndpointRate { name, limit }) = limits.endpoint_rate {
            take.rates.push(RateUse { key: owner.rate(Some(&name)), limit, algorithm });
        }
        if let Some(limit) = limits.rate {
            // Rights of one scope may have several periods, and a counter has one: another would begin it anew.
            let part = (!limits.scope.is_empty()).then(|| format!("per {} us", limit.per_us()));
            take.rates.push(RateUse { key: owner.rate(part.as_deref()), limit, algorithm });
        }
        let made = caller.made.as_ref();
        // Nobody can say which of a plugin's callers come back: what they used is not remembered for ever.
        let lasting = |limit: QuotaLimit| made.map_or(limit, |made| limit.renewing_after(made.quota_life));
        take.quota = limits.quota.map(|limit| QuotaUse { owner, limit: lasting(limit) });
        take.share = made.map(|made| made.share.clone());
        throttle = limits.throttle;
    }
    let of_api = rates.api.map(|limit| {
        take.rates.push(RateUse { key: Owner::api(&api.id).rate(None), limit, algorithm });
        take.rates.len() - 1
    });
    Ok(Uses { take, of_api, throttle })
}

impl Told {
    /// Writes what is left into an answer. An upstream's own fields of these names are about something else and go.
    pub fn write(&self, headers: &mut HeaderMap) {
        if self.headers == RateHeaders::Quota
            && let Some(quota) = self.allowance.quota
        {
            write_tyks(headers, quota.max, quota.remaining, quota.renews_ms.unwrap_or(0) / 1000);
        }
        if let Some(rate) = self.allowance.rates.first() {
            let (limit, remaining, reset) = (rate.limit, rate.remaining, rate.reset);
            let (period, now_ms) = (self.period, self.now_ms);
            RateTold { headers: self.headers, limit, period, remaining, reset, now_ms }.write(headers);
        }
    }
}

impl RateTold {
    /// Writes it into an answer.
    pub fn write(&self, headers: &mut HeaderMap) {
        match self.headers {
            RateHeaders::Off => return,
            RateHeaders::Quota => {}
            RateHeaders::Rate => {
                let reset = Duration::from_millis(self.now_ms).saturating_add(self.reset);
                write_tyks(headers, self.limit, self.remaining, seconds(reset));
            }
        }
        // Of draft-ietf-httpapi-ratelimit-headers: what is allowed, what is left, and in how many seconds all is.
        let policy = format!("\"rate\";q={};w={}", self.limit, seconds(self.period).max(1));
        let state = format!("\"rate\";r={};t={}", self.remaining, seconds(self.reset));
        for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }
}

/// Tyk's fields. The reset is in seconds since 1970, of a quota and of a rate.
fn write_tyks(headers: &mut HeaderMap, limit: u64, remaining: u64, reset: u64) {
    for (name, number) in [(X_LIMIT, limit), (X_REMAINING, remaining), (X_RESET, reset)] {
        headers.insert(name, number.into());
    }
}

/// Whole seconds, rounded up: one who waits so long has waited long enough.
pub fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
