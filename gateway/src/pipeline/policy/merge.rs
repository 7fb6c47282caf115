//! What several policies say together, in a way that no order of them can change.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{PolicyError, is_partitioned};
use crate::model::limit::RateLimit;
use crate::model::policy::Policy;
use crate::model::session::{AccessRight, AllowedUrl, EndpointLimit, Quota, Rate, Session};

/// What the policies say together.
#[derive(Default)]
pub(super) struct Merged<'p> {
    apis: BTreeMap<&'p str, Grant<'p>>,
    /// The highest limits of all, for the session itself.
    root: Limits,
    sets_rate: bool,
    sets_quota: bool,
    sets_depth: bool,
}

/// What they say of one API.
#[derive(Default)]
struct Grant<'p> {
    /// The right, without limits; `None` where policies set limits and none grants the API.
    right: Option<AccessRight>,
    limits: Limits,
    endpoints: BTreeMap<(&'p str, &'p str), Rate>,
    /// The last policy that grants it, by id.
    owner: &'p str,
    /// The counter that `per_api` gives it.
    own_scope: Option<&'p str>,
}

/// Limits of which zero means not set.
#[derive(Default)]
struct Limits {
    rate: Rate,
    quota: Quota,
    depth: i64,
}

impl<'p> Merged<'p> {
    pub(super) fn of(policies: &[&'p Policy]) -> Result<Self, PolicyError> {
        let mut sorted = policies.to_vec();
        sorted.sort_by(|a, b| a.id.cmp(&b.id));
        let mut merged = Self::default();
        for policy in sorted {
            merged.check_rates(policy)?;
            if policy.partitions.per_api { merged.add_per_api(policy) } else { merged.add(policy) }
        }
        Ok(merged)
    }

    pub(super) fn grants_nothing(&self) -> bool {
        self.apis.values().all(|grant| grant.right.is_none())
    }

    fn check_rates(&self, policy: &Policy) -> Result<(), PolicyError> {
        if is_partitioned(policy.partitions) && !policy.partitions.rate_limit {
            return Ok(());
        }
        let of_apis = policy
            .access_rights
            .iter()
            .flat_map(|right| right.rate.iter().chain(right.endpoints.iter().map(|endpoint| &endpoint.rate)));
        let is_good = std::iter::once(&policy.rate).chain(of_apis).all(|rate| RateLimit::of(rate).is_ok());
        if is_good { Ok(()) } else { Err(PolicyError::RateInvalid(policy.id.to_string())) }
    }

    fn add(&mut self, policy: &'p Policy) {
        let all = !is_partitioned(policy.partitions);
        let partitions = policy.partitions;
        let (rate, quota) = (all || partitions.rate_limit, all || partitions.quota);
        let (acl, depth) = (all || partitions.acl, all || partitions.complexity);
        self.sets_rate |= rate;
        self.sets_quota |= quota;
        self.sets_depth |= depth;
        if rate {
            raise_rate(&mut self.root.rate, &policy.rate);
        }
        if quota {
            raise_quota(&mut self.root.quota, &policy.quota);
        }
        if depth {
            raise(&mut self.root.depth, policy.max_query_depth);
        }
        for right in &policy.access_rights {
            let grant = self.apis.entry(&right.api_id).or_default();
            if acl {
                grant.join(right, policy);
            }
            if rate {
                raise_rate(&mut grant.limits.rate, &policy.rate);
                raise_rate(&mut grant.limits.rate, &right.rate.unwrap_or_default());
                grant.join_endpoints(&right.endpoints);
            }
            if quota {
                raise_quota(&mut grant.limits.quota, &policy.quota);
                raise_quota(&mut grant.limits.quota, &right.quota.unwrap_or_default());
            }
            if depth {
                raise(&mut grant.limits.depth, policy.max_query_depth);
                raise(&mut grant.limits.depth, right.max_query_depth.unwrap_or_default());
            }
        }
    }

    /// An API's own limits where it has some, otherwise those of the policy, which its APIs share.
    fn add_per_api(&mut self, policy: &'p Policy) {
        (self.sets_rate, self.sets_quota, self.sets_depth) = (true, true, true);
        for right in &policy.access_rights {
            let grant = self.apis.entry(&right.api_id).or_default();
            grant.join(right, policy);
            grant.join_endpoints(&right.endpoints);
            let has_own = right.rate.is_some() || right.quota.is_some() || right.max_query_depth.is_some();
            let (rate, quota, depth) = if has_own {
                let depth = right.max_query_depth.unwrap_or_default();
                (right.rate.unwrap_or_default(), right.quota.unwrap_or_default(), depth)
            } else {
                (policy.rate, policy.quota, policy.max_query_depth)
            };
            raise_rate(&mut grant.limits.rate, &rate);
            raise_quota(&mut grant.limits.quota, &quota);
            raise(&mut grant.limits.depth, depth);
            if has_own {
                grant.own_scope = Some(&right.api_id);
            } else {
                grant.own_scope.get_or_insert(policy.id.as_str());
            }
        }
    }

    pub(super) fn write(self, session: &mut Session) {
        if self.sets_rate {
            session.rate = self.root.rate;
        }
        if self.sets_quota {
            session.quota = with_counts(&self.root.quota, &session.quota);
        }
        if self.sets_depth {
            session.max_query_depth = self.root.depth;
        }
        let granted = self.apis.values().filter(|grant| grant.right.is_some());
        let mut owners: Vec<&str> = granted.map(|grant| grant.owner).collect();
        owners.dedup();
        let has_one_owner = owners.iter().all(|owner| owners.first() == Some(owner));
        let before = std::mem::take(&mut session.access_rights);
        for (api_id, grant) in self.apis {
            let counted = before.iter().find(|right| right.api_id == api_id).and_then(|right| right.quota);
            session.access_rights.extend(grant.finish(has_one_owner, counted.unwrap_or_default()));
        }
        if let [only] = session.access_rights.as_slice() {
            // As in Tyk, where one API is all there is, the session shows its limits.
            session.rate = only.rate.unwrap_or(session.rate);
            session.quota = only.quota.map_or(session.quota, |quota| with_counts(&quota, &session.quota));
            session.max_query_depth = only.max_query_depth.unwrap_or(session.max_query_depth);
        }
    }
}

impl<'p> Grant<'p> {
    fn join(&mut self, right: &AccessRight, policy: &'p Policy) {
        self.owner = policy.id.as_str();
        let own =
            self.right.get_or_insert_with(|| AccessRight { api_id: right.api_id.clone(), ..AccessRight::default() });
        for (mine, other) in [(&mut own.api_name, &right.api_name), (&mut own.allowance_scope, &right.allowance_scope)]
        {
            if mine.is_empty() {
                mine.clone_from(other);
            }
        }
        add_missing(&mut own.versions, &right.versions);
        for url in &right.allowed_urls {
            match own.allowed_urls.iter_mut().find(|known| known.url == url.url) {
                Some(known) => add_missing(&mut known.methods, &url.methods),
                None => own.allowed_urls.push(AllowedUrl::clone(url)),
            }
        }
        for (name, value) in &right.extra {
            if !own.extra.iter().any(|(known, _)| known == name) {
                own.extra.push((name.clone(), value.clone()));
            }
        }
    }

    fn join_endpoints(&mut self, limits: &'p [EndpointLimit]) {
        for limit in limits {
            let rate = self.endpoints.entry((&limit.path, &limit.method)).or_insert(limit.rate);
            raise_rate(rate, &limit.rate);
        }
    }

    fn finish(self, has_one_owner: bool, counted: Quota) -> Option<AccessRight> {
        let mut right = self.right?;
        if let Some(scope) = self.own_scope {
            scope.clone_into(&mut right.allowance_scope);
        } else if right.allowance_scope.is_empty() && !has_one_owner {
            // Rights of several policies are counted apart.
            self.owner.clone_into(&mut right.allowance_scope);
        }
        let Limits { rate, quota, depth } = self.limits;
        right.rate = (rate != Rate::default()).then_some(rate);
        right.quota = (quota != Quota::default()).then(|| with_counts(&quota, &counted));
        right.max_query_depth = (depth != 0).then_some(depth);
        let endpoint = |((path, method), rate): ((&str, &str), Rate)| EndpointLimit {
            path: path.to_owned(),
            method: method.to_owned(),
            rate,
        };
        right.endpoints = self.endpoints.into_iter().map(endpoint).collect();
        Some(right)
    }
}

/// A limit, with what is left of an older one.
const fn with_counts(limit: &Quota, counted: &Quota) -> Quota {
    Quota { max: limit.max, renewal_rate: limit.renewal_rate, remaining: counted.remaining, renews: counted.renews }
}

fn raise_rate(highest: &mut Rate, other: &Rate) {
    let throttle_interval = highest.throttle_interval.max(other.throttle_interval);
    let throttle_retries = highest.throttle_retries.max(other.throttle_retries);
    if compare(other, highest) == Ordering::Greater {
        *highest = *other;
    }
    highest.throttle_interval = throttle_interval;
    highest.throttle_retries = throttle_retries;
}

/// Rates by requests in a second. Among equal ones every field decides, so that the order of policies does not.
fn compare(one: &Rate, two: &Rate) -> Ordering {
    let class = |rate: &Rate| if rate.requests < 0.0 { 2 } else { i32::from(rate.requests > 0.0) };
    let speed = |rate: &Rate| if rate.requests > 0.0 { rate.requests / rate.per_seconds } else { 0.0 };
    // A rate that does not move is above one that does.
    let smoothing = |rate: &Rate| {
        rate.smoothing.map_or([f64::INFINITY; 4], |smoothing| {
            #[expect(clippy::cast_precision_loss, reason = "it breaks ties only")]
            [smoothing.threshold as f64, smoothing.step as f64, smoothing.trigger, smoothing.delay_seconds as f64]
        })
    };
    let numbers = |rate: &Rate| {
        let [threshold, step, trigger, delay] = smoothing(rate);
        [speed(rate), rate.requests, rate.per_seconds, threshold, step, trigger, delay]
    };
    class(one).cmp(&class(two)).then_with(|| {
        let pairs = numbers(one).into_iter().zip(numbers(two));
        pairs.map(|(one, two)| one.total_cmp(&two)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    })
}

fn raise_quota(highest: &mut Quota, other: &Quota) {
    raise(&mut highest.max, other.max);
    highest.renewal_rate = highest.renewal_rate.max(other.renewal_rate);
}

/// The higher of two numbers of which a negative one means no bound.
fn raise(highest: &mut i64, other: i64) {
    *highest = match (*highest < 0, other < 0) {
        (true, true) => (*highest).min(other),
        (false, false) => (*highest).max(other),
        (true, false) => *highest,
        (false, true) => other,
    };
}

fn add_missing(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}
