//! The three sets that meet when a plugin loads: what it asks for, what its operator grants, what the deployment allows.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Failure, table};
use crate::model::gateway::Gateway;
use crate::model::plugin::{Capability, PluginSpec};
use crate::plugin::load::Generation;
use crate::plugin::rights::Rights;
use crate::spec;

/// What a configuration says of a plugin.
pub(super) struct Declared {
    /// By its operator.
    pub(super) spec: PluginSpec,
    /// The rest of it, with what the deployment allows.
    pub(super) gateway: Gateway,
}

/// How a capability stands in the three sets.
pub(super) struct Standing {
    capability: Capability,
    is_asked: bool,
    is_granted: bool,
    is_allowed: bool,
    /// What is to be done about it; empty where nothing is.
    to_do: String,
}

impl Declared {
    /// Reads the configuration and finds the plugin.
    pub(super) fn read(config: &Path, name: &str) -> Result<Self, Failure> {
        let (gateway, _) = spec::read(config).map_err(Failure::usage)?;
        let Some(spec) = gateway.plugins.iter().find(|spec| spec.name.as_str() == name).cloned() else {
            let name = crate::telemetry::text::escaped(name, NAME_BYTES_MAX);
            let message = format!("there is no plugin `{name}` in {}", config.display());
            return Err(Failure::Usage(anyhow::anyhow!(message)));
        };
        Ok(Self { spec, gateway })
    }

    /// How each capability stands that is in the first or the second set.
    pub(super) fn rights(&self, generation: &Generation) -> Vec<Standing> {
        let asked = Rights::of(generation).capabilities;
        let standing = |capability| {
            let is_asked = asked.contains_key(&capability);
            let is_granted = self.spec.grants.contains(&capability);
            (is_asked || is_granted).then(|| self.standing(capability, is_asked, is_granted))
        };
        Capability::ALL.into_iter().filter_map(standing).collect()
    }

    fn standing(&self, capability: Capability, is_asked: bool, is_granted: bool) -> Standing {
        let is_allowed =
            self.gateway.runtime.grants_max.as_ref().is_none_or(|grants_max| grants_max.contains(&capability));
        let (name, plugin) = (capability.as_str(), &self.spec.name);
        // What includes another one grants it too.
        let is_included = self.spec.grants.iter().any(|grant| grant.includes(capability));
        let mut to_do = Vec::new();
        if is_asked && !is_granted {
            to_do.push(format!("add `{name}` to `plugins.{plugin}.grants`{}", capability.beside()));
        }
        if is_asked && !is_allowed {
            to_do.push(format!("add `{name}` to `runtime.grants_max`"));
        }
        if is_granted && !is_asked && !is_included {
            to_do.push(format!("not asked for: take `{name}` out of `plugins.{plugin}.grants`"));
        }
        Standing { capability, is_asked, is_granted, is_allowed, to_do: to_do.join("; ") }
    }

    /// The same as fields of a JSON object.
    pub(super) fn fields(&self, rights: &[Standing]) -> Map<String, Value> {
        let secrets: Value = self.spec.secrets.iter().map(|secret| secret.name.clone()).collect();
        let runtime = &self.gateway.runtime;
        let fields = [
            ("plugin", json!(self.spec.name.as_str())),
            ("rights", rights.iter().map(Standing::as_json).collect()),
            ("outgoing_http", json!(texts(&self.spec.outgoing_http.allow))),
            ("outgoing_http_max", json!(runtime.outgoing_http_max.as_deref().map(texts))),
            ("upstream", json!(texts(&self.spec.upstream))),
            ("upstream_max", json!(runtime.upstream_max.as_deref().map(texts))),
            ("apis", json!(texts(&self.spec.apis))),
            ("apis_max", json!(runtime.apis_max.as_deref().map(texts))),
            ("secrets", secrets),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
    }

    /// Writes the three sets as a table, and where requests may go.
    pub(super) fn write_text(&self, rights: &[Standing], out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "rights as the plugin `{}`", self.spec.name)?;
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let row = |of: &Standing| {
            let name = of.capability.as_str().to_owned();
            vec![format!("  {name}"), yes(of.is_asked), yes(of.is_granted), yes(of.is_allowed), of.to_do.clone()]
        };
        let heads = ["  capability", "asked", "granted", "allowed", "to do"];
        table::table(out, &heads, &rights.iter().map(row).collect::<Vec<_>>())?;
        let secrets: Vec<&str> = self.spec.secrets.iter().map(|secret| secret.name.as_str()).collect();
        let runtime = &self.gateway.runtime;
        let rows = [
            ("  requests granted to", listed(&self.spec.outgoing_http.allow)),
            ("  requests allowed to", listed(runtime.outgoing_http_max.as_deref().unwrap_or_default())),
            ("  upstreams granted", listed(&self.spec.upstream)),
            ("  upstreams allowed", listed(runtime.upstream_max.as_deref().unwrap_or_default())),
            ("  APIs granted", listed(&self.spec.apis)),
            ("  APIs allowed", listed(runtime.apis_max.as_deref().unwrap_or_default())),
            ("  secrets", secrets.join(", ")),
        ];
        table::rows(out, &rows)
    }
}

impl Standing {
    /// Whether the plugin does not load for want of it.
    pub(super) fn is_missing(&self) -> bool {
        self.is_asked && !(self.is_granted && self.is_allowed)
    }

    fn as_json(&self) -> Value {
        json!({
            "capability": self.capability.as_str(),
            "asked": self.is_asked,
            "granted": self.is_granted,
            "allowed": self.is_allowed,
            "to_do": Some(&self.to_do).filter(|to_do| !to_do.is_empty()),
        })
    }
}

/// Places or APIs as a configuration writes them.
fn texts(of: &[impl ToString]) -> Vec<String> {
    of.iter().map(ToString::to_string).collect()
}

fn listed(of: &[impl ToString]) -> String {
    texts(of).join(", ")
}

const NAME_BYTES_MAX: usize = 128;
