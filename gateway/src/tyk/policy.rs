//! A policy as Tyk writes it to its files and shows it in its control API.

use std::fmt;

use serde_json::{Value, json};

use super::JsonInvalid;
use super::fields::{Fields, Object, wrong};
use super::rights;
use crate::model::policy::{Partitions, Policy, PolicyId};
use crate::model::session::Quota;

/// The policy that was kept under this id.
///
/// # Errors
/// It is not JSON, or a field has the wrong type.
pub fn read(id: PolicyId, bytes: &[u8]) -> Result<Policy, JsonInvalid> {
    of_fields(id, Fields::parse(bytes)?).map_err(|first| {
        // All of them at once.
        let mut value = serde_json::from_slice(bytes).unwrap_or_default();
        let wrong = take_wrong(&mut value);
        let told: Vec<String> = wrong.iter().map(WrongField::to_string).collect();
        if told.is_empty() { first } else { JsonInvalid(told.join(", ")) }
    })
}

/// A field of a policy that has the wrong type.
#[derive(Debug)]
pub struct WrongField {
    /// The keys that lead to it, or to what it is in.
    pub path: Vec<String>,
    /// What is wrong.
    pub reason: JsonInvalid,
}

impl fmt::Display for WrongField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_slice() {
            // The reason names the field, but not the right that it is of.
            [section, api] => write!(f, "{} in `{section}` of `{}`", self.reason, api.escape_debug()),
            _ => self.reason.fmt(f),
        }
    }
}

/// Takes out what has the wrong type, field by field and right by right, so that the rest can be looked at.
pub fn take_wrong(value: &mut Value) -> Vec<WrongField> {
    let alone = |fields: Value| PolicyId::parse("alone").ok().and_then(|id| of(id, fields).err());
    let Value::Object(fields) = value else {
        let reason = wrong("policy", "an object");
        *value = json!({});
        return vec![WrongField { path: Vec::new(), reason }];
    };
    let mut found = Vec::new();
    if let Some(Value::Object(rights)) = fields.get_mut("access_rights") {
        rights.retain(|api, right| {
            let reason = alone(json!({ "access_rights": { api: &*right } }));
            let path = || vec!["access_rights".to_owned(), api.clone()];
            let is_good = reason.is_none();
            found.extend(reason.map(|reason| WrongField { path: path(), reason }));
            is_good
        });
    }
    fields.retain(|key, field| {
        let reason = alone(json!({ key: &*field }));
        let is_good = reason.is_none();
        found.extend(reason.map(|reason| WrongField { path: vec![key.clone()], reason }));
        is_good
    });
    found
}

/// The policy of a value, such as one of a map by id.
///
/// # Errors
/// A field has the wrong type.
pub fn of(id: PolicyId, value: Value) -> Result<Policy, JsonInvalid> {
    of_fields(id, Fields::of(value, "policy")?)
}

fn of_fields(id: PolicyId, mut fields: Fields) -> Result<Policy, JsonInvalid> {
    fields.take("id");
    let quota = rights::quota(&mut fields)?;
    Ok(Policy {
        id,
        name: fields.text("name")?,
        organisation: fields.text("org_id")?,
        // As in Tyk, only a field that says so makes it inactive.
        active: match fields.take("active") {
            None => true,
            Some(Value::Bool(active)) => active,
            Some(_) => return Err(wrong("active", "true or false")),
        },
        inactive: fields.flag("is_inactive")?,
        rate: rights::rate(&mut fields)?,
        quota: Quota { remaining: 0, renews: 0, ..quota },
        max_query_depth: fields.integer("max_query_depth")?,
        access_rights: rights::access_rights(&mut fields)?,
        tags: fields.texts("tags")?,
        metadata: fields.values("meta_data")?,
        partitions: partitions(&mut fields)?,
        key_expires_in: fields.integer("key_expires_in")?,
        extra: fields.rest(),
    })
}

/// The policy as it is kept.
pub fn write(policy: &Policy) -> Vec<u8> {
    value(policy).to_string().into_bytes()
}

/// The policy as it is shown.
pub fn value(policy: &Policy) -> Value {
    let ours: Vec<&str> =
        rights::RATE.iter().chain(&rights::QUOTA).chain(OURS).filter(|name| **name != "smoothing").copied().collect();
    let mut object = Object::with_extra(&policy.extra, &ours);
    object.put("id", policy.id.as_str());
    object.put("name", policy.name.clone());
    object.put("org_id", policy.organisation.clone());
    object.put("active", policy.active);
    object.put_unless_empty("is_inactive", policy.inactive);
    rights::put_rate(&mut object, &policy.rate);
    rights::put_quota(&mut object, &policy.quota);
    object.put_unless_empty("max_query_depth", policy.max_query_depth);
    rights::put_access_rights(&mut object, &policy.access_rights);
    object.put_unless_empty("tags", policy.tags.clone());
    object.put_unless_empty("meta_data", policy.metadata.clone().into_iter().collect::<serde_json::Map<_, _>>());
    let Partitions { quota, rate_limit, acl, complexity, per_api } = policy.partitions;
    let partitions = json!({ "quota": quota, "rate_limit": rate_limit, "acl": acl, "complexity": complexity,
        "per_api": per_api });
    object.put("partitions", partitions);
    object.put_unless_empty("key_expires_in", policy.key_expires_in);
    object.finish()
}

fn partitions(fields: &mut Fields) -> Result<Partitions, JsonInvalid> {
    let Some(value) = fields.take("partitions") else { return Ok(Partitions::default()) };
    let mut of = Fields::of(value, "partitions")?;
    Ok(Partitions {
        quota: of.flag("quota")?,
        rate_limit: of.flag("rate_limit")?,
        acl: of.flag("acl")?,
        complexity: of.flag("complexity")?,
        per_api: of.flag("per_api")?,
    })
}

const OURS: &[&str] = &[
    "id",
    "name",
    "org_id",
    "active",
    "is_inactive",
    "max_query_depth",
    "access_rights",
    "tags",
    "meta_data",
    "partitions",
    "key_expires_in",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fields_of_a_wrong_type_are_told_at_once() {
        let id = || PolicyId::parse("p").expect("an id");
        let body = br#"{ "name": "Gold", "rate": "x", "tags": 7, "access_rights": { "orders": { "versions": 7 } } }"#;
        let told = read(id(), body).expect_err("it is wrong").to_string();
        let expected =
            "`versions` is not a list in `access_rights` of `orders`, `rate` is not a number, `tags` is not a list";
        assert_eq!(told, expected);
        assert_eq!(read(id(), b"[]").expect_err("it is wrong").to_string(), "`record` is not an object");
        assert!(read(id(), b"{").is_err());
    }
}
