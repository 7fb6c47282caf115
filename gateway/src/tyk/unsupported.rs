//! What is asked for in Tyk's JSON and not done here, where leaving it out would allow more than Tyk does, and what cannot be
//! used at all.

use std::fmt;

use serde_json::Value;

use crate::model::limit::RateLimit;
use crate::model::pattern;
use crate::model::policy::{Partitions, Policy};
use crate::model::session::AccessRight;

/// Something of a policy or a session that cannot be had.
#[derive(Debug)]
pub struct Unsupported {
    /// Where it stands.
    pub path: Vec<Step>,
    /// What is wrong with it.
    pub reason: String,
}

/// A step of a path in JSON.
#[derive(Debug, Clone)]
pub enum Step {
    /// Into an object.
    Key(String),
    /// Into a list.
    Item(usize),
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.path.iter().enumerate() {
            match step {
                Step::Key(key) if index == 0 => write!(f, "`{}", key.escape_debug())?,
                Step::Key(key) => write!(f, ".{}", key.escape_debug())?,
                Step::Item(item) => write!(f, "[{item}]")?,
            }
        }
        write!(f, "`: {}", self.reason)
    }
}

/// What of a policy cannot be had.
pub fn of_policy(policy: &Policy) -> Vec<Unsupported> {
    let mut found = Vec::new();
    for key in ["hmac_enabled", "enable_http_signature_validation"] {
        if extra(&policy.extra, key) == Some(Value::Bool(true)) {
            found.push(at([key], "requests that are signed are not supported"));
        }
    }
    let Partitions { quota, rate_limit, acl, complexity, per_api } = policy.partitions;
    let is_partitioned = quota || rate_limit || acl || complexity;
    if per_api && is_partitioned {
        found.push(at(["partitions"], "`per_api` stands beside others"));
    }
    if RateLimit::of(&policy.rate).is_err() && (rate_limit || !is_partitioned) {
        found.push(at(["per"], "the rate cannot be counted: its period is not above zero"));
    }
    found.extend(of_rights(&policy.access_rights));
    found
}

/// What of access rights cannot be had.
pub fn of_rights(rights: &[AccessRight]) -> impl Iterator<Item = Unsupported> {
    rights.iter().flat_map(|right| {
        let mut found = Vec::new();
        of_right(right, &mut found);
        found.into_iter().map(|Unsupported { mut path, reason }| {
            path.splice(0..0, ["access_rights", &right.api_id].map(|key| Step::Key(key.to_owned())));
            Unsupported { path, reason }
        })
    })
}

fn of_right(right: &AccessRight, found: &mut Vec<Unsupported>) {
    for key in ["restricted_types", "allowed_types", "field_access_rights", "json_rpc_methods", "mcp_primitives"] {
        if extra(&right.extra, key).is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty())) {
            found.push(at([key], "is not supported, and would allow more if it were left out"));
        }
    }
    if extra(&right.extra, "disable_introspection") == Some(Value::Bool(true)) {
        found.push(at(["disable_introspection"], "is not supported"));
    }
    for (index, url) in right.allowed_urls.iter().enumerate() {
        let mut told = |reason: String| {
            let path = vec![Step::Key("allowed_urls".to_owned()), Step::Item(index), Step::Key("url".to_owned())];
            found.push(Unsupported { path, reason });
        };
        if url.url.is_empty() {
            told("is missing: every path would match".to_owned());
        } else if let Err(error) = pattern::compile(&url.url) {
            told(format!("is no regular expression: {error}"));
        }
    }
    if right.endpoints.iter().any(|endpoint| endpoint.path.is_empty() || endpoint.method.is_empty()) {
        found.push(at(["endpoints"], "one has no `path`, or a method of it no `name`"));
    }
    for endpoint in &right.endpoints {
        if let Err(error) = pattern::compile(&endpoint.path) {
            let path = endpoint.path.escape_debug();
            found.push(at(["endpoints"], &format!("`{path}` is no regular expression: {error}")));
        }
    }
}

fn at<const N: usize>(keys: [&str; N], reason: &str) -> Unsupported {
    Unsupported { path: keys.map(|key| Step::Key(key.to_owned())).into(), reason: reason.to_owned() }
}

fn extra(fields: &[(String, Vec<u8>)], name: &str) -> Option<Value> {
    let (_, bytes) = fields.iter().find(|(known, _)| known == name)?;
    serde_json::from_slice(bytes).ok()
}
