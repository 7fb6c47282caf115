//! Rules between parts: what does not fit together, what is not used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::report::{Place, Report};
use super::{Definitions, policy, raw};
use crate::model::id::PluginName;
use crate::model::plugin::{Limits, PluginSpec};

/// What of the gateway's own settings plugins and APIs are compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    instance_memory_bytes_max: u64,
    analytics: raw::AnalyticsTarget,
}

impl Settings {
    pub(super) fn of(file: &raw::File) -> Self {
        let instance_memory_bytes_max = file.runtime.instance_memory_bytes_max;
        Self { instance_memory_bytes_max, analytics: file.analytics.target }
    }
}

/// Checks the whole, as far as it is there.
pub(super) fn check(settings: Option<Settings>, all: &Definitions, root: &Place, report: &mut Report) {
    all.claims.check(report);
    let ids = all.apis.iter().map(|(_, api)| api.id.as_str()).collect();
    policy::check(&all.policies, (!all.has_gaps).then_some(&ids), report);
    // A section with an error may be at its defaults.
    let is_whole = |section: &str| root.key(section).is_whole();
    if is_whole("plugin_limits") {
        if let Some(settings) = settings.filter(|_| is_whole("runtime")) {
            plugin_memory(settings, all, report);
        }
        deadlines(all, report);
    }
    if let Some(settings) = settings.filter(|_| is_whole("analytics")) {
        analytics_hooks(settings, all, report);
    }
    if all.has_gaps {
        // What is left out may be what uses a plugin.
        return;
    }
    unused_plugins(all, report);
    versions_of_policies(all, report);
    patterns_of_counters(all, report);
    if all.apis.is_empty() {
        report.warn(&root.key("apis"), "there is no API: every request gets 404", "");
    }
}

/// Compares the addresses of listeners, each with its place, with each other and with the control port's.
pub(super) fn addresses(
    listeners: &[(Place, SocketAddr)],
    control: Option<SocketAddr>,
    root: &Place,
    report: &mut Report,
) {
    let mut seen: BTreeMap<SocketAddr, &Place> = BTreeMap::new();
    for (place, address) in listeners {
        if let Some(before) = seen.insert(*address, place).filter(|_| address.port() != 0) {
            let message = format!("the address is also `{}`'s", before.path());
            report.error(&place.key("address"), message, "remove one of them");
        }
    }
    let place = root.key("control").key("address");
    let Some(control) = control else { return };
    if control.port() != 0 && seen.contains_key(&control) {
        report.error(&place, "callers connect to the same address", "give the control port one of its own");
    }
    if !control.ip().to_canonical().is_loopback() {
        report.warn(&place, "the control port can be reached from other machines", "keep callers away from it");
    }
}

fn plugin_memory(settings: Settings, all: &Definitions, report: &mut Report) {
    let largest = settings.instance_memory_bytes_max;
    for (place, plugin) in &all.plugins {
        let bytes = plugin.limits.memory_bytes_max;
        if bytes > largest {
            let place = place.key("limits").key("memory_bytes_max");
            let message = format!("{bytes} is above `runtime.instance_memory_bytes_max`, which is {largest}");
            report.error(&place, message, "lower the one or raise the other");
        }
    }
}

fn deadlines(all: &Definitions, report: &mut Report) {
    let limits: BTreeMap<&PluginName, &Limits> = all.plugins.iter().map(|(_, p)| (&p.name, &p.limits)).collect();
    for (place, api) in &all.apis {
        let mut told = BTreeSet::new();
        for (_, used) in api.uses() {
            let Some(limits) = limits.get(&used.plugin) else { continue };
            if limits.deadline > api.request_timeout && told.insert(&used.plugin) {
                let message = format!(
                    "plugin `{}` may take {} ms, longer than the whole request with {} ms",
                    used.plugin,
                    limits.deadline.as_millis(),
                    api.request_timeout.as_millis(),
                );
                report.warn(&place.key("request_timeout_ms"), message, "lower the plugin's `deadline_ms`");
            }
        }
    }
}

fn analytics_hooks(settings: Settings, all: &Definitions, report: &mut Report) {
    for (place, api) in &all.apis {
        if api.hooks.analytics.is_empty() {
            continue;
        }
        let hooks = place.key("hooks").key("analytics");
        if !api.analytics.enabled {
            report.warn(&hooks, "never run: the API records nothing", "set `analytics.enabled: true` in the API");
        } else if settings.analytics == raw::AnalyticsTarget::Off {
            report.warn(&hooks, "never run: records go nowhere", "set the gateway's `analytics.target`");
        }
    }
}

/// A right to versions that are not there is none, and one that was meant otherwise should be told.
fn versions_of_policies(all: &Definitions, report: &mut Report) {
    for (place, policy) in &all.policies {
        for right in &policy.access_rights {
            let api = all.apis.iter().map(|(_, api)| api).find(|api| api.id.as_str() == right.api_id);
            let Some(versions) = api.and_then(|api| api.versions.as_ref()) else { continue };
            let named = place.key("access").key(&right.api_id).key("versions");
            for (index, name) in right.versions.iter().enumerate().filter(|(_, name)| !versions.has(name)) {
                let message = format!("the API `{}` has no version {}", right.api_id, named.item(index).shown(name));
                report.warn(place, message, "sessions with the policy get no right by that");
            }
        }
    }
}

/// What Tyk reads there would be left out in silence.
fn patterns_of_counters(all: &Definitions, report: &mut Report) {
    for (place, policy) in &all.policies {
        if policy.metadata.contains_key("rate_limit_pattern") {
            let message = "`rate_limit_pattern` in its metadata is not read: each session is counted by itself";
            report.warn(place, message, "plugins may change metadata, which must not choose whose counter is used");
        }
    }
}

fn unused_plugins(all: &Definitions, report: &mut Report) {
    let used: BTreeSet<&PluginName> = all.apis.iter().flat_map(|(_, api)| api.uses().map(|(_, u)| &u.plugin)).collect();
    for (place, PluginSpec { name, .. }) in &all.plugins {
        if !used.contains(name) {
            report.warn(place, "no API uses the plugin", "remove it, or name it under an API's `hooks`");
        }
    }
}
