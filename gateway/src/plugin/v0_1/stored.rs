//! A stored session as the contract's record. It leaves the host as the result of a guest's call, so it is owned, unlike what
//! [`super::lower`] lends.
//!
//! What the gateway has no field for stays out: Tyk keeps secrets of other ways to authenticate there.

use super::bindings::stile::plugin::types;
use super::lower::{post_expiry_action, quota, rate};
use crate::model::session::{AccessRight, AllowedUrl, Session};

/// The session as it is kept.
pub fn session(session: &Session) -> types::SessionResult {
    let metadata = session.metadata.iter().map(|(name, value)| {
        let value = match value {
            serde_json::Value::String(text) => types::MetadataValueResult::Text(text.clone()),
            other => types::MetadataValueResult::Json(other.to_string()),
        };
        (name.clone(), value)
    });
    types::SessionResult {
        key_id: String::new(),
        organisation: session.organisation.clone(),
        alias: session.alias.clone(),
        tags: session.tags.clone(),
        metadata: metadata.collect(),
        rate: rate(&session.rate),
        quota: quota(&session.quota),
        access_rights: session.access_rights.iter().map(access_right).collect(),
        policies: session.policies.clone(),
        expires: session.expires,
        inactive: session.inactive,
        lifetime_seconds: session.lifetime_seconds,
        id_extractor_deadline: session.id_extractor_deadline,
        post_expiry_action: post_expiry_action(session.post_expiry_action),
        post_expiry_grace_period: session.post_expiry_grace_period,
        data_expires: session.data_expires,
        detailed_recording: session.detailed_recording,
        monitor_trigger_limits: session.monitor_trigger_limits.clone(),
        max_query_depth: session.max_query_depth,
        oauth_client_id: session.oauth_client_id.clone(),
        certificate: session.certificate.clone(),
        mtls_certificate_bindings: session.mtls_certificate_bindings.clone(),
        hmac_enabled: session.hmac_enabled,
        http_signature_validation: session.http_signature_validation,
        rsa_certificate_id: session.rsa_certificate_id.clone(),
        created_ms: session.created_ms,
        last_updated: session.last_updated.clone(),
        extra: Vec::new(),
    }
}

fn access_right(right: &AccessRight) -> types::AccessRightResult {
    let allowed_url =
        |allowed: &AllowedUrl| types::AllowedUrlResult { url: allowed.url.clone(), methods: allowed.methods.clone() };
    let endpoints = right.endpoints.iter().map(|endpoint| types::EndpointLimitResult {
        path: endpoint.path.clone(),
        method: endpoint.method.clone(),
        rate: rate(&endpoint.rate),
    });
    types::AccessRightResult {
        api_id: right.api_id.clone(),
        api_name: right.api_name.clone(),
        versions: right.versions.clone(),
        allowed_urls: right.allowed_urls.iter().map(allowed_url).collect(),
        rate: right.rate.as_ref().map(rate),
        quota: right.quota.as_ref().map(quota),
        max_query_depth: right.max_query_depth,
        allowance_scope: right.allowance_scope.clone(),
        endpoints: endpoints.collect(),
        extra: Vec::new(),
    }
}

/// The size of a change, as a guest hands it over: its texts, and a little for the rest.
pub fn edit_bytes(edit: &types::SessionEdit) -> usize {
    use types::SessionEdit as E;
    let texts = match edit {
        E::SetMetadata((name, types::MetadataValueResult::Text(value) | types::MetadataValueResult::Json(value))) => {
            name.len() + value.len()
        }
        E::RemoveMetadata(text) | E::AddTag(text) | E::RemoveTag(text) | E::SetAlias(text) => text.len(),
        E::SetAccessRights(rights) => rights.iter().map(right_bytes).sum(),
        E::SetPolicies(ids) => texts_bytes(ids),
        E::SetRate(_) | E::SetQuota(_) | E::SetExpires(_) | E::SetInactive(_) => 0,
    };
    texts + ITEM_BYTES
}

fn right_bytes(right: &types::AccessRightResult) -> usize {
    let urls = right.allowed_urls.iter().map(|allowed| allowed.url.len() + texts_bytes(&allowed.methods) + ITEM_BYTES);
    let endpoints = right.endpoints.iter().map(|limit| limit.path.len() + limit.method.len() + ITEM_BYTES);
    let extra = right.extra.iter().map(|(name, value)| name.len() + value.len() + ITEM_BYTES);
    let lists: usize = urls.chain(endpoints).chain(extra).sum();
    let texts = right.api_id.len() + right.api_name.len() + right.allowance_scope.len();
    texts + texts_bytes(&right.versions) + lists + ITEM_BYTES
}

fn texts_bytes(texts: &[String]) -> usize {
    texts.iter().map(|text| text.len() + ITEM_BYTES).sum()
}

/// So that a list of nothings is not free either.
const ITEM_BYTES: usize = 16;
