//! Our own format: YAML or TOML, unknown keys refused, every problem told at once.
//!
//! Text becomes a JSON value, the value is checked against the derived schema, and what has the right shape becomes raw
//! types and then the model. What has the wrong shape is told and taken out, so that it does not hide other problems.

mod api;
mod fetch;
mod file;
mod gateway;
mod include;
mod kinds;
mod near;
mod outgoing;
mod plugin;
mod policy;
mod provenance;
mod prune;
mod raw;
mod raw_api;
mod raw_extractor;
mod raw_fetch;
mod raw_outgoing;
mod raw_plugin;
mod raw_policy;
mod raw_store;
mod raw_versions;
mod report;
mod rules;
mod shape;
mod store;
mod text;
mod twice;
mod tyk_policy;
mod validate;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use file::{FileDefinitions, Parsed, parse_file};
use provenance::Trust;
use report::{Place, Report};
use shape::Shape;
use twice::Claims;

use super::{Problem, Problems};
use crate::model::api::Api;
use crate::model::gateway::Gateway;
use crate::model::plugin::PluginSpec;
use crate::model::policy::Policy;

/// See [`super::read_with`].
pub(super) fn read(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(Gateway, Vec<Problem>), Problems> {
    let mut report = Report::default();
    match read_all(path, environment, &mut report) {
        Some(gateway) if !report.has_errors() => Ok((gateway, report.into_problems())),
        _ => Err(Problems(report.into_problems())),
    }
}

/// The JSON Schema of the main file.
pub(super) fn schema() -> serde_json::Value {
    schemars::schema_for!(raw::File).to_value()
}

/// Gives the value of an environment variable.
type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// What stands in files, converted, with the places for further checks.
#[derive(Default)]
struct Definitions {
    plugins: Vec<(Place, PluginSpec)>,
    apis: Vec<(Place, Api)>,
    policies: Vec<(Place, Policy)>,
    /// What of these, and of those that could not be converted, must not be there twice.
    claims: Claims,
    /// Whether some plugin, API or policy could not be converted, so that what uses what is not known.
    has_gaps: bool,
}

fn read_all(path: &Path, environment: &dyn Fn(&str) -> Option<String>, report: &mut Report) -> Option<Gateway> {
    let mut main: Parsed<raw::File> = parse_file(path, &MAIN, environment, report)?;
    let top = main.top.take();
    let mut seen = BTreeSet::from([absolute(path)]);
    let mut files = vec![main.definitions()];
    for (index, pattern) in top.as_ref().map(|t| t.include.as_slice()).unwrap_or_default().iter().enumerate() {
        let place = main.place.key("include").item(index);
        for file in include::files(pattern, &place, report) {
            if seen.insert(absolute(&file)) {
                let parsed: Option<Parsed<raw::IncludedFile>> = parse_file(&file, &INCLUDED, environment, report);
                let unread = || FileDefinitions { has_gaps: true, ..FileDefinitions::default() };
                files.push(parsed.map_or_else(unread, |mut parsed| parsed.definitions()));
            }
        }
    }

    let trust = top.as_ref().map(|top| Trust::convert(&top.trusted_keys, top.plugins_require, &main.place, report));
    let defaults = plugin::Defaults {
        trust: trust.unwrap_or_else(Trust::unknown),
        limits: top.as_ref().map(|t| t.plugin_limits.clone()).unwrap_or_default(),
        quarantine: top.as_ref().map(|t| t.plugin_quarantine.clone()).unwrap_or_default(),
    };
    plugin::pauses(&plugin::quarantine_with(&defaults.quarantine), &main.place.key("plugin_quarantine"), report);
    let mut names = BTreeSet::new();
    for file in &files {
        for (place, name) in &file.plugin_names {
            if !names.insert(name.clone()) {
                report.error(
                    place,
                    format!("plugin `{}` is declared twice", name.escape_debug()),
                    "rename one of them",
                );
            }
        }
    }
    let mut all = Definitions::default();
    for file in files {
        all.has_gaps |= file.has_gaps;
        for (place, name, raw) in file.plugins {
            let plugin = plugin::convert(&name, raw, &defaults, environment, &place, report);
            let plugin = plugin.filter(|_| place.is_whole());
            all.has_gaps |= plugin.is_none();
            all.plugins.extend(plugin.map(|p| (place, p)));
        }
        for (place, raw) in file.apis {
            all.claims.api(&place, &raw);
            let api = api::convert(raw, &names, &place, report).filter(|_| place.is_whole());
            all.has_gaps |= api.is_none();
            all.apis.extend(api.map(|a| (place, a)));
        }
        for (place, raw) in file.policies {
            let policy = policy::convert(raw, &place, &mut all.claims, report);
            all.has_gaps |= policy.is_none();
            all.policies.extend(policy.map(|p| (place, p)));
        }
    }
    if let Some(raw_policy::Policies::Files(files)) = top.as_ref().map(|t| &t.policies) {
        for (place, policy) in
            policy::from_files(files, &main.place.key("policies"), environment, &mut all.claims, report)
        {
            all.has_gaps |= policy.is_none();
            all.policies.extend(policy.map(|p| (place, p)));
        }
    }
    let settings = top.as_ref().map(rules::Settings::of);
    let gateway = top.and_then(|top| gateway::convert(top, environment, &main.place, report));
    if let Some(gateway) = &gateway {
        outgoing::check_ceilings(gateway, &all, report);
    }
    rules::check(settings, &all, &main.place, report);
    let mut gateway = gateway?;
    gateway.sources = report.take_sources();
    gateway.plugins = all.plugins.into_iter().map(|(_, plugin)| plugin).collect();
    gateway.apis = all.apis.into_iter().map(|(_, api)| api).collect();
    gateway.policies = all.policies.into_iter().map(|(_, policy)| policy).collect();
    Some(gateway)
}

static MAIN: LazyLock<Shape> = LazyLock::new(Shape::of::<raw::File>);
static POLICIES: LazyLock<Shape> = LazyLock::new(Shape::of::<raw_policy::PolicyFile>);
static INCLUDED: LazyLock<Shape> = LazyLock::new(Shape::of::<raw::IncludedFile>);

fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
