//! Policies, from raw to model, and the rules that all of them keep, Tyk's too.

use std::collections::BTreeSet;
use std::path::Path;

use super::file::parse_file;
use super::raw_policy::{self as raw, Partition};
use super::report::{Place, Report};
use super::twice::Claims;
use super::{Environment, POLICIES, include, tyk_policy};
use crate::model::limit::RateLimit;
use crate::model::pattern;
use crate::model::policy::{Partitions, Policy, PolicyId};
use crate::model::session::{AccessRight, AllowedUrl, EndpointLimit, Quota, Rate};

/// The policies of the files that the main file names.
pub(super) fn from_files(
    files: &raw::PolicyFiles,
    place: &Place,
    environment: Environment<'_>,
    claims: &mut Claims,
    report: &mut Report,
) -> Vec<(Place, Option<Policy>)> {
    let mut found = Vec::new();
    if let Some(pattern) = &files.file {
        for file in include::files(pattern, &place.key("file"), report) {
            let parsed = parse_file::<raw::PolicyFile>(&file, &POLICIES, environment, report);
            let policies = parsed.map(|mut parsed| parsed.definitions().policies).unwrap_or_default();
            found.extend(policies.into_iter().map(|(place, raw)| {
                let policy = convert(raw, &place, claims, report);
                (place, policy)
            }));
        }
    }
    if let Some(file) = &files.tyk_file {
        found.extend(tyk_policy::read(Path::new(file), &place.key("tyk_file"), claims, report));
    }
    if files.file.is_none() && files.tyk_file.is_none() {
        report.error(place, "names no file", "one of `file`, `tyk_file`");
    }
    found
}

/// Converts one policy; `None` where it has a problem.
pub(super) fn convert(raw: raw::Policy, place: &Place, claims: &mut Claims, report: &mut Report) -> Option<Policy> {
    let id = id(&raw.id, place, claims, report);
    let mut report = Flagged { report, has_error: false };
    let partitions = partitions(&raw.partitions, &place.key("partitions"), &mut report);
    let rate = raw.rate.map(|raw| rate(raw, &place.key("rate"), &mut report)).unwrap_or_default();
    let quota = raw.quota.map(|raw| quota(raw, &place.key("quota"), &mut report)).unwrap_or_default();
    let access_rights: Vec<AccessRight> = raw
        .access
        .into_iter()
        .map(|(api, raw)| access(api.clone(), raw, &place.key("access").key(&api), &mut report))
        .collect();
    let id = id.filter(|_| !report.has_error && place.is_whole())?;
    Some(Policy {
        name: raw.name.unwrap_or_else(|| id.to_string()),
        organisation: raw.organisation,
        active: raw.active,
        inactive: raw.inactive,
        rate,
        quota,
        max_query_depth: raw.max_query_depth.unwrap_or_default(),
        access_rights,
        tags: raw.tags,
        metadata: raw.metadata,
        partitions,
        key_expires_in: raw.key_expires_in_seconds.into(),
        ..Policy::new(id)
    })
}

/// The id of a policy, which it wants for itself alone.
pub(super) fn id(text: &str, place: &Place, claims: &mut Claims, report: &mut Report) -> Option<PolicyId> {
    let id_place = place.key("id");
    let hint = "1 to 256 bytes without control characters";
    let id = PolicyId::parse(text).map_err(|e| report.invalid(&id_place, text, "an id", e, hint)).ok()?;
    if id_place.is_sound() {
        claims.policy(place, id.clone());
    }
    Some(id)
}

/// What is allowed and may not be what was meant: APIs that are not there, limits that bound nothing.
pub(super) fn check(policies: &[(Place, Policy)], apis: Option<&BTreeSet<&str>>, report: &mut Report) {
    for (place, policy) in policies {
        let depths = policy.access_rights.iter().filter_map(|right| right.max_query_depth);
        if depths.chain([policy.max_query_depth]).any(|depth| depth > 0) {
            report.warn(
                place,
                "`max_query_depth` is kept and shown, and bounds nothing",
                "queries of GraphQL are not read here",
            );
        }
        for right in policy.access_rights.iter().filter(|right| is_overruled(policy, right)) {
            let message = format!("its own limits for `{}` are below the policy's", right.api_id.escape_debug());
            report.warn(
                place,
                message,
                "the highest counts: with `partitions: [per_api]` each API has those of its own",
            );
        }
        for right in &policy.access_rights {
            if apis.is_some_and(|apis| !apis.contains(right.api_id.as_str())) {
                let message = format!("no API has the id `{}`", right.api_id.escape_debug());
                report.warn(place, message, "sessions with the policy get no right by that");
            }
        }
    }
}

/// Whether a right has a limit of its own that never counts, because the policy's is higher.
fn is_overruled(policy: &Policy, right: &AccessRight) -> bool {
    let Partitions { quota, rate_limit, acl, complexity, per_api } = policy.partitions;
    let is_whole = !(quota || rate_limit || acl || complexity);
    let is_above = |policy: f64, own: f64| policy < 0.0 || (own > 0.0 && policy > own);
    let by_second = |rate: &Rate| rate.requests / rate.per_seconds.max(f64::MIN_POSITIVE);
    let rate = right.rate.as_ref().filter(|own| (is_whole || rate_limit) && own.requests > 0.0);
    let quotas = right.quota.as_ref().filter(|own| (is_whole || quota) && own.max > 0);
    let is_rate_below = rate.is_some_and(|own| is_above(by_second(&policy.rate), by_second(own)));
    let is_quota_below = quotas.is_some_and(|own| policy.quota.max < 0 || policy.quota.max > own.max);
    !per_api && (is_rate_below || is_quota_below)
}

struct Flagged<'r> {
    report: &'r mut Report,
    has_error: bool,
}

impl Flagged<'_> {
    fn error(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        self.has_error = true;
        self.report.error(place, message, hint);
    }
}

fn partitions(raw: &[Partition], place: &Place, report: &mut Flagged<'_>) -> Partitions {
    let has = |partition| raw.contains(&partition);
    if has(Partition::PerApi) && raw.iter().any(|other| *other != Partition::PerApi) {
        report.error(place, "`per_api` stands beside others", "it sets all parts: leave the others out");
    }
    Partitions {
        quota: has(Partition::Quota),
        rate_limit: has(Partition::Rate),
        acl: has(Partition::Access),
        complexity: has(Partition::QueryDepth),
        per_api: has(Partition::PerApi),
    }
}

fn rate(raw: raw::Rate, place: &Place, report: &mut Flagged<'_>) -> Rate {
    #[expect(clippy::cast_precision_loss, reason = "the schema allows a thousand million")]
    let requests = raw.requests as f64;
    let rate = Rate {
        requests,
        per_seconds: raw.per_seconds,
        throttle_interval: raw.throttle_interval_seconds,
        throttle_retries: raw.throttle_retries.into(),
        smoothing: None,
    };
    if raw.requests == 0 {
        report.error(&place.key("requests"), "0 would mean no limit", "write -1 for any number of requests");
    } else if RateLimit::of(&rate).is_err() {
        report.error(place, "cannot be counted", "such as `{ requests: 100, per_seconds: 60 }`");
    }
    rate
}

fn quota(raw: raw::Quota, place: &Place, report: &mut Flagged<'_>) -> Quota {
    if raw.requests == 0 {
        report.error(&place.key("requests"), "0 would mean no limit", "write -1 for any number of requests");
    }
    Quota { max: raw.requests, renewal_rate: raw.renewal_seconds.into(), ..Quota::default() }
}

fn access(api_id: String, raw: raw::Access, place: &Place, report: &mut Flagged<'_>) -> AccessRight {
    let mut allowed_urls = Vec::new();
    for (index, url) in raw.paths.into_iter().enumerate() {
        let place = place.key("paths").item(index);
        path(&url.path, &place.key("path"), report);
        if url.methods.is_empty() {
            report.error(&place.key("methods"), "is empty: no request matches", "such as `[GET, HEAD]`");
        }
        for (index, name) in url.methods.iter().enumerate() {
            method(name, &place.key("methods").item(index), report);
        }
        allowed_urls.push(AllowedUrl { url: url.path, methods: url.methods });
    }
    let mut endpoints = Vec::new();
    for (index, endpoint) in raw.endpoints.into_iter().enumerate() {
        let place = place.key("endpoints").item(index);
        path(&endpoint.path, &place.key("path"), report);
        method(&endpoint.method, &place.key("method"), report);
        let rate = rate(endpoint.rate, &place.key("rate"), report);
        endpoints.push(EndpointLimit { path: endpoint.path, method: endpoint.method, rate });
    }
    AccessRight {
        api_id,
        versions: raw.versions,
        allowed_urls,
        rate: raw.rate.map(|raw| rate(raw, &place.key("rate"), report)),
        quota: raw.quota.map(|raw| quota(raw, &place.key("quota"), report)),
        max_query_depth: raw.max_query_depth,
        allowance_scope: raw.scope,
        endpoints,
        ..AccessRight::default()
    }
}

fn path(text: &str, place: &Place, report: &mut Flagged<'_>) {
    if let Err(error) = pattern::compile(text) {
        report.has_error = true;
        report.report.invalid(place, text, "a regular expression", error, "such as `/users/[0-9]+$`");
    }
}

fn method(text: &str, place: &Place, report: &mut Flagged<'_>) {
    let is_method = http::Method::from_bytes(text.as_bytes()).is_ok() && text == text.to_ascii_uppercase();
    if !is_method {
        report.has_error = true;
        report.report.invalid(place, text, "a method", "", "in upper case, such as `GET`");
    }
}
