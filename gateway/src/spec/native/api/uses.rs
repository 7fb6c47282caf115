//! The uses of plugins by an API, from raw to model.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use crate::model::api::{
    Answers, Auth, AuthBy, CredentialSource, EndpointUse, HookUse, Hooks, Keyed, PolicyGrant, Provider, Require,
    ResponseUse,
};
use crate::model::extractor::IdSource;
use crate::model::id::PluginName;
use crate::model::path::PathTemplate;
use crate::model::plugin::OnFailure;
use crate::spec::native::near::closest;
use crate::spec::native::raw_api as raw;
use crate::spec::native::raw_extractor;
use crate::spec::native::report::{Place, Report};
use crate::spec::native::validate::listed;

/// The names of all declared plugins.
pub(super) type Declared = BTreeSet<String>;

/// Converts how callers authenticate.
pub(super) fn auth(raw: Option<raw::Auth>, plugins: &Declared, place: &Place, report: &mut Report) -> Option<Auth> {
    let Some(raw) = raw else { return Some(Auth::Keyless) };
    let credential = match raw.credential {
        Some(credential) => source(credential, &place.key("credential"), report),
        None => Some(CredentialSource::Header(http::header::AUTHORIZATION)),
    };
    never_continue(raw.on_failure, "authentication", place, report);
    let plugin = match raw.plugin {
        None => {
            for (key, is_there) in [
                ("function", raw.function.is_some()),
                ("config", !raw.config.is_null()),
                ("id_extractor", raw.id_extractor.is_some()),
            ] {
                if is_there {
                    report.error(&place.key(key), "belongs to a plugin, and there is none", "name it under `plugin`");
                }
            }
            Some(None)
        }
        Some(plugin) => {
            let full =
                raw::FullUse { plugin, function: raw.function, config: raw.config, on_failure: raw::OnFailure::Reject };
            hook(full, plugins, place, report).map(Some)
        }
    };
    let extractor = match &raw.id_extractor {
        None => Some(None),
        Some(raw) => raw_extractor::convert(raw, &place.key("id_extractor"), report).map(Some),
    };
    if let (Some(Some(extractor)), Some(credential)) = (&extractor, &credential)
        && !is_there(extractor.source(), credential)
    {
        let message = format!("the ID is not in the credential (`credential`: {credential})");
        let hint = "whoever sends an ID that is known is that caller, whatever the credential: take the ID from there";
        report.warn(&place.key("id_extractor"), message, hint);
    }
    let plugin = plugin?;
    let by = match (raw.token.unwrap_or(plugin.is_none()), plugin) {
        (true, None) => AuthBy::Token,
        (false, Some(plugin)) => AuthBy::Plugin(plugin),
        (true, Some(plugin)) => AuthBy::Both {
            plugin,
            require: match raw.require {
                raw::Require::All => Require::All,
                raw::Require::Any => Require::Any,
            },
            session_from: match raw.session_from {
                raw::SessionFrom::Token => Provider::Token,
                raw::SessionFrom::Plugin => Provider::Plugin,
            },
        },
        (false, None) => {
            report.error(&place.key("token"), "nobody would know a caller", "leave it out, or name a `plugin`");
            return None;
        }
    };
    let policies =
        if raw.policies.iter().any(|id| id == "*") { PolicyGrant::All } else { PolicyGrant::Only(raw.policies) };
    Some(Auth::Keyed(Box::new(Keyed {
        extractor: extractor?,
        policies,
        by,
        credential: credential?,
        strip_credential: raw.strip_credential,
        session_lifetime: Duration::from_secs(raw.session_lifetime_seconds),
        sessions_max: raw.sessions_max,
        counters_max: raw.counters_max,
        quota_life: Duration::from_secs(raw.quota_life_seconds),
    })))
}

/// Whether the ID stands where the credential does.
fn is_there(id: &IdSource, credential: &CredentialSource) -> bool {
    match (id, credential) {
        (IdSource::Header(id), CredentialSource::Header(credential)) => id == credential,
        (IdSource::Query(id), CredentialSource::Query(credential))
        | (IdSource::Cookie(id), CredentialSource::Cookie(credential)) => id == credential,
        _ => false,
    }
}

fn source(raw: raw::Credential, place: &Place, report: &mut Report) -> Option<CredentialSource> {
    // The schema lets exactly one key through.
    let header = |name: String| match http::HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => Ok(CredentialSource::Header(name)),
        Err(_) => Err(("header", name, "a header field's name", "such as `authorization`")),
    };
    let cookie = |name: String| match http::HeaderName::from_bytes(name.as_bytes()) {
        // A cookie's name is a token, as a header field's is.
        Ok(_) => Ok(CredentialSource::Cookie(name)),
        Err(_) => Err(("cookie", name, "a cookie's name", "such as `sid`")),
    };
    let query = |name: String| {
        if name.is_empty() {
            return Err(("query", name, "a query parameter's name", "such as `token`"));
        }
        Ok(CredentialSource::Query(name))
    };
    let parsed = (raw.header.map(header)).or_else(|| raw.query.map(query)).or_else(|| raw.cookie.map(cookie))?;
    parsed.map_err(|(key, name, what, hint)| report.invalid(&place.key(key), &name, what, "", hint)).ok()
}

/// Converts the hooks.
pub(super) fn hooks(raw: raw::Hooks, plugins: &Declared, place: &Place, report: &mut Report) -> Option<Hooks> {
    let pre = each(raw.pre, &place.key("pre"), |u, place| plain(u, plugins, place, report));
    let post_auth = each(raw.post_auth, &place.key("post_auth"), |u, place| plain(u, plugins, place, report));
    let endpoint = each(raw.endpoint, &place.key("endpoint"), |u, place| endpoint(u, plugins, place, report));
    let post = each(raw.post, &place.key("post"), |u, place| plain(u, plugins, place, report));
    let response = each(raw.response, &place.key("response"), |u, place| response(u, plugins, place, report));
    let analytics = each(raw.analytics, &place.key("analytics"), |u, place| {
        if let raw::Use::Full(full) = &u {
            never_continue(full.on_failure, "analytics", place, report);
        }
        plain(u, plugins, place, report)
    });
    Some(Hooks {
        pre: pre?,
        post_auth: post_auth?,
        endpoint: endpoint?,
        post: post?,
        response: response?,
        analytics: analytics?,
    })
}

/// Converts every item, also after one that failed.
fn each<T, U>(items: Vec<T>, place: &Place, mut convert: impl FnMut(T, &Place) -> Option<U>) -> Option<Vec<U>> {
    let all: Vec<Option<U>> =
        items.into_iter().enumerate().map(|(index, item)| convert(item, &place.item(index))).collect();
    all.into_iter().collect()
}

fn plain(raw: raw::Use, plugins: &Declared, place: &Place, report: &mut Report) -> Option<HookUse> {
    match raw {
        raw::Use::Name(name) => by_name(&name, plugins, place, report),
        raw::Use::Full(full) => hook(full, plugins, place, report),
    }
}

fn endpoint(raw: raw::EndpointUse, plugins: &Declared, place: &Place, report: &mut Report) -> Option<EndpointUse> {
    let method = match raw.method.as_deref() {
        None => Some(None),
        Some(text) if text.contains(|c: char| c.is_ascii_lowercase()) => {
            report.invalid(&place.key("method"), text, "a method", "methods have capitals", "such as `GET`");
            None
        }
        Some(text) => match http::Method::from_bytes(text.as_bytes()) {
            Ok(method) => Some(Some(method)),
            Err(error) => {
                report.invalid(&place.key("method"), text, "a method", error, "such as `GET`; leave it out for all");
                None
            }
        },
    };
    let path = PathTemplate::parse(&raw.path)
        .map_err(|e| {
            let hint = "such as `/users/{id}` or `/files/{*rest}`";
            report.invalid(&place.key("path"), &raw.path, "a path template", e, hint);
        })
        .ok();
    let full =
        raw::FullUse { plugin: raw.plugin, function: raw.function, config: raw.config, on_failure: raw.on_failure };
    let hook = hook(full, plugins, place, report);
    Some(EndpointUse { hook: hook?, method: method?, path: path?, operation_id: raw.operation_id })
}

fn response(raw: raw::ResponseUse, plugins: &Declared, place: &Place, report: &mut Report) -> Option<ResponseUse> {
    let raw = match raw {
        raw::ResponseUse::Name(name) => {
            let hook = by_name(&name, plugins, place, report)?;
            return Some(ResponseUse { hook, answers: Answers::default() });
        }
        raw::ResponseUse::Full(full) => full,
    };
    let answers = match raw.answers {
        raw::Answers::All => Answers::All,
        raw::Answers::Upstream => Answers::Upstream,
    };
    let full =
        raw::FullUse { plugin: raw.plugin, function: raw.function, config: raw.config, on_failure: raw.on_failure };
    Some(ResponseUse { hook: hook(full, plugins, place, report)?, answers })
}

fn hook(raw: raw::FullUse, plugins: &Declared, place: &Place, report: &mut Report) -> Option<HookUse> {
    let plugin = plugin_name(&raw.plugin, plugins, &place.key("plugin"), report);
    if raw.function.as_deref() == Some("") {
        report.error(&place.key("function"), "is empty", "leave it out where the plugin has only one");
        return None;
    }
    let on_failure = match raw.on_failure {
        raw::OnFailure::Reject => OnFailure::Reject,
        raw::OnFailure::Continue => OnFailure::Continue,
    };
    Some(HookUse { plugin: plugin?, function: raw.function, config: raw.config, on_failure })
}

fn by_name(name: &str, plugins: &Declared, place: &Place, report: &mut Report) -> Option<HookUse> {
    let plugin = plugin_name(name, plugins, place, report)?;
    Some(HookUse { plugin, function: None, config: Value::Null, on_failure: OnFailure::default() })
}

fn plugin_name(name: &str, plugins: &Declared, place: &Place, report: &mut Report) -> Option<PluginName> {
    if plugins.contains(name) {
        // A bad name is told where the plugin is declared.
        return PluginName::parse(name).ok();
    }
    let declared = plugins.iter().map(String::as_str);
    let hint = match closest(name, declared.clone()) {
        Some(near) => format!("did you mean `{near}`? Declared are {}", listed(declared)),
        None if plugins.is_empty() => "no plugin is declared: `plugins` is empty".to_owned(),
        None => format!("declared are {}", listed(declared)),
    };
    report.error(place, format!("there is no plugin {}", place.shown(name)), hint);
    None
}

fn never_continue(on_failure: raw::OnFailure, what: &str, place: &Place, report: &mut Report) {
    if on_failure == raw::OnFailure::Continue {
        let message = format!("`continue` would make a failing plugin switch {what} off");
        report.error(&place.key("on_failure"), message, "leave it out: it is always `reject` here");
    }
}
