//! APIs, from raw to model.

mod target;
mod uses;
mod versions;

use std::time::Duration;

use super::raw_api as raw;
use super::report::{Place, Report};
use crate::model::api::{Analytics, Api, Listen, RateHeaders, Rates};
use crate::model::id::ApiId;
use crate::model::limit::{Algorithm, RateLimit};
use crate::model::path::ListenPath;
use crate::model::session::Rate;
use uses::Declared;

/// Converts one API. `plugins` are the names that uses may name.
pub(super) fn convert(raw: raw::Api, plugins: &Declared, place: &Place, report: &mut Report) -> Option<Api> {
    let id = ApiId::parse(&raw.id)
        .map_err(|_| {
            let hint = "1 to 128 letters, digits, `-`, `_` or `.`";
            report.invalid(&place.key("id"), &raw.id, "an id", "", hint);
        })
        .ok();
    let listen = listen(raw.listen, &place.key("listen"), report);
    let versions = match raw.versions {
        None => Some(None),
        Some(raw) => versions::convert(raw, &place.key("versions"), report).map(Some),
    };
    let speaks_tls = versions.iter().flatten().flat_map(|of| &of.list).any(|version| version.speaks_tls());
    let upstream = target::convert(raw.upstream, speaks_tls, &place.key("upstream"), report);
    let auth = uses::auth(raw.auth, plugins, &place.key("auth"), report);
    let rates = rates(&raw.rate_limit, &place.key("rate_limit"), report);
    let has_analytics_hooks = !raw.hooks.analytics.is_empty();
    let hooks = uses::hooks(raw.hooks, plugins, &place.key("hooks"), report);
    let id = id?;
    Some(Api {
        name: raw.name.unwrap_or_else(|| id.to_string()),
        id,
        organisation: raw.organisation,
        listen: listen?,
        versions: versions?,
        upstream: upstream?,
        hooks: hooks?,
        auth: auth?,
        rates: rates?,
        variables: raw.variables.into_iter().collect(),
        request_body_bytes_max: raw.request_body_bytes_max,
        request_timeout: Duration::from_millis(raw.request_timeout_ms),
        analytics: Analytics {
            enabled: raw.analytics.enabled.unwrap_or(has_analytics_hooks),
            detailed: raw.analytics.detailed,
            body_bytes_max: raw.analytics.body_bytes_max,
        },
    })
}

fn rates(raw: &raw::RateLimit, place: &Place, report: &mut Report) -> Option<Rates> {
    let api = match raw.requests {
        None => None,
        Some(requests) => {
            let rate = Rate { requests, per_seconds: raw.per_seconds, ..Rate::default() };
            match RateLimit::of(&rate) {
                Ok(Some(limit)) => Some(limit),
                Ok(None) => {
                    let hint = "leave it out where there is no limit";
                    report.error(&place.key("requests"), "is no number of requests", hint);
                    return None;
                }
                Err(error) => {
                    report.error(place, error.to_string(), "such as `requests: 100` and `per_seconds: 60`");
                    return None;
                }
            }
        }
    };
    let algorithm = match raw.algorithm {
        raw::Algorithm::Fixed => Algorithm::Fixed,
        raw::Algorithm::Sliding => Algorithm::Sliding,
        raw::Algorithm::Smooth => Algorithm::Smooth { burst: raw.burst },
    };
    let headers = match raw.headers {
        raw::RateHeaders::Quota => RateHeaders::Quota,
        raw::RateHeaders::Rate => RateHeaders::Rate,
        raw::RateHeaders::Off => RateHeaders::Off,
    };
    Some(Rates { api, algorithm, headers })
}

fn listen(raw: raw::Listen, place: &Place, report: &mut Report) -> Option<Listen> {
    let path = ListenPath::parse(&raw.path)
        .map_err(|e| report.invalid(&place.key("path"), &raw.path, "a listen path", e, "such as `/orders/`"))
        .ok();
    let mut hosts: Vec<String> = Vec::new();
    for (index, text) in raw.hosts.iter().enumerate() {
        let place = place.key("hosts").item(index);
        match host(text) {
            Ok(host) if hosts.contains(&host) => {
                report.error(&place, format!("{} is listed twice", place.shown(text)), "")
            }
            Ok(host) => hosts.push(host),
            Err(reason) => {
                report.invalid(&place, text, "a host", reason, "such as `api.example.com` or `*.example.com`");
            }
        }
    }
    (hosts.len() == raw.hosts.len()).then_some(())?;
    Some(Listen { path: path?, hosts, strip: raw.strip })
}

/// A host as the router compares it: lower case, without port.
pub(super) fn host(text: &str) -> Result<String, &'static str> {
    let host = text.to_ascii_lowercase();
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').ok_or("a port has no place here")?;
        return address.parse::<std::net::Ipv6Addr>().map(|_| host.clone()).map_err(|_| "not an IPv6 address");
    }
    let name = host.strip_prefix("*.").unwrap_or(&host);
    if name.contains('*') {
        return Err("`*.` may only stand in front");
    }
    if name.contains(':') {
        return Err("a port has no place here");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| !label.is_empty() && label.len() <= 63 && label.chars().all(plain);
    if host.len() > 253 || !name.split('.').all(is_label) {
        return Err("it has an empty label or a character that no host has");
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(host(text).ok().as_deref(), expected, "{text}");
    }

    #[test]
    fn hosts_are_names_without_port() {
        check("API.example.com", Some("api.example.com"));
        check("*.example.com", Some("*.example.com"));
        check("localhost", Some("localhost"));
        check("10.0.0.1", Some("10.0.0.1"));
        check("[::1]", Some("[::1]"));
        check("api.example.com:80", None);
        check("[::1]:80", None);
        check("a.*.example.com", None);
        check("*", None);
        check("", None);
        check("a..b", None);
        check("http://a", None);
    }
}
