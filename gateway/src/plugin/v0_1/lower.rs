//! The gateway's values as the contract's records, borrowed: nothing is copied but into the guest.

use std::net::IpAddr;
use std::time::Duration;

use bumpalo::Bump;
use http::{HeaderMap, Method};

use super::bindings::stile::plugin::types;
use super::hooks;
use crate::model::record::{Geo, Record, RecordedMessage};
use crate::model::session::{AccessRight, PostExpiryAction, Quota, Rate, Session};
use crate::plugin::description::{HeaderSelection, Reads};
use crate::plugin::grain;
use crate::plugin::load::ApiFacts;
use crate::plugin::verdict::{CredentialPlace, CredentialView, Facts, Made, RequestView, ResponseView};

/// The context, with what the function reads of it.
pub fn context<'a>(
    arena: &'a Bump,
    facts: &Facts<'a>,
    api: &'a ApiFacts,
    reads: &Reads,
    clock_grain: Duration,
) -> &'a types::Context<'a> {
    let wanted = reads.context;
    let variables =
        if wanted.variables { arena.alloc_slice_fill_iter(api.variables.iter().map(pair)) } else { &mut [] };
    let vars: &[_] = if wanted.vars {
        arena.alloc_slice_fill_iter(facts.vars.iter().map(|(name, value)| (name.as_str(), &value[..])))
    } else {
        &[]
    };
    arena.alloc(types::Context {
        time_ms: grain::begin_ms(facts.time_ms, clock_grain),
        scheme: if facts.is_https { types::Scheme::Https } else { types::Scheme::Http },
        client_address: address(facts.client),
        request_id: wanted.request_id.then_some(facts.request_id),
        api: wanted.api.then(|| types::Api {
            id: api.id.as_str(),
            name: &api.name,
            version: facts.api_version,
            organisation: &api.organisation,
            listen_path: api.listen_path.as_str(),
        }),
        endpoint: facts
            .endpoint
            .filter(|_| wanted.endpoint)
            .map(|(operation_id, path)| types::MatchedEndpoint { operation_id, path }),
        host: wanted.host.then_some(facts.host),
        variables,
        vars,
        extra: &[],
    })
}

fn pair((name, value): &(String, String)) -> (&str, &[u8]) {
    (name.as_str(), value.as_bytes())
}

fn address(ip: IpAddr) -> types::IpAddress {
    match ip.to_canonical() {
        IpAddr::V4(ip) => types::IpAddress::Ipv4(ip.octets().into()),
        IpAddr::V6(ip) => types::IpAddress::Ipv6(ip.segments().into()),
    }
}

/// The request, with what the function reads of it.
pub fn request<'a>(arena: &'a Bump, view: &RequestView<'a>, selection: &'a HeaderSelection) -> &'a types::Request<'a> {
    arena.alloc(types::Request {
        method: method(view.method),
        path: view.path,
        query: view.query,
        headers: headers(arena, view.headers, selection),
        body: view.body,
        extra: &[],
    })
}

/// The response, with what the function reads of it.
pub fn response<'a>(arena: &'a Bump, view: &ResponseView<'a>, reads: &'a Reads) -> &'a types::Response<'a> {
    arena.alloc(types::Response {
        status: view.status.as_u16(),
        origin: match view.origin {
            Made::Upstream => types::Origin::Upstream,
            Made::Plugin => types::Origin::Plugin,
            Made::Gateway => types::Origin::Gateway,
        },
        headers: headers(arena, view.headers, &reads.headers),
        body: view.body,
        extra: &[],
    })
}

/// The credential.
pub fn credential<'a>(view: &CredentialView<'a>) -> hooks::auth::Credential<'a> {
    hooks::auth::Credential {
        source: match view.place {
            CredentialPlace::Header => hooks::auth::CredentialSource::Header,
            CredentialPlace::Query => hooks::auth::CredentialSource::Query,
            CredentialPlace::Cookie => hooks::auth::CredentialSource::Cookie,
        },
        name: view.name,
        value: view.value,
    }
}

fn method(method: &Method) -> types::MethodParam<'_> {
    use types::MethodParam as M;
    match *method {
        Method::GET => M::Get,
        Method::HEAD => M::Head,
        Method::POST => M::Post,
        Method::PUT => M::Put,
        Method::DELETE => M::Delete,
        Method::OPTIONS => M::Options,
        Method::PATCH => M::Patch,
        Method::TRACE => M::Trace,
        _ => M::Other(method.as_str()),
    }
}

fn headers<'a>(arena: &'a Bump, map: &'a HeaderMap, selection: &'a HeaderSelection) -> &'a [types::HeaderParam<'a>] {
    match selection {
        HeaderSelection::None => &[],
        HeaderSelection::All => {
            let mut list = bumpalo::collections::Vec::with_capacity_in(map.len(), arena);
            list.extend(map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
            list.into_bump_slice()
        }
        HeaderSelection::Named(names) => {
            let mut list = bumpalo::collections::Vec::with_capacity_in(names.len(), arena);
            for name in names {
                list.extend(map.get_all(name).iter().map(|value| (name.as_str(), value.as_bytes())));
            }
            list.into_bump_slice()
        }
    }
}

/// The session.
pub fn session<'a>(arena: &'a Bump, session: &'a Session) -> &'a types::SessionParam<'a> {
    let metadata = session.metadata.iter().map(|(name, value)| {
        let value = match value {
            serde_json::Value::String(text) => types::MetadataValueParam::Text(text),
            other => types::MetadataValueParam::Json(arena.alloc_str(&other.to_string())),
        };
        (name.as_str(), value)
    });
    arena.alloc(types::SessionParam {
        key_id: &session.key_id,
        organisation: &session.organisation,
        alias: &session.alias,
        tags: texts(arena, &session.tags),
        metadata: arena.alloc_slice_fill_iter(metadata),
        rate: rate(&session.rate),
        quota: quota(&session.quota),
        access_rights: arena
            .alloc_slice_fill_iter(session.access_rights.iter().map(|right| access_right(arena, right))),
        policies: texts(arena, &session.policies),
        expires: session.expires,
        inactive: session.inactive,
        lifetime_seconds: session.lifetime_seconds,
        id_extractor_deadline: session.id_extractor_deadline,
        post_expiry_action: post_expiry_action(session.post_expiry_action),
        post_expiry_grace_period: session.post_expiry_grace_period,
        data_expires: session.data_expires,
        detailed_recording: session.detailed_recording,
        monitor_trigger_limits: &session.monitor_trigger_limits,
        max_query_depth: session.max_query_depth,
        oauth_client_id: &session.oauth_client_id,
        certificate: &session.certificate,
        mtls_certificate_bindings: texts(arena, &session.mtls_certificate_bindings),
        hmac_enabled: session.hmac_enabled,
        http_signature_validation: session.http_signature_validation,
        rsa_certificate_id: &session.rsa_certificate_id,
        created_ms: session.created_ms,
        last_updated: &session.last_updated,
        // What the gateway has no field for: Tyk keeps passwords and shared secrets there.
        extra: &[],
    })
}

fn access_right<'a>(arena: &'a Bump, right: &'a AccessRight) -> types::AccessRightParam<'a> {
    let allowed_urls = right
        .allowed_urls
        .iter()
        .map(|allowed| types::AllowedUrlParam { url: &allowed.url, methods: texts(arena, &allowed.methods) });
    let endpoints = right.endpoints.iter().map(|endpoint| types::EndpointLimitParam {
        path: &endpoint.path,
        method: &endpoint.method,
        rate: rate(&endpoint.rate),
    });
    types::AccessRightParam {
        api_id: &right.api_id,
        api_name: &right.api_name,
        versions: texts(arena, &right.versions),
        allowed_urls: arena.alloc_slice_fill_iter(allowed_urls),
        rate: right.rate.as_ref().map(rate),
        quota: right.quota.as_ref().map(quota),
        max_query_depth: right.max_query_depth,
        allowance_scope: &right.allowance_scope,
        endpoints: arena.alloc_slice_fill_iter(endpoints),
        extra: &[],
    }
}

pub(super) fn rate(rate: &Rate) -> types::Rate {
    types::Rate {
        requests: rate.requests,
        per_seconds: rate.per_seconds,
        throttle_interval: rate.throttle_interval,
        throttle_retries: rate.throttle_retries,
        smoothing: rate.smoothing.map(|smoothing| types::RateSmoothing {
            threshold: smoothing.threshold,
            trigger: smoothing.trigger,
            step: smoothing.step,
            delay_seconds: smoothing.delay_seconds,
        }),
    }
}

pub(super) fn quota(quota: &Quota) -> types::Quota {
    types::Quota { max: quota.max, remaining: quota.remaining, renews: quota.renews, renewal_rate: quota.renewal_rate }
}

pub(super) const fn post_expiry_action(action: PostExpiryAction) -> types::PostExpiryAction {
    match action {
        PostExpiryAction::Retain => types::PostExpiryAction::Retain,
        PostExpiryAction::Delete => types::PostExpiryAction::Delete,
    }
}

fn texts<'a>(arena: &'a Bump, texts: &'a [String]) -> &'a [&'a str] {
    arena.alloc_slice_fill_iter(texts.iter().map(String::as_str))
}

fn extensions<'a>(arena: &'a Bump, extra: &'a [(String, Vec<u8>)]) -> &'a [types::ExtensionParam<'a>] {
    arena.alloc_slice_fill_iter(extra.iter().map(|(name, value)| (name.as_str(), &value[..])))
}

/// One record, with what the function reads of its messages.
pub fn record<'a>(arena: &'a Bump, record: &'a Record, reads: &Reads) -> types::AnalyticsRecord<'a> {
    types::AnalyticsRecord {
        request_id: &record.request_id,
        method: &record.method,
        host: &record.host,
        path: &record.path,
        raw_path: &record.raw_path,
        original_path: &record.original_path,
        listen_path: &record.listen_path,
        query: &record.query,
        content_length: record.content_length,
        user_agent: &record.user_agent,
        response_code: record.response_code,
        api_key: &record.api_key,
        timestamp_ms: record.timestamp_ms,
        api_version: &record.api_version,
        api_name: &record.api_name,
        api_id: &record.api_id,
        organisation: &record.organisation,
        oauth_id: &record.oauth_id,
        request_time_ms: record.request_time_ms,
        latency_total_ms: record.latency_total_ms,
        latency_upstream_ms: record.latency_upstream_ms,
        latency_gateway_ms: record.latency_gateway_ms,
        ip_address: &record.ip_address,
        geo: record.geo.as_ref().map(|place| geo(arena, place)),
        open_connections: record.open_connections,
        closed_connections: record.closed_connections,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        tags: texts(arena, &record.tags),
        alias: &record.alias,
        track_path: record.track_path,
        expires_ms: record.expires_ms,
        request: record.request.as_ref().map(|message| recorded(arena, message, reads)),
        response: record.response.as_ref().map(|message| recorded(arena, message, reads)),
        extra: extensions(arena, &record.extra),
    }
}

fn recorded<'a>(arena: &'a Bump, message: &'a RecordedMessage, reads: &Reads) -> types::RecordedMessage<'a> {
    let mut headers = bumpalo::collections::Vec::new_in(arena);
    headers.extend(
        message.headers.iter().filter(|(name, _)| is_selected(&reads.headers, name)).map(|(n, v)| (n.as_str(), &v[..])),
    );
    types::RecordedMessage {
        headers: headers.into_bump_slice(),
        body: message.body.as_deref().filter(|_| reads.body_bytes_max.is_some()),
        truncated: message.truncated,
    }
}

fn is_selected(selection: &HeaderSelection, name: &str) -> bool {
    match selection {
        HeaderSelection::None => false,
        HeaderSelection::All => true,
        HeaderSelection::Named(names) => names.iter().any(|wanted| wanted.as_str() == name),
    }
}

fn geo<'a>(arena: &'a Bump, geo: &'a Geo) -> types::GeoParam<'a> {
    types::GeoParam {
        country_iso_code: &geo.country_iso_code,
        city_geoname_id: geo.city_geoname_id,
        city_names: arena
            .alloc_slice_fill_iter(geo.city_names.iter().map(|(language, name)| (language.as_str(), name.as_str()))),
        latitude: geo.latitude,
        longitude: geo.longitude,
        time_zone: &geo.time_zone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_other_ways_to_authenticate_do_not_cross() {
        let secret = vec![("hmac_string".to_owned(), b"\"a secret\"".to_vec())];
        let right = AccessRight { extra: secret.clone(), ..AccessRight::default() };
        let kept = Session { access_rights: vec![right], extra: secret, ..Session::default() };
        let arena = Bump::new();
        assert!(!format!("{:?}", session(&arena, &kept)).contains("hmac_string"));
    }
}
