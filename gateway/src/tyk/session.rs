//! A session as Tyk keeps it under `apikey-<hash>`.

use serde_json::{Value, json};

use super::JsonInvalid;
use super::fields::{Fields, Object, number, wrong};
use super::rights;
use crate::model::key::HashAlgorithm;
use crate::model::session::{PostExpiryAction, Session};
use crate::model::time;

/// The session that was kept; its `key_id` is not in the JSON and stays empty.
///
/// # Errors
/// It is not JSON, or a field has the wrong type.
pub fn read(bytes: &[u8]) -> Result<Session, JsonInvalid> {
    let mut fields = Fields::parse(bytes)?;
    fields.take(HASH);
    let mut policies = fields.texts("apply_policies")?;
    if let Some(Value::String(policy)) = fields.peek("apply_policy_id")
        && policies.is_empty()
        && !policy.is_empty()
    {
        policies.push(policy.clone());
    }
    let was_detailed = fields.flag("enable_detail_recording")?;
    Ok(Session {
        key_id: String::new(),
        organisation: fields.text("org_id")?,
        alias: fields.text("alias")?,
        tags: fields.texts("tags")?,
        metadata: fields.values("meta_data")?,
        rate: rights::rate(&mut fields)?,
        quota: rights::quota(&mut fields)?,
        access_rights: rights::access_rights(&mut fields)?,
        policies,
        expires: fields.integer("expires")?,
        inactive: fields.flag("is_inactive")?,
        lifetime_seconds: fields.integer("session_lifetime")?,
        id_extractor_deadline: fields.integer("id_extractor_deadline")?,
        post_expiry_action: post_expiry(&mut fields)?,
        post_expiry_grace_period: fields.integer("post_expiry_grace_period")?,
        data_expires: fields.integer("data_expires")?,
        detailed_recording: fields.flag("enable_detailed_recording")? || was_detailed,
        monitor_trigger_limits: monitor(&mut fields)?,
        max_query_depth: fields.integer("max_query_depth")?,
        oauth_client_id: fields.text("oauth_client_id")?,
        certificate: fields.text("certificate")?,
        mtls_certificate_bindings: fields.texts("mtls_static_certificate_bindings")?,
        hmac_enabled: fields.flag("hmac_enabled")?,
        http_signature_validation: fields.flag("enable_http_signature_validation")?,
        rsa_certificate_id: fields.text("rsa_certificate_id")?,
        created_ms: created(&mut fields),
        last_updated: fields.text("last_updated")?,
        maker: fields.text(MAKER)?,
        extra: fields.rest(),
    })
}

/// The session as it is kept, with the name of its key's hash beside it.
pub fn write(session: &Session, algorithm: HashAlgorithm) -> Vec<u8> {
    let mut object = object(session);
    object.put(HASH, algorithm.as_str());
    object.finish().to_string().into_bytes()
}

/// The session as it is shown.
pub fn value(session: &Session) -> Value {
    object(session).finish()
}

fn object(session: &Session) -> Object {
    let mut object = Object::with_extra(&session.extra, &ours());
    rights::put_rate(&mut object, &session.rate);
    rights::put_quota(&mut object, &session.quota);
    rights::put_access_rights(&mut object, &session.access_rights);
    object.put("org_id", session.organisation.clone());
    object.put_unless_empty("alias", session.alias.clone());
    object.put_unless_empty("tags", session.tags.clone());
    object.put_unless_empty("meta_data", session.metadata.clone().into_iter().collect::<serde_json::Map<_, _>>());
    object.put_unless_empty("apply_policies", session.policies.clone());
    object.put_unless_empty("expires", session.expires);
    object.put_unless_empty("is_inactive", session.inactive);
    object.put_unless_empty("session_lifetime", session.lifetime_seconds);
    object.put_unless_empty("id_extractor_deadline", session.id_extractor_deadline);
    if session.post_expiry_action == PostExpiryAction::Delete {
        object.put("post_expiry_action", "delete");
    }
    object.put_unless_empty("post_expiry_grace_period", session.post_expiry_grace_period);
    object.put_unless_empty("data_expires", session.data_expires);
    object.put_unless_empty("enable_detailed_recording", session.detailed_recording);
    if !session.monitor_trigger_limits.is_empty() {
        let limits: Vec<Value> = session.monitor_trigger_limits.iter().copied().map(number).collect();
        object.put("monitor", json!({ "trigger_limits": limits }));
    }
    object.put_unless_empty("max_query_depth", session.max_query_depth);
    object.put_unless_empty("oauth_client_id", session.oauth_client_id.clone());
    object.put_unless_empty("certificate", session.certificate.clone());
    object.put_unless_empty("mtls_static_certificate_bindings", session.mtls_certificate_bindings.clone());
    object.put_unless_empty("hmac_enabled", session.hmac_enabled);
    object.put_unless_empty("enable_http_signature_validation", session.http_signature_validation);
    object.put_unless_empty("rsa_certificate_id", session.rsa_certificate_id.clone());
    if session.created_ms > 0 {
        object.put("date_created", time::text(session.created_ms));
    }
    object.put_unless_empty("last_updated", session.last_updated.clone());
    object.put_unless_empty(MAKER, session.maker.clone());
    object
}

fn post_expiry(fields: &mut Fields) -> Result<PostExpiryAction, JsonInvalid> {
    match fields.text("post_expiry_action")?.as_str() {
        "" | "retain" => Ok(PostExpiryAction::Retain),
        "delete" => Ok(PostExpiryAction::Delete),
        _ => Err(wrong("post_expiry_action", "`retain` or `delete`")),
    }
}

fn monitor(fields: &mut Fields) -> Result<Vec<f64>, JsonInvalid> {
    let Some(value) = fields.take("monitor") else { return Ok(Vec::new()) };
    let limits = Fields::of(value, "monitor")?.list("trigger_limits")?;
    limits.iter().map(|limit| limit.as_f64().ok_or_else(|| wrong("trigger_limits", "a list of numbers"))).collect()
}

/// The time of creation; one that cannot be read is left where it is.
fn created(fields: &mut Fields) -> i64 {
    match fields.take("date_created") {
        Some(Value::String(text)) => time::parse(&text).unwrap_or_default().max(0),
        Some(other) => {
            fields.put_back("date_created", other);
            0
        }
        None => 0,
    }
}

fn ours() -> Vec<&'static str> {
    rights::RATE.iter().chain(&rights::QUOTA).chain(OURS).filter(|name| **name != "smoothing").copied().collect()
}

/// Not Tyk's: it ignores the field, and drops it when it writes.
const HASH: &str = "stile_key_hash";
/// Not Tyk's either.
const MAKER: &str = "stile_maker";

const OURS: &[&str] = &[
    HASH,
    MAKER,
    "access_rights",
    "org_id",
    "alias",
    "tags",
    "meta_data",
    "apply_policies",
    "expires",
    "is_inactive",
    "session_lifetime",
    "id_extractor_deadline",
    "post_expiry_action",
    "post_expiry_grace_period",
    "data_expires",
    "enable_detail_recording",
    "enable_detailed_recording",
    "monitor",
    "max_query_depth",
    "oauth_client_id",
    "certificate",
    "mtls_static_certificate_bindings",
    "hmac_enabled",
    "enable_http_signature_validation",
    "rsa_certificate_id",
    "last_updated",
];

#[cfg(test)]
mod tests;
