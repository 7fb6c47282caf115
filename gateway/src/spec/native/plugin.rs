//! Plugins, from raw to model.

use std::time::Duration;

use super::gateway::existing;
use super::provenance::Trust;
use super::raw_plugin::{self as raw, PluginLimits, PluginQuarantine};
use super::report::{Place, Report};
use super::{Environment, outgoing};
use crate::model::id::PluginName;
use crate::model::plugin::{Capability, Isolation, Limits, PluginSpec, Quarantine};
use crate::model::source::Source;

/// What plugins have that do not say it themselves.
#[derive(Debug, Clone, Default)]
pub(super) struct Defaults {
    /// `plugin_limits`.
    pub(super) limits: PluginLimits,
    /// `plugin_quarantine`.
    pub(super) quarantine: PluginQuarantine,
    /// `trusted_keys` and `plugins_require`.
    pub(super) trust: Trust,
}

/// Converts one plugin. What it leaves open comes from `defaults`, then from the model.
pub(super) fn convert(
    name: &str,
    mut raw: raw::Plugin,
    defaults: &Defaults,
    environment: Environment<'_>,
    place: &Place,
    report: &mut Report,
) -> Option<PluginSpec> {
    let name = PluginName::parse(name)
        .map_err(|_| {
            let hint = "1 to 128 letters, digits, `-`, `_` or `.`";
            report.error(place, format!("`{}` is not a plugin's name", name.escape_debug()), hint);
        })
        .ok();
    let source = source(&raw, &place.key("file"), report);
    let provenance = defaults.trust.of_plugin(&raw, source.as_ref(), place, report);
    let mut limits = with(&defaults.limits);
    apply(&raw.limits, &mut limits);
    let isolation = isolation(&raw, &limits, place, report);
    let grants = Capability::granted(raw.grants.iter().filter_map(|g| Capability::parse(&g.0)));
    let outgoing_http = outgoing::convert(raw.outgoing_http.take(), &grants, place, report);
    let known = outgoing_http.clone().unwrap_or_default();
    let secrets = outgoing::secrets(std::mem::take(&mut raw.secrets), (&grants, &known), environment, place, report);
    let upstream = outgoing::upstream(raw.upstream.take(), raw.apis.is_some(), &grants, place, report);
    let apis = outgoing::apis(raw.apis.take(), &grants, place, report);
    let mut quarantine = quarantine_with(&defaults.quarantine);
    apply_quarantine(&raw.quarantine, &mut quarantine);
    // What is wrong with the defaults alone is told at their place.
    if raw.quarantine.pause_min_ms.or(raw.quarantine.pause_max_ms).is_some() {
        pauses(&quarantine, &place.key("quarantine"), report);
    }
    Some(PluginSpec {
        name: name?,
        source: source?,
        provenance: provenance?,
        grants,
        outgoing_http: outgoing_http?,
        secrets: secrets?,
        upstream: upstream?,
        apis: apis?,
        isolation,
        limits,
        quarantine,
    })
}

/// Where its component is. A file on this machine must be there.
fn source(raw: &raw::Plugin, place: &Place, report: &mut Report) -> Option<Source> {
    let Some((scheme, _)) = raw.file.split_once("://") else {
        return existing(&raw.file, place, "plugin file", report).map(Source::File);
    };
    let hint = "such as `https://plugins.example.com/headers.wasm` or `oci://registry.example.com/headers:1.2`";
    // A query may hold something that opens doors, and so may what looks like one.
    let shown = match raw.file.split_once('?') {
        None => &raw.file,
        Some((_, query)) if query.contains('@') => scheme,
        Some((before, _)) => before,
    };
    let parsed = Source::parse(&raw.file).map_err(|error| report.invalid(place, shown, "a source", error, hint));
    let source = parsed.ok()?;
    if source.is_exposed() && raw.sha256.is_none() {
        let hint = "add `sha256: …` to the plugin, or write `https://`";
        report.error(place, "anybody on the way could send another file over `http://`", hint);
        return None;
    }
    Some(source)
}

/// The model's quarantine with these changes.
pub(super) fn quarantine_with(raw: &PluginQuarantine) -> Quarantine {
    let mut quarantine = Quarantine::default();
    apply_quarantine(raw, &mut quarantine);
    quarantine
}

/// Notes pauses that cannot be.
pub(super) fn pauses(quarantine: &Quarantine, place: &Place, report: &mut Report) {
    if quarantine.pause_min > quarantine.pause_max {
        let message = format!("`pause_min_ms` ({}) is above `pause_max_ms`", quarantine.pause_min.as_millis());
        report.error(place, message, "lower it, or raise `pause_max_ms`");
    }
}

fn apply_quarantine(raw: &PluginQuarantine, quarantine: &mut Quarantine) {
    let Quarantine { enabled, failures_max, window, share_min, pause_min, pause_max } = quarantine;
    let time = |ms: Option<u64>| ms.map(Duration::from_millis);
    set(enabled, raw.enabled);
    set(failures_max, raw.failures_max);
    set(window, time(raw.window_ms));
    set(share_min, raw.share_min);
    set(pause_min, time(raw.pause_min_ms));
    set(pause_max, time(raw.pause_max_ms));
}

fn set<T: Copy>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// The model's limits with these changes.
pub(super) fn with(raw: &PluginLimits) -> Limits {
    let mut limits = Limits::default();
    apply(raw, &mut limits);
    limits
}

fn isolation(raw: &raw::Plugin, limits: &Limits, place: &Place, report: &mut Report) -> Isolation {
    if raw.isolation == raw::Isolation::Reuse {
        let half = (limits.memory_bytes_max / 2).max(WASM_PAGE_BYTES);
        let high_water = raw.reuse_memory_high_water_bytes.unwrap_or(half);
        if high_water > limits.memory_bytes_max {
            let place = place.key("reuse_memory_high_water_bytes");
            report.warn(&place, "is above the plugin's `memory_bytes_max` and never bites", "lower it");
        }
        return Isolation::Reuse {
            calls_max: raw.reuse_calls_max.unwrap_or(REUSE_CALLS_MAX),
            memory_high_water_bytes: high_water,
        };
    }
    for (key, is_set) in [
        ("reuse_calls_max", raw.reuse_calls_max.is_some()),
        ("reuse_memory_high_water_bytes", raw.reuse_memory_high_water_bytes.is_some()),
    ] {
        if is_set {
            report.warn(&place.key(key), "is not used", "it belongs to `isolation: reuse`");
        }
    }
    Isolation::Request
}

fn apply(raw: &PluginLimits, limits: &mut Limits) {
    let time = |ms: Option<u64>| ms.map(Duration::from_millis);
    set(&mut limits.fuel, raw.fuel);
    set(&mut limits.deadline, time(raw.deadline_ms));
    set(&mut limits.memory_bytes_max, raw.memory_bytes_max);
    set(&mut limits.table_elements_max, raw.table_elements_max);
    set(&mut limits.host_call_bytes_max, raw.host_call_bytes_max);
    set(&mut limits.host_calls_max, raw.host_calls_max);
    set(&mut limits.session_calls_max, raw.session_calls_max);
    set(&mut limits.host_call_fuel, raw.host_call_fuel);
    set(&mut limits.host_call_fuel_per_byte, raw.host_call_fuel_per_byte);
    set(&mut limits.log_lines_max, raw.log_lines_max);
    set(&mut limits.log_bytes_max, raw.log_bytes_max);
    set(&mut limits.random_bytes_max, raw.random_bytes_max);
    set(&mut limits.clock_grain, raw.clock_grain_us.map(Duration::from_micros));
    set(&mut limits.body_in_bytes_max, raw.body_in_bytes_max);
    set(&mut limits.body_out_bytes_max, raw.body_out_bytes_max);
    set(&mut limits.header_count_max, raw.header_count_max);
    set(&mut limits.header_bytes_max, raw.header_bytes_max);
    set(&mut limits.concurrency_max, raw.concurrency_max);
    set(&mut limits.instance_wait, time(raw.instance_wait_ms));
    set(&mut limits.file_bytes_max, raw.file_bytes_max);
    set(&mut limits.compile_time_max, time(raw.compile_time_max_ms));
    set(&mut limits.compile_memory_bytes_max, raw.compile_memory_bytes_max);
    set(&mut limits.compiled_bytes_max, raw.compiled_bytes_max);
    set(&mut limits.functions_max, raw.functions_max);
    set(&mut limits.modules_max, raw.modules_max);
    set(&mut limits.types_max, raw.types_max);
    set(&mut limits.nesting_max, raw.nesting_max);
    set(&mut limits.kv_keys_max, raw.kv_keys_max);
    set(&mut limits.kv_key_bytes_max, raw.kv_key_bytes_max);
    set(&mut limits.kv_value_bytes_max, raw.kv_value_bytes_max);
    set(&mut limits.kv_bytes_max, raw.kv_bytes_max);
    set(&mut limits.outgoing_calls_max, raw.outgoing_calls_max);
    set(&mut limits.outgoing_time_max, time(raw.outgoing_time_max_ms));
    set(&mut limits.outgoing_request_bytes_max, raw.outgoing_request_bytes_max);
    set(&mut limits.outgoing_response_bytes_max, raw.outgoing_response_bytes_max);
    set(&mut limits.outgoing_header_bytes_max, raw.outgoing_header_bytes_max);
    set(&mut limits.outgoing_concurrency_max, raw.outgoing_concurrency_max);
    set(&mut limits.outgoing_wait, time(raw.outgoing_wait_ms));
    set(&mut limits.outgoing_idle_connections_max, raw.outgoing_idle_connections_max);
    set(&mut limits.api_calls_max, raw.api_calls_max);
    set(&mut limits.api_time_max, time(raw.api_time_max_ms));
    set(&mut limits.api_request_bytes_max, raw.api_request_bytes_max);
    set(&mut limits.api_response_bytes_max, raw.api_response_bytes_max);
    set(&mut limits.api_concurrency_max, raw.api_concurrency_max);
    set(&mut limits.api_wait, time(raw.api_wait_ms));
}

const REUSE_CALLS_MAX: u64 = 10_000;
const WASM_PAGE_BYTES: u64 = 64 << 10;
