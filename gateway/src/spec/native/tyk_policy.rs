//! Tyk's policies from files: `policies.json`, a map by id, or a folder with one policy in each JSON file.
//!
//! What is asked for there and not done here is an error where leaving it out would allow more than Tyk does.

use std::path::Path;
use std::rc::Rc;

use serde_json::Value;

use super::file::{read_text, sibling};
use super::policy::{self as ours, is_countable};
use super::report::{Place, Report, Source};
use super::twice::Claims;
use crate::model::pattern;
use crate::model::policy::{Partitions, Policy, PolicyId};
use crate::model::session::AccessRight;
use crate::tyk::policy;

/// Reads a file or folder. `None` for a policy that has a problem.
pub(super) fn read(
    path: &Path,
    place: &Place,
    claims: &mut Claims,
    report: &mut Report,
) -> Vec<(Place, Option<Policy>)> {
    let path = sibling(place, path);
    if !path.is_dir() {
        let Some((root, value)) = parse(&path, report) else { return Vec::new() };
        let Value::Object(policies) = value else {
            report.error(&root, "expected a map of policies by id", "a folder takes one policy in each file");
            return Vec::new();
        };
        let one = |(id, value): (String, Value)| one(value, &id, root.key(&id), claims, report);
        return policies.into_iter().map(one).collect();
    }
    report.source(&path);
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
        found.push(one(value, &id, root, claims, report));
    }
    found
}

fn is_json(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn parse(file: &Path, report: &mut Report) -> Option<(Place, Value)> {
    let source = Source { file: file.to_owned(), ..Source::default() };
    let root = Place::root(Rc::new(source));
    report.source(file);
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

fn one(mut value: Value, id: &str, place: Place, claims: &mut Claims, report: &mut Report) -> (Place, Option<Policy>) {
    let id = ours::id(id, &place, claims, report);
    let wrong = policy::take_wrong(&mut value);
    let is_good = id.is_some() && wrong.is_empty();
    for field in wrong {
        let place = field.path.iter().fold(place.clone(), |place, key| place.key(key));
        report.error(&place, format!("is no policy of Tyk: {}", field.reason), "as Tyk's control API shows policies");
    }
    // One without a good id is looked at all the same, and so is what is left of one.
    let policy = id.or_else(|| PolicyId::parse("unnamed").ok()).and_then(|id| policy::of(id, value).ok());
    let problems = policy.as_ref().map(|policy| problems(policy, &place)).unwrap_or_default();
    let is_good = is_good && problems.is_empty();
    for (place, message) in problems {
        report.error(&place, message, "");
    }
    (place, policy.filter(|_| is_good))
}

/// What would allow more than in Tyk, or cannot be counted.
fn problems(policy: &Policy, place: &Place) -> Vec<(Place, String)> {
    let mut problems = Vec::new();
    for key in ["hmac_enabled", "enable_http_signature_validation"] {
        if extra(&policy.extra, key) == Some(Value::Bool(true)) {
            problems.push((place.key(key), "requests that are signed are not supported".to_owned()));
        }
    }
    let Partitions { quota, rate_limit, acl, complexity, per_api } = policy.partitions;
    let is_partitioned = quota || rate_limit || acl || complexity;
    if per_api && is_partitioned {
        problems.push((place.key("partitions"), "`per_api` stands beside others".to_owned()));
    }
    if !is_countable(&policy.rate) && (rate_limit || !is_partitioned) {
        problems.push((place.key("per"), "the rate cannot be counted: its period is not above zero".to_owned()));
    }
    for right in &policy.access_rights {
        problems_of_right(right, &place.key("access_rights").key(&right.api_id), &mut problems);
    }
    problems
}

fn problems_of_right(right: &AccessRight, place: &Place, problems: &mut Vec<(Place, String)>) {
    for key in ["restricted_types", "allowed_types", "field_access_rights", "json_rpc_methods", "mcp_primitives"] {
        if extra(&right.extra, key).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
            problems.push((place.key(key), "is not supported, and would allow more if it were left out".to_owned()));
        }
    }
    if extra(&right.extra, "disable_introspection") == Some(Value::Bool(true)) {
        problems.push((place.key("disable_introspection"), "is not supported".to_owned()));
    }
    for (index, url) in right.allowed_urls.iter().enumerate() {
        let place = place.key("allowed_urls").item(index).key("url");
        if url.url.is_empty() {
            problems.push((place, "is missing: every path would match".to_owned()));
        } else if let Err(error) = pattern::compile(&url.url) {
            problems.push((place, format!("is no regular expression: {error}")));
        }
    }
    if right.endpoints.iter().any(|endpoint| endpoint.path.is_empty() || endpoint.method.is_empty()) {
        problems.push((place.key("endpoints"), "one has no `path`, or a method of it no `name`".to_owned()));
    }
    let rates = right.rate.iter().chain(right.endpoints.iter().map(|endpoint| &endpoint.rate));
    if !rates.into_iter().all(is_countable) {
        problems.push((place.clone(), "a rate cannot be counted: its period is not above zero".to_owned()));
    }
}

/// A field that nobody reads.
fn extra(fields: &[(String, Vec<u8>)], name: &str) -> Option<Value> {
    let (_, bytes) = fields.iter().find(|(known, _)| known == name)?;
    serde_json::from_slice(bytes).ok()
}
