//! Where plugins may send requests, their secrets, and the APIs that they may call, from raw to model.

use super::gateway::existing;
use super::near::closest;
use super::raw_outgoing as raw;
use super::raw_plugin::Apis;
use super::report::{Place, Report};
use super::{Definitions, Environment};
use crate::files;
use crate::model::gateway::Gateway;
use crate::model::id::ApiId;
use crate::model::outgoing::{Destination, OutgoingHttp};
use crate::model::plugin::Capability;
use crate::model::secret::{PluginSecret, SecretValue};

/// Converts what stands beside the grants of a plugin. `place` is the plugin's.
pub(super) fn convert(
    outgoing: Option<raw::OutgoingHttp>,
    grants: &[Capability],
    place: &Place,
    report: &mut Report,
) -> Option<OutgoingHttp> {
    let here = place.key("outgoing_http");
    let is_granted = grants.contains(&Capability::OutgoingHttp);
    let Some(raw) = outgoing else {
        if is_granted {
            let hint =
                "add `outgoing_http: { allow: [https://HOST] }` to the plugin: `outgoing-http` alone reaches nothing";
            report.error(&here, "`outgoing-http` is granted, but there is no list of hosts", hint);
            return None;
        }
        return Some(OutgoingHttp::default());
    };
    if !is_granted {
        report.warn(&here, "is not used", "add `outgoing-http` to the plugin's `grants`");
    }
    let allow = destinations(&raw.allow, &here.key("allow"), report);
    if raw.allow.is_empty() {
        report.error(
            &here.key("allow"),
            "the list is empty",
            "name at least one place, such as `https://auth.example.com`",
        );
        return None;
    }
    let ca_file = match &raw.ca_file {
        Some(file) => Some(existing(file, &here.key("ca_file"), "file of certificate authorities", report)?),
        None => None,
    };
    Some(OutgoingHttp { allow: allow?, ca_file })
}

/// Converts the places that a plugin may send callers' requests to. It may have APIs to send them on to instead.
pub(super) fn upstream(
    raw: Option<raw::Upstream>,
    has_apis: bool,
    grants: &[Capability],
    place: &Place,
    report: &mut Report,
) -> Option<Vec<Destination>> {
    let here = place.key("upstream");
    let is_granted = grants.contains(&Capability::Upstream);
    let Some(raw) = raw else {
        if is_granted && !has_apis {
            let hint = "add `upstream: { allow: [https://HOST] }` or `apis: { allow: [ID] }` to the plugin: `upstream` alone reaches nothing";
            report.error(&here, "`upstream` is granted, but there is no list of places or APIs", hint);
            return None;
        }
        return Some(Vec::new());
    };
    if !is_granted {
        report.warn(&here, "is not used", "add `upstream` to the plugin's `grants`");
    }
    let here = here.key("allow");
    if raw.allow.is_empty() {
        report.error(&here, "the list is empty", "name at least one place, such as `https://blue.example.com`");
        return None;
    }
    destinations(&raw.allow, &here, report)
}

/// Converts a list of places.
pub(super) fn destinations(raw: &[raw::Allowed], place: &Place, report: &mut Report) -> Option<Vec<Destination>> {
    let mut read = Vec::new();
    for (index, entry) in raw.iter().enumerate() {
        let place = place.item(index);
        let (url, private, place) = match entry {
            raw::Allowed::Url(url) => (url, false, place),
            raw::Allowed::Entry(entry) => (&entry.url, entry.private.unwrap_or_default(), place.key("url")),
        };
        match Destination::parse(url, private) {
            Ok(destination) => read.push(destination),
            Err(error) => {
                let hint = "such as `https://auth.example.com`, `http://*.svc.local:8080` or `http://10.0.0.7:9000`";
                report.invalid(&place, url, "a place", error, hint);
            }
        }
    }
    (read.len() == raw.len()).then_some(read)
}

/// Converts the secrets of a plugin, and reads them: one that is missing is an error now, not at the first request.
pub(super) fn secrets(
    raw: raw::Secrets,
    (grants, outgoing): (&[Capability], &OutgoingHttp),
    environment: Environment<'_>,
    place: &Place,
    report: &mut Report,
) -> Option<Vec<PluginSecret>> {
    let here = place.key("secrets");
    let is_granted = grants.contains(&Capability::Secrets);
    if raw.is_empty() && is_granted {
        let hint = "add `secrets: { NAME: { env: VARIABLE } }` to the plugin";
        report.error(&here, "`secrets` is granted, but there is none", hint);
        return None;
    }
    if !raw.is_empty() && !is_granted {
        report.warn(&here, "is not used", "add `secrets` to the plugin's `grants`");
    }
    if is_granted && !grants.contains(&Capability::OutgoingHttp) {
        let hint = "a secret leaves in requests that the plugin sends: grant `outgoing-http` too";
        report.warn(&place.key("grants"), "`secrets` is of no use without `outgoing-http`", hint);
    }
    let count = raw.len();
    let read: Vec<PluginSecret> = raw
        .into_iter()
        .filter_map(|(name, raw)| {
            let here = here.key(&name);
            let value = value((raw.env.as_deref(), raw.file.as_deref()), environment, &here, report);
            let place = here.key("hosts");
            let to = destinations(&raw.hosts, &place, report)?;
            for (index, entry) in to.iter().enumerate() {
                if !outgoing.allow.iter().any(|allowed| allowed.covers(entry)) {
                    let message = format!("the plugin may not send requests to `{entry}`");
                    report.error(&place.item(index), message, "add it to `outgoing_http.allow` of the plugin");
                }
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
                report.error(&here, "is not a secret's name", "1 to 64 letters, digits, `-`, `_` or `.`");
                return None;
            }
            Some(PluginSecret { name, value: value?, to })
        })
        .collect();
    (read.len() == count).then_some(read)
}

/// The value, from the environment or a file. It is in no text: problems name its place only.
pub(super) fn value(
    (env, file): (Option<&str>, Option<&str>),
    environment: Environment<'_>,
    place: &Place,
    report: &mut Report,
) -> Option<SecretValue> {
    let (place, text) = match (env, file) {
        (Some(name), None) => {
            let place = place.key("env");
            let Some(text) = environment(name) else {
                let message = format!("the environment variable {} is not set", place.shown(name));
                report.error(&place, message, "set it where the gateway is started");
                return None;
            };
            (place, text)
        }
        (None, Some(file)) => {
            let place = place.key("file");
            let path = existing(file, &place, "file of the secret", report)?;
            report.source(&path);
            let Ok(text) = read(&path) else {
                report.error(&place, "cannot be read as a text of at most 4,096 bytes", "look at its owner and mode");
                return None;
            };
            let text = text.strip_suffix('\n').unwrap_or(&text);
            (place, text.strip_suffix('\r').unwrap_or(text).to_owned())
        }
        _ => {
            report.error(place, "takes exactly one of `env` and `file`", "such as `env: TOKEN_SERVER_SECRET`");
            return None;
        }
    };
    let value = SecretValue::parse(&text);
    value
        .map_err(|_| {
            let hint = "a secret is 1 to 4,096 visible ASCII characters: it must fit into a header field";
            report.error(&place, "what is there is not a secret", hint);
        })
        .ok()
}

fn read(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    // Two bytes more for a line break, one more to see that there is too much.
    let read = files::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    let fits = u64::try_from(read).is_ok_and(|read| read <= FILE_BYTES_MAX);
    if fits { Ok(text) } else { Err(std::io::ErrorKind::FileTooLarge.into()) }
}

/// Converts the list of APIs that a plugin may call. Whether they are there is looked at when all are read.
pub(super) fn apis(raw: Option<Apis>, grants: &[Capability], place: &Place, report: &mut Report) -> Option<Vec<ApiId>> {
    let here = place.key("apis");
    let Some(raw) = raw else {
        if grants.contains(&Capability::Apis) {
            let hint = "add `apis: { allow: [ID] }` to the plugin: `apis` alone reaches nothing";
            report.error(&here, "`apis` is granted, but there is no list of APIs", hint);
            return None;
        }
        return Some(Vec::new());
    };
    if !grants.iter().any(|grant| matches!(grant, Capability::Apis | Capability::Upstream)) {
        report.warn(&here, "is not used", "add `apis` (to call them) or `upstream` (to send requests on) to `grants`");
    }
    let here = here.key("allow");
    if raw.allow.is_empty() {
        report.error(&here, "the list is empty", "name at least one API, such as `orders`");
        return None;
    }
    api_ids(&raw.allow, &here, report)
}

/// Converts a list of ids of APIs.
pub(super) fn api_ids(raw: &[String], place: &Place, report: &mut Report) -> Option<Vec<ApiId>> {
    let mut read = Vec::new();
    for (index, id) in raw.iter().enumerate() {
        match ApiId::parse(id) {
            Ok(id) => read.push(id),
            Err(error) => report.invalid(&place.item(index), id, "an API's id", error, "such as `orders`"),
        }
    }
    (read.len() == raw.len()).then_some(read)
}

/// Notes APIs that a plugin may call and that are not there.
fn check_apis(gateway: &Gateway, all: &Definitions, report: &mut Report) {
    let known: Vec<&str> = all.apis.iter().map(|(_, api)| api.id.as_str()).collect();
    for (place, plugin) in &all.plugins {
        let place = place.key("apis").key("allow");
        for (index, id) in plugin.apis.iter().enumerate() {
            let place = place.item(index);
            // What could not be read may be the one that is meant.
            if !all.has_gaps && !known.contains(&id.as_str()) {
                let hint = match closest(id.as_str(), known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "name it as under `id` of the API".to_owned(),
                };
                report.error(&place, format!("there is no API `{id}`"), hint);
            }
            if gateway.runtime.apis_max.as_ref().is_some_and(|max| !max.contains(id)) {
                let message = format!("`{id}` is not in `runtime.apis_max`");
                report.error(&place, message, "take it out here, or add it there");
            }
        }
    }
}

/// Checks plugins against what the deployment allows at most, and against what there is.
pub(super) fn check_ceilings(gateway: &Gateway, all: &Definitions, report: &mut Report) {
    check_apis(gateway, all, report);
    for (place, plugin) in &all.plugins {
        if let Some(grants_max) = &gateway.runtime.grants_max {
            for grant in plugin.grants.iter().filter(|grant| !grants_max.contains(grant)) {
                let message = format!("`{}` is not in `runtime.grants_max`", grant.as_str());
                report.error(&place.key("grants"), message, "take it out here, or add it there");
            }
        }
        let runtime = &gateway.runtime;
        check_places(&plugin.outgoing_http.allow, &runtime.outgoing_http_max, "outgoing_http", place, report);
        check_places(&plugin.upstream, &runtime.upstream_max, "upstream", place, report);
    }
}

/// Notes places of a plugin beyond what the deployment allows.
fn check_places(allow: &[Destination], max: &Option<Vec<Destination>>, key: &str, plugin: &Place, report: &mut Report) {
    let Some(max) = max else { return };
    for (index, entry) in allow.iter().enumerate() {
        if !max.iter().any(|max| max.covers(entry)) {
            let place = plugin.key(key).key("allow").item(index);
            let message = format!("`{entry}` is not within `runtime.{key}_max`");
            report.error(&place, message, "take it out here, or add it there");
        }
    }
}

const NAME_BYTES_MAX: usize = 64;
const FILE_BYTES_MAX: u64 = 4_098;
