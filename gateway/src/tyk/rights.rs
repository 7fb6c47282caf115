//! Rates, quotas and access rights, which sessions and policies share.

use serde_json::{Value, json};

use super::JsonInvalid;
use super::fields::{Fields, Object, number, wrong};
use crate::model::session::{AccessRight, AllowedUrl, EndpointLimit, Quota, Rate, RateSmoothing};

/// The fields of a rate.
pub(super) const RATE: [&str; 5] = ["rate", "per", "throttle_interval", "throttle_retry_limit", "smoothing"];
/// The fields of a quota.
pub(super) const QUOTA: [&str; 4] = ["quota_max", "quota_remaining", "quota_renews", "quota_renewal_rate"];

pub(super) fn rate(fields: &mut Fields) -> Result<Rate, JsonInvalid> {
    Ok(Rate {
        requests: fields.number("rate")?,
        per_seconds: fields.number("per")?,
        throttle_interval: fields.number("throttle_interval")?,
        throttle_retries: i32::try_from(fields.integer("throttle_retry_limit")?)
            .map_err(|_| wrong("throttle_retry_limit", "a number of tries"))?,
        smoothing: smoothing(fields)?,
    })
}

fn smoothing(fields: &mut Fields) -> Result<Option<RateSmoothing>, JsonInvalid> {
    let Some(value) = fields.take("smoothing") else { return Ok(None) };
    let mut of = Fields::of(value.clone(), "smoothing")?;
    if !of.flag("enabled")? {
        // Switched off, but somebody's settings.
        fields.put_back("smoothing", value);
        return Ok(None);
    }
    Ok(Some(RateSmoothing {
        threshold: of.integer("threshold")?,
        trigger: of.number("trigger")?,
        step: of.integer("step")?,
        delay_seconds: of.integer("delay")?,
    }))
}

pub(super) fn quota(fields: &mut Fields) -> Result<Quota, JsonInvalid> {
    Ok(Quota {
        max: fields.integer("quota_max")?,
        remaining: fields.integer("quota_remaining")?,
        renews: fields.integer("quota_renews")?,
        renewal_rate: fields.integer("quota_renewal_rate")?,
    })
}

pub(super) fn put_rate(object: &mut Object, rate: &Rate) {
    object.put("rate", number(rate.requests));
    object.put("per", number(rate.per_seconds));
    object.put_unless_empty("throttle_interval", number(rate.throttle_interval));
    object.put_unless_empty("throttle_retry_limit", rate.throttle_retries);
    if let Some(smoothing) = &rate.smoothing {
        let value = json!({ "enabled": true, "threshold": smoothing.threshold, "trigger": number(smoothing.trigger),
            "step": smoothing.step, "delay": smoothing.delay_seconds });
        object.put("smoothing", value);
    } else {
        object.drop_if("smoothing", |value| {
            !value.is_object() || !matches!(value.get("enabled"), None | Some(Value::Null | Value::Bool(false)))
        });
    }
}

pub(super) fn put_quota(object: &mut Object, quota: &Quota) {
    object.put("quota_max", quota.max);
    // Zero is what clients look for where there is a quota.
    if quota.max > 0 {
        object.put("quota_remaining", quota.remaining);
    } else {
        object.put_unless_empty("quota_remaining", quota.remaining);
    }
    object.put_unless_empty("quota_renews", quota.renews);
    object.put_unless_empty("quota_renewal_rate", quota.renewal_rate);
}

pub(super) fn access_rights(fields: &mut Fields) -> Result<Vec<AccessRight>, JsonInvalid> {
    fields.map("access_rights")?.into_iter().map(|(api_id, value)| access_right(api_id, value)).collect()
}

fn access_right(api_id: String, value: Value) -> Result<AccessRight, JsonInvalid> {
    let mut fields = Fields::of(value, "access_rights")?;
    // The key of the map rules.
    fields.take("api_id");
    let mut right = AccessRight {
        api_id,
        api_name: fields.text("api_name")?,
        versions: fields.texts("versions")?,
        allowed_urls: fields.list("allowed_urls")?.into_iter().map(allowed_url).collect::<Result<_, _>>()?,
        allowance_scope: fields.text("allowance_scope")?,
        ..AccessRight::default()
    };
    for endpoint in fields.list("endpoints")? {
        endpoint_limits(endpoint, &mut right.endpoints)?;
    }
    if let Some(limit) = fields.take("limit") {
        let mut limit = Fields::of(limit, "limit")?;
        let (rate, quota) = (rate(&mut limit)?, quota(&mut limit)?);
        let depth = limit.integer("max_query_depth")?;
        right.rate = (rate != Rate::default()).then_some(rate);
        right.quota = (quota != Quota::default()).then_some(quota);
        right.max_query_depth = (depth != 0).then_some(depth);
        let rest = limit.rest();
        if !rest.is_empty() {
            fields.put_back("limit", Object::with_extra(&rest, &[]).finish());
        }
    }
    right.extra = fields.rest();
    Ok(right)
}

fn allowed_url(value: Value) -> Result<AllowedUrl, JsonInvalid> {
    let mut fields = Fields::of(value, "allowed_urls")?;
    Ok(AllowedUrl { url: fields.text("url")?, methods: fields.texts("methods")? })
}

fn endpoint_limits(value: Value, limits: &mut Vec<EndpointLimit>) -> Result<(), JsonInvalid> {
    let mut endpoint = Fields::of(value, "endpoints")?;
    let path = endpoint.text("path")?;
    for method in endpoint.list("methods")? {
        let mut fields = Fields::of(method, "methods")?;
        let method = fields.text("name")?;
        let mut limit = Fields::of(fields.take("limit").unwrap_or_else(|| json!({})), "limit")?;
        limits.push(EndpointLimit { path: path.clone(), method, rate: rate(&mut limit)? });
    }
    Ok(())
}

pub(super) fn put_access_rights(object: &mut Object, rights: &[AccessRight]) {
    let rights: serde_json::Map<_, _> = rights.iter().map(|right| (right.api_id.clone(), right_value(right))).collect();
    object.put_unless_empty("access_rights", rights);
}

fn right_value(right: &AccessRight) -> Value {
    const OURS: [&str; 6] = ["api_id", "api_name", "versions", "allowed_urls", "allowance_scope", "endpoints"];
    let mut object = Object::with_extra(&right.extra, &OURS);
    object.put("api_id", right.api_id.clone());
    object.put("api_name", right.api_name.clone());
    object.put("versions", right.versions.clone());
    let urls = right.allowed_urls.iter().map(|url| json!({ "url": url.url, "methods": url.methods }));
    object.put_unless_empty("allowed_urls", urls.collect::<Vec<_>>());
    object.put_unless_empty("allowance_scope", right.allowance_scope.clone());
    object.put_unless_empty("endpoints", endpoints(&right.endpoints));
    let has_limit = right.rate.is_some() || right.quota.is_some() || right.max_query_depth.is_some();
    if has_limit {
        let foreign = right.extra.iter().find(|(name, _)| name == "limit");
        let foreign = foreign.and_then(|(_, bytes)| Fields::parse(bytes).ok()).map(Fields::rest).unwrap_or_default();
        // As in a session: settings of smoothing that are switched off are somebody's.
        let ours = RATE.into_iter().filter(|name| *name != "smoothing").chain(QUOTA).chain(["max_query_depth"]);
        let ours: Vec<&str> = ours.collect();
        let mut limit = Object::with_extra(&foreign, &ours);
        put_rate(&mut limit, &right.rate.unwrap_or_default());
        put_quota(&mut limit, &right.quota.unwrap_or_default());
        limit.put_unless_empty("max_query_depth", right.max_query_depth.unwrap_or_default());
        object.put("limit", limit.finish());
    }
    object.finish()
}

fn endpoints(limits: &[EndpointLimit]) -> Vec<Value> {
    let mut paths: Vec<(&str, Vec<Value>)> = Vec::new();
    for limit in limits {
        let mut rate = Object::with_extra(&[], &[]);
        put_rate(&mut rate, &limit.rate);
        let method = json!({ "name": limit.method, "limit": rate.finish() });
        match paths.last_mut() {
            Some((path, methods)) if *path == limit.path => methods.push(method),
            _ => paths.push((&limit.path, vec![method])),
        }
    }
    paths.into_iter().map(|(path, methods)| json!({ "path": path, "methods": methods })).collect()
}
