//! Sessions that a guest makes, and its changes of others.

use super::super::bindings::stile::plugin::types;
use super::{Invalid, check_count, invalid, short};
use crate::model::session::{
    AccessRight, AllowedUrl, EndpointLimit, PostExpiryAction, Quota, Rate, RateSmoothing, Session, SessionEdit,
};

/// Changes of a session. Whether the plugin may make them is for who asks: see [`SessionEdit::needs_grant`].
pub fn session_edits(edits: Vec<types::SessionEdit>) -> Result<Vec<SessionEdit>, Invalid> {
    check_count(edits.len(), "session edits")?;
    edits.into_iter().map(session_edit).collect()
}

fn session_edit(edit: types::SessionEdit) -> Result<SessionEdit, Invalid> {
    use types::SessionEdit as E;
    Ok(match edit {
        E::SetMetadata((name, value)) => SessionEdit::SetMetadata(short(name)?, metadata(value)?),
        E::RemoveMetadata(name) => SessionEdit::RemoveMetadata(name),
        E::AddTag(tag) => SessionEdit::AddTag(short(tag)?),
        E::RemoveTag(tag) => SessionEdit::RemoveTag(tag),
        E::SetAlias(alias) => SessionEdit::SetAlias(short(alias)?),
        E::SetRate(value) => SessionEdit::SetRate(rate(value)?),
        E::SetQuota(value) => SessionEdit::SetQuota(quota(value)),
        E::SetAccessRights(rights) => {
            check_count(rights.len(), "access rights")?;
            SessionEdit::SetAccessRights(rights.into_iter().map(access_right).collect::<Result<_, _>>()?)
        }
        E::SetPolicies(ids) => {
            check_count(ids.len(), "policies")?;
            SessionEdit::SetPolicies(ids)
        }
        E::SetExpires(seconds) => SessionEdit::SetExpires(seconds),
        E::SetInactive(inactive) => SessionEdit::SetInactive(inactive),
    })
}

pub(super) fn session(session: types::SessionResult) -> Result<Session, Invalid> {
    check_count(session.metadata.len(), "metadata values")?;
    check_count(session.access_rights.len(), "access rights")?;
    check_count(session.tags.len(), "tags")?;
    check_count(session.policies.len(), "policies")?;
    // A store keeps JSON, which has no others.
    if !session.monitor_trigger_limits.iter().all(|limit| limit.is_finite()) {
        return Err(invalid!("a limit of the monitor is not a finite number"));
    }
    let metadata = session
        .metadata
        .into_iter()
        .map(|(name, value)| Ok((short(name)?, metadata(value)?)))
        .collect::<Result<_, _>>()?;
    Ok(Session {
        key_id: short(session.key_id)?,
        organisation: session.organisation,
        alias: short(session.alias)?,
        tags: session.tags,
        metadata,
        rate: rate(session.rate)?,
        quota: quota(session.quota),
        access_rights: session.access_rights.into_iter().map(access_right).collect::<Result<_, _>>()?,
        policies: session.policies,
        expires: session.expires,
        inactive: session.inactive,
        lifetime_seconds: session.lifetime_seconds,
        id_extractor_deadline: session.id_extractor_deadline,
        post_expiry_action: match session.post_expiry_action {
            types::PostExpiryAction::Retain => PostExpiryAction::Retain,
            types::PostExpiryAction::Delete => PostExpiryAction::Delete,
        },
        post_expiry_grace_period: session.post_expiry_grace_period,
        data_expires: session.data_expires,
        detailed_recording: session.detailed_recording,
        monitor_trigger_limits: session.monitor_trigger_limits,
        max_query_depth: session.max_query_depth,
        oauth_client_id: session.oauth_client_id,
        certificate: session.certificate,
        mtls_certificate_bindings: session.mtls_certificate_bindings,
        hmac_enabled: session.hmac_enabled,
        http_signature_validation: session.http_signature_validation,
        rsa_certificate_id: session.rsa_certificate_id,
        created_ms: session.created_ms,
        last_updated: session.last_updated,
        maker: String::new(),
        extra: session.extra,
    })
}

fn access_right(right: types::AccessRightResult) -> Result<AccessRight, Invalid> {
    Ok(AccessRight {
        api_id: right.api_id,
        api_name: right.api_name,
        versions: right.versions,
        allowed_urls: (right.allowed_urls.into_iter())
            .map(|allowed| AllowedUrl { url: allowed.url, methods: allowed.methods })
            .collect(),
        // Where it is kept, zeros are not told from nothing: the session's own counts, for the first request too.
        rate: right.rate.map(rate).transpose()?.filter(|rate| *rate != Rate::default()),
        quota: right.quota.map(quota).filter(|quota| *quota != Quota::default()),
        max_query_depth: right.max_query_depth.filter(|depth| *depth != 0),
        allowance_scope: right.allowance_scope,
        endpoints: (right.endpoints.into_iter())
            .map(|limit| Ok(EndpointLimit { path: limit.path, method: limit.method, rate: rate(limit.rate)? }))
            .collect::<Result<_, _>>()?,
        extra: right.extra,
    })
}

fn rate(value: types::Rate) -> Result<Rate, Invalid> {
    let trigger = value.smoothing.as_ref().map_or(0.0, |smoothing| smoothing.trigger);
    let numbers = [value.requests, value.per_seconds, value.throttle_interval, trigger];
    if !numbers.iter().all(|number| number.is_finite()) {
        return Err(invalid!("a rate is not a finite number"));
    }
    Ok(Rate {
        requests: value.requests,
        per_seconds: value.per_seconds,
        throttle_interval: value.throttle_interval,
        throttle_retries: value.throttle_retries,
        smoothing: value.smoothing.map(|smoothing| RateSmoothing {
            threshold: smoothing.threshold,
            trigger: smoothing.trigger,
            step: smoothing.step,
            delay_seconds: smoothing.delay_seconds,
        }),
    })
}

fn quota(value: types::Quota) -> Quota {
    Quota { max: value.max, remaining: value.remaining, renews: value.renews, renewal_rate: value.renewal_rate }
}

fn metadata(value: types::MetadataValueResult) -> Result<serde_json::Value, Invalid> {
    match value {
        types::MetadataValueResult::Text(text) => Ok(short(text)?.into()),
        types::MetadataValueResult::Json(text) => {
            serde_json::from_str(&short(text)?).map_err(|error| invalid!("metadata is not JSON: {error}"))
        }
    }
}
