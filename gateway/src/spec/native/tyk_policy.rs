//! Tyk's policies from files: `policies.json`, a map by id, or a folder with one policy in each JSON file.
//!
//! What is asked for there and not done here is an error where leaving it out would allow more than Tyk does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::file::{read_text, sibling};
use super::policy::is_countable;
use super::report::{Place, Report, Source};
use crate::model::pattern;
use crate::model::policy::{Partitions, Policy, PolicyId};
use crate::model::session::{AccessRight, AllowedUrl, EndpointLimit, Quota, Rate, RateSmoothing};

/// Reads a file or folder. `None` for a policy that has a problem.
pub(super) fn read(path: &Path, place: &Place, report: &mut Report) -> Vec<(Place, Option<Policy>)> {
    let path = sibling(place, path);
    if !path.is_dir() {
        let Some((root, value)) = parse(&path, report) else { return Vec::new() };
        let Value::Object(policies) = value else {
            report.error(&root, "expected a map of policies by id", "a folder takes one policy in each file");
            return Vec::new();
        };
        return policies.into_iter().map(|(id, value)| one(value, &id, root.key(&id), report)).collect();
    }
    let mut files = match std::fs::read_dir(&path) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|file| is_json(file)).collect(),
        Err(error) => {
            report.error(place, format!("the folder cannot be read: {error}"), "");
            Vec::new()
        }
    };
    files.sort();
    if files.is_empty() {
        report.warn(place, "the folder has no file that ends in `.json`", "");
    }
    let mut found = Vec::new();
    for file in files {
        let Some((root, value)) = parse(&file, report) else { continue };
        let own = ["id", "_id"].into_iter().find_map(|key| value.get(key)?.as_str().filter(|id| !id.is_empty()));
        let id = own.or_else(|| file.file_stem()?.to_str()).unwrap_or_default().to_owned();
        found.push(one(value, &id, root, report));
    }
    found
}

fn is_json(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn parse(file: &Path, report: &mut Report) -> Option<(Place, Value)> {
    let source = Source { file: file.to_owned(), folder: PathBuf::new(), secret: BTreeSet::new() };
    let root = Place::root(Rc::new(source));
    let text = read_text(file).map_err(|reason| report.error(&root, format!("cannot be read: {reason}"), "")).ok()?;
    match serde_json::from_str::<Value>(&text) {
        Ok(mut value) => {
            without_nulls(&mut value);
            Some((root, value))
        }
        Err(error) => {
            report.error(&root, format!("not valid JSON: {error}"), "");
            None
        }
    }
}

/// Go writes `null` for lists and maps that are not there.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

fn one(value: Value, id: &str, place: Place, report: &mut Report) -> (Place, Option<Policy>) {
    let policy = match serde_json::from_value::<TykPolicy>(value) {
        Ok(tyk) => convert(tyk, id, &place, report),
        Err(error) => {
            report.error(&place, format!("is no policy of Tyk: {error}"), "");
            None
        }
    };
    (place, policy)
}

fn convert(tyk: TykPolicy, id: &str, place: &Place, report: &mut Report) -> Option<Policy> {
    let parsed = PolicyId::parse(id).map_err(|e| report.invalid(&place.key("id"), id, "an id", e, "")).ok();
    let mut problems = Vec::new();
    for key in ["hmac_enabled", "enable_http_signature_validation"] {
        if tyk.extra.get(key) == Some(&Value::Bool(true)) {
            problems.push((place.key(key), "requests that are signed are not supported".to_owned()));
        }
    }
    let TykPartitions { quota, rate_limit, acl, complexity, per_api } = tyk.partitions;
    let partitions = Partitions { quota, rate_limit, acl, complexity, per_api };
    let is_partitioned = quota || rate_limit || acl || complexity;
    if per_api && is_partitioned {
        problems.push((place.key("partitions"), "`per_api` stands beside others".to_owned()));
    }
    if !is_countable(&tyk.limit.rate()) && (rate_limit || !is_partitioned) {
        problems.push((place.key("per"), "the rate cannot be counted: its period is not above zero".to_owned()));
    }
    let mut access_rights = Vec::new();
    for (api, right) in tyk.access_rights {
        access_rights.push(self::right(api.clone(), right, &place.key("access_rights").key(&api), &mut problems));
    }
    let has_problem = !problems.is_empty();
    for (place, message) in problems {
        report.error(&place, message, "");
    }
    let id = parsed.filter(|_| !has_problem)?;
    Some(Policy {
        name: tyk.name,
        organisation: tyk.org_id,
        active: tyk.active,
        inactive: tyk.is_inactive,
        rate: tyk.limit.rate(),
        quota: tyk.limit.quota(),
        max_query_depth: tyk.limit.max_query_depth,
        access_rights,
        tags: tyk.tags,
        metadata: tyk.meta_data,
        partitions,
        key_expires_in: tyk.key_expires_in,
        extra: tyk.extra.into_iter().map(|(name, value)| (name, value.to_string().into_bytes())).collect(),
        ..Policy::new(id)
    })
}

fn right(api_id: String, tyk: TykRight, place: &Place, problems: &mut Vec<(Place, String)>) -> AccessRight {
    for key in ["restricted_types", "allowed_types", "field_access_rights", "json_rpc_methods", "mcp_primitives"] {
        if tyk.extra.get(key).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
            problems.push((place.key(key), "is not supported, and would allow more if it were left out".to_owned()));
        }
    }
    if tyk.extra.get("disable_introspection") == Some(&Value::Bool(true)) {
        problems.push((place.key("disable_introspection"), "is not supported".to_owned()));
    }
    for (index, url) in tyk.allowed_urls.iter().enumerate() {
        if let Err(error) = pattern::compile(&url.url) {
            let place = place.key("allowed_urls").item(index).key("url");
            problems.push((place, format!("is no regular expression: {error}")));
        }
    }
    let (rate, quota, depth) = (tyk.limit.rate(), tyk.limit.quota(), tyk.limit.max_query_depth);
    let endpoints: Vec<EndpointLimit> = tyk
        .endpoints
        .into_iter()
        .flat_map(|endpoint| {
            let path = endpoint.path;
            endpoint.methods.into_iter().map(move |method| EndpointLimit {
                path: path.clone(),
                method: method.name,
                rate: method.limit.rate(),
            })
        })
        .collect();
    if !std::iter::once(&rate).chain(endpoints.iter().map(|endpoint| &endpoint.rate)).all(is_countable) {
        problems.push((place.clone(), "a rate cannot be counted: its period is not above zero".to_owned()));
    }
    AccessRight {
        api_id,
        api_name: tyk.api_name,
        versions: tyk.versions,
        allowed_urls: tyk.allowed_urls.into_iter().map(|u| AllowedUrl { url: u.url, methods: u.methods }).collect(),
        rate: (rate != Rate::default()).then_some(rate),
        quota: (quota != Quota::default()).then_some(quota),
        max_query_depth: (depth != 0).then_some(depth),
        allowance_scope: tyk.allowance_scope,
        endpoints,
        extra: Vec::new(),
    }
}

#[derive(Debug, Deserialize)]
struct TykPolicy {
    #[serde(default)]
    name: String,
    #[serde(default)]
    org_id: String,
    #[serde(default = "yes")]
    active: bool,
    #[serde(default)]
    is_inactive: bool,
    #[serde(default)]
    access_rights: BTreeMap<String, TykRight>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    meta_data: BTreeMap<String, Value>,
    #[serde(default)]
    partitions: TykPartitions,
    #[serde(default)]
    key_expires_in: i64,
    #[serde(flatten)]
    limit: TykLimit,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TykPartitions {
    quota: bool,
    rate_limit: bool,
    acl: bool,
    complexity: bool,
    per_api: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TykLimit {
    rate: f64,
    per: f64,
    throttle_interval: f64,
    throttle_retry_limit: i32,
    smoothing: TykSmoothing,
    quota_max: i64,
    quota_renewal_rate: i64,
    max_query_depth: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TykSmoothing {
    enabled: bool,
    threshold: i64,
    trigger: f64,
    step: i64,
    delay: i64,
}

#[derive(Debug, Deserialize)]
struct TykRight {
    #[serde(default)]
    api_name: String,
    #[serde(default)]
    versions: Vec<String>,
    #[serde(default)]
    allowed_urls: Vec<TykUrl>,
    #[serde(default)]
    limit: TykLimit,
    #[serde(default)]
    allowance_scope: String,
    #[serde(default)]
    endpoints: Vec<TykEndpoint>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct TykUrl {
    url: String,
    #[serde(default)]
    methods: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct TykEndpoint {
    path: String,
    #[serde(default)]
    methods: Vec<TykMethod>,
}

#[derive(Debug, Deserialize)]
struct TykMethod {
    name: String,
    #[serde(default)]
    limit: TykLimit,
}

impl TykLimit {
    fn rate(&self) -> Rate {
        let TykSmoothing { enabled, threshold, trigger, step, delay } = self.smoothing;
        Rate {
            requests: self.rate,
            per_seconds: self.per,
            throttle_interval: self.throttle_interval,
            throttle_retries: self.throttle_retry_limit,
            smoothing: enabled.then_some(RateSmoothing { threshold, trigger, step, delay_seconds: delay }),
        }
    }

    fn quota(&self) -> Quota {
        Quota { max: self.quota_max, renewal_rate: self.quota_renewal_rate, ..Quota::default() }
    }
}
