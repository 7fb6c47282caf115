//! What is loaded, and loading it again.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Refusal, changed, shown};
use super::audit::Audit;
use super::control::Control;
use crate::live::reload::{Reloaded, Reloader};
use crate::live::{Live, Outcome, Report};
use crate::model::time;
use crate::plugin::quarantine::Quarantined;

/// What is served, and who takes up what changed.
#[derive(Clone)]
pub struct Loaded {
    /// What is served.
    pub live: Live,
    /// Who reads definitions and plugin files again; none where the gateway was not started from a file.
    pub reloader: Option<Reloader>,
}

/// Reads everything again, here and, for a group, with all gateways of the store. Answers when requests get what came of it.
pub(super) async fn reload(control: &Control, group: bool, audit: &mut Audit) -> Result<Answer, Refusal> {
    let reloader = loaded(control)?.reloader.as_ref();
    let reloader = reloader.ok_or(Refusal::Collides("the gateway was not started from a file"))?;
    let reloaded = reloader.reload().await?;
    audit.outcome(outcome(&reloaded));
    if group {
        control.store.announce_reload().await?;
    }
    let body = body(&reloaded);
    if reloaded.is_whole() { Ok(shown(&body)) } else { Err(Refusal::NotTakenUp(Box::new(body))) }
}

/// The plugins of the configuration, each with its version in use and what is wrong with its file.
pub(super) fn plugins(control: &Control) -> Result<Answer, Refusal> {
    let snapshot = loaded(control)?.live.snapshot();
    let plugins = snapshot.plugins.iter().map(|plugin| {
        let quarantined = plugin.generation.as_ref().and_then(|generation| generation.quarantine.shown());
        let state = match (&plugin.generation, &plugin.refused) {
            _ if quarantined.is_some() => "quarantined",
            (Some(_), None) => "loaded",
            (Some(_), Some(_)) => "kept",
            (None, _) => "refused",
        };
        let generation = plugin.generation.as_ref();
        let refused = plugin.refused.as_ref();
        json!({
            "name": plugin.name.as_str(),
            "state": state,
            "version": generation.map(|generation| &generation.description.version),
            "digest": generation.map(|generation| generation.digest.hex()),
            "file": generation.map(|generation| generation.spec.source.to_string()),
            "signed_by": generation.and_then(|generation| generation.signed_by.as_deref()),
            "reason": refused.map(|refused| refused.error.to_string()),
            "refused_digest": refused.and_then(|refused| refused.digest).map(|digest| digest.hex()),
            "quarantine": quarantined.as_ref().map(quarantine),
        })
    });
    Ok(shown(&plugins.collect()))
}

fn quarantine(quarantined: &Quarantined) -> Value {
    json!({
        "since": time::text(i64::try_from(quarantined.since_ms).unwrap_or(i64::MAX)),
        "probes": quarantined.probes,
        "calls_refused": quarantined.calls_refused,
        "next_probe_ms": u64::try_from(quarantined.next_probe.as_millis()).unwrap_or(u64::MAX),
        "kind": quarantined.last.kind.as_str(),
        "reason": quarantined.last.reason,
    })
}

/// Ends the quarantine of a plugin on this gateway.
pub(super) fn release(control: &Control, name: &str, audit: &mut Audit) -> Result<Answer, Refusal> {
    audit.plugin(name);
    let snapshot = loaded(control)?.live.snapshot();
    let generations = snapshot.generations(name);
    if generations.is_empty() {
        return Err(Refusal::NotFound("Plugin not found"));
    }
    // All of them, not only up to the first one.
    let released = generations.iter().filter(|generation| generation.quarantine.release()).count();
    let action = if released > 0 { "released" } else { "unchanged" };
    audit.outcome(action);
    Ok(changed(action, name, None))
}

/// The APIs that are served, and what is wrong with their definitions.
pub(super) fn apis(control: &Control) -> Result<Answer, Refusal> {
    let snapshot = loaded(control)?.live.snapshot();
    let apis = snapshot.plans.iter().map(|plan| {
        let api = &plan.api;
        let plugins = plan.uses().map(|used| {
            json!({ "plugin": used.generation.spec.name.as_str(), "digest": used.generation.digest.hex(), "hook": used.function.hook.as_str() })
        });
        json!({
            "id": api.id.as_str(),
            "name": api.name,
            "listen_path": api.listen.path.as_str(),
            "hosts": api.listen.hosts,
            "upstream": api.upstream.origin.to_string(),
            "plugins": plugins.collect::<Value>(),
        })
    });
    let problems = snapshot.problems.iter().map(|problem| json!({ "place": problem.place, "reason": problem.reason }));
    Ok(shown(&json!({ "apis": apis.collect::<Value>(), "problems": problems.collect::<Value>() })))
}

fn loaded(control: &Control) -> Result<&Loaded, Refusal> {
    control.loaded.as_ref().ok_or(Refusal::Collides("the gateway serves nothing"))
}

fn outcome(reloaded: &Reloaded) -> &'static str {
    match reloaded {
        Reloaded::Refused(_) => "refused",
        Reloaded::Built { .. } => match (reloaded.is_whole(), reloaded.has_changes()) {
            (true, true) => "changed",
            (true, false) => "unchanged",
            (false, true) => "changed in part",
            (false, false) => "kept",
        },
    }
}

/// What did not change is counted only: there may be a thousand APIs.
fn body(reloaded: &Reloaded) -> Value {
    let status = if reloaded.is_whole() { "ok" } else { "error" };
    let outcome = outcome(reloaded);
    match reloaded {
        Reloaded::Refused(problems) => json!({
            "status": status,
            "message": "the definitions cannot be used; everything is as it was",
            "outcome": outcome,
            "problems": problems,
        }),
        Reloaded::Built { report, policies_changed, restart, warnings } => json!({
            "status": status,
            "message": "",
            "outcome": outcome,
            "plugins": plugins_of(report),
            "apis": report.apis.iter().filter(|(_, o)| *o != Outcome::Unchanged).map(|(id, o)| (id.to_string(), told(o))).collect::<Map<_, _>>(),
            "policies_changed": policies_changed,
            "unchanged": report.outcomes().filter(|outcome| **outcome == Outcome::Unchanged).count(),
            "needs_restart": restart,
            "warnings": warnings,
        }),
    }
}

fn plugins_of(report: &Report) -> Map<String, Value> {
    let changed = report.plugins.iter().filter(|(_, outcome, _)| *outcome != Outcome::Unchanged);
    let told = changed.map(|(name, outcome, versions)| {
        let mut told = told(outcome);
        if let Some(fields) = told.as_object_mut() {
            for (name, digest) in [("before", versions.before), ("now", versions.now)] {
                fields.insert(name.to_owned(), digest.map(|digest| digest.hex()).into());
            }
        }
        (name.to_string(), told)
    });
    told.collect()
}

fn told(outcome: &Outcome) -> Value {
    json!({ "outcome": outcome.as_str(), "reason": outcome.reason() })
}
