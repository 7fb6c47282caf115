//! `stile plugin inspect`: what a component file is, what it asks for, and what it may use.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::declared::Declared;
use super::{Failure, this_program};
use crate::app;
use crate::clock::Clock;
use crate::fetch::{Fetched, Fetcher};
use crate::model::gateway::{
    AnalyticsSink, AnalyticsTarget, Control, FetchSettings, Gateway, Log, LogFormat, Reload, Runtime, ServerLimits,
};
use crate::model::id::PluginName;
use crate::model::outgoing::OutgoingHttp;
use crate::model::plugin::{Capability, Isolation, Limits, PluginSpec, Quarantine};
use crate::model::provenance::Provenance;
use crate::model::source::Source;
use crate::model::store::StoreSettings;
use crate::plugin::load::{Generation, Loader, PluginFile};
use crate::store::Store;
use crate::telemetry::text::escaped;

/// Loads components to look at them.
pub(super) struct Inspector {
    loader: Loader,
    fetcher: Fetcher,
}

/// Where a component was fetched from.
struct Origin {
    place: String,
    /// Why the server was not heard: then this is what it had last.
    stale: Option<String>,
}

/// Reads a component file and writes what it says of itself, as text or JSON; with a configuration and the name of a plugin
/// in it, also what that grants: a grant that is missing is a failure. Without a file, that plugin's own, which is fetched where it
/// is elsewhere.
pub(super) fn inspect(
    file: Option<&Path>,
    declared: Option<(&Path, &str)>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let declared = match declared {
        Some((config, name)) => Some(Declared::read(config, name)?),
        None => None,
    };
    let of = declared.as_ref().map(|declared| &declared.spec);
    let (generation, origin) = match (file.or_else(|| of?.source.file()), &declared) {
        (Some(file), _) => (Inspector::new()?.load(file, of)?, None),
        (None, Some(declared)) => {
            let (generation, origin) = Inspector::within(&declared.gateway)?.fetch(&declared.spec)?;
            (generation, Some(origin))
        }
        (None, None) => return Err(Failure::Usage(anyhow::anyhow!("name a file, or a plugin of the configuration"))),
    };
    let rights = declared.as_ref().map(|declared| declared.rights(&generation));
    if json {
        let mut value = as_json(&generation);
        if let (Some(origin), Some(fields)) = (&origin, value.as_object_mut()) {
            fields.insert("fetched_from".to_owned(), json!(origin.place));
            fields.insert("stale".to_owned(), json!(origin.stale));
        }
        if let (Some(declared), Some(rights), Some(fields)) = (&declared, &rights, value.as_object_mut()) {
            fields.extend(declared.fields(rights));
        }
        writeln!(out, "{value:#}").map_err(Failure::Output)?;
    } else {
        write_text(&generation, origin.as_ref(), out).map_err(Failure::Output)?;
        if let (Some(declared), Some(rights)) = (&declared, &rights) {
            declared.write_text(rights, out).map_err(Failure::Output)?;
        }
    }
    let missing = rights.iter().flatten().filter(|standing| standing.is_missing()).count();
    if missing == 0 {
        return Ok(());
    }
    out.flush().map_err(Failure::Output)?;
    Err(Failure::Run(anyhow::anyhow!("grants missing: {missing}")))
}

impl Inspector {
    pub(super) fn new() -> Result<Self, Failure> {
        Self::of(&bare_gateway())
    }

    /// One that fetches as this gateway does, and keeps files where it does.
    fn within(gateway: &Gateway) -> Result<Self, Failure> {
        let mut bare = bare_gateway();
        bare.fetch = gateway.fetch.clone();
        bare.accounts.clone_from(&gateway.accounts);
        bare.runtime.cache_dir.clone_from(&gateway.runtime.cache_dir);
        bare.runtime.cache_bytes_max = gateway.runtime.cache_bytes_max;
        Self::of(&bare)
    }

    fn of(gateway: &Gateway) -> Result<Self, Failure> {
        let prepared = app::prepare(gateway, &Store::in_memory(Clock::system()), this_program());
        let app::Prepared { mut loader, fetcher, .. } = prepared.map_err(Failure::run)?;
        // The cache would hide how long it takes to compile.
        loader.cache = None;
        Ok(Self { loader, fetcher })
    }

    /// Loads a file, within the limits of a plugin where it is to be one.
    pub(super) fn load(&self, file: &Path, of: Option<&PluginSpec>) -> Result<Arc<Generation>, Failure> {
        self.loader.load(&spec(file, of)?).map_err(Failure::usage)
    }

    /// Fetches the file of a plugin, looks at where it comes from as it is declared, and loads it like [`Inspector::load`].
    fn fetch(&self, of: &PluginSpec) -> Result<(Arc<Generation>, Origin), Failure> {
        let place = of.source.to_string();
        let fetched = self.fetcher.round().fetch(of);
        let Fetched { content, signature, stale } = fetched
            .map_err(|error| Failure::Run(anyhow::anyhow!("plugin `{}`: cannot fetch `{place}`: {error}", of.name)))?;
        let file = PluginFile::fetched(of, content, signature).map_err(Failure::usage)?;
        let spec = spec(Path::new(of.name.as_str()), Some(of))?;
        let generation = self.loader.load_file(&spec, &file).map_err(Failure::usage)?;
        Ok((generation, Origin { place, stale: stale.map(|error| error.to_string()) }))
    }
}

fn spec(file: &Path, of: Option<&PluginSpec>) -> Result<PluginSpec, Failure> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or("plugin");
    let name = PluginName::parse(stem).or_else(|_| PluginName::parse("plugin")).map_err(Failure::usage)?;
    // To look at a plugin is to ask what it wants, not to let it have it: nothing but `describe` runs.
    let grants = Capability::ALL.to_vec();
    let limits = of.map_or_else(Limits::default, |of| of.limits.clone());
    let (isolation, quarantine) = (Isolation::Request, Quarantine::default());
    let (outgoing_http, secrets) = (OutgoingHttp::default(), Vec::new());
    let (upstream, apis) = (Vec::new(), Vec::new());
    let (source, provenance) = (Source::File(file.to_owned()), Provenance::default());
    Ok(PluginSpec {
        name,
        source,
        provenance,
        grants,
        outgoing_http,
        secrets,
        upstream,
        apis,
        isolation,
        limits,
        quarantine,
    })
}

fn write_text(plugin: &Generation, origin: Option<&Origin>, out: &mut dyn Write) -> std::io::Result<()> {
    let description = &plugin.description;
    let shown = |text| escaped(text, TEXT_BYTES_MAX);
    writeln!(out, "{} {}", shown(&description.name), shown(&description.version))?;
    writeln!(out, "  contract   {}", crate::plugin::CONTRACT)?;
    writeln!(out, "  digest     sha256:{}", plugin.digest.hex())?;
    if let Some(Origin { place, stale }) = origin {
        writeln!(out, "  fetched    {place}")?;
        if let Some(reason) = stale {
            writeln!(out, "             not now, this is what came last: {reason}")?;
        }
    }
    writeln!(out, "  size       {} bytes", plugin.file_bytes)?;
    if let Some(time) = plugin.compile_time {
        writeln!(out, "  compile    {} ms", time.as_millis())?;
    }
    writeln!(out, "  memory     {} bytes to begin with", plugin.initial_memory_bytes)?;
    if plugin.initial_memory_bytes > LARGE_STACK_HINT_BYTES {
        writeln!(
            out,
            "             more than a plugin needs: each fresh instance pays for it. Link a smaller stack with"
        )?;
        writeln!(out, "             rustflags = [\"-C\", \"link-arg=-zstack-size=65536\"] in .cargo/config.toml")?;
    }
    writeln!(out, "functions")?;
    for function in &description.functions {
        let (hook, name, reads) = (function.hook.as_str(), shown(&function.name), function.reads.summary());
        writeln!(out, "  {hook:<10} {name:<20} reads {reads}")?;
    }
    writeln!(out, "capabilities wanted")?;
    for wanted in &description.capabilities {
        writeln!(out, "  {:<10} {}", wanted.capability.as_str(), shown(&wanted.reason))?;
    }
    if description.capabilities.is_empty() {
        writeln!(out, "  none")?;
    }
    writeln!(out, "imports")?;
    for import in &plugin.imports {
        writeln!(out, "  {import}")?;
    }
    writeln!(out, "configuration {}", if description.config_schema.is_some() { "by its JSON Schema" } else { "none" })?;
    let limits = &plugin.spec.limits;
    writeln!(out, "limits in force (defaults; `plugins.NAME.limits` changes them)")?;
    writeln!(
        out,
        "  fuel {}, deadline {} ms, memory {} bytes",
        limits.fuel,
        limits.deadline.as_millis(),
        limits.memory_bytes_max
    )?;
    writeln!(
        out,
        "  body in {} bytes, body out {} bytes, headers {} of {} bytes",
        limits.body_in_bytes_max, limits.body_out_bytes_max, limits.header_count_max, limits.header_bytes_max
    )?;
    writeln!(
        out,
        "  host calls {} of {} bytes, log lines {} of {} bytes, concurrency {}",
        limits.host_calls_max,
        limits.host_call_bytes_max,
        limits.log_lines_max,
        limits.log_bytes_max,
        limits.concurrency_max
    )
}

fn as_json(plugin: &Generation) -> Value {
    let description = &plugin.description;
    let schema = description.config_schema.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let functions: Vec<Value> = (description.functions.iter())
        .map(|function| json!({ "hook": function.hook.as_str(), "name": function.name, "reads": function.reads }))
        .collect();
    let wanted: Vec<Value> = (description.capabilities.iter())
        .map(|wanted| json!({ "capability": wanted.capability.as_str(), "reason": wanted.reason }))
        .collect();
    json!({
        "name": description.name,
        "version": description.version,
        "contract": crate::plugin::CONTRACT,
        "sha256": plugin.digest.hex(),
        "file_bytes": plugin.file_bytes,
        "compile_ms": plugin.compile_time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        "initial_memory_bytes": plugin.initial_memory_bytes,
        "functions": functions,
        "capabilities": wanted,
        "metrics": description.metrics,
        "imports": plugin.imports,
        "config_schema": schema,
        "limits": {
            "fuel": plugin.spec.limits.fuel,
            "deadline_ms": u64::try_from(plugin.spec.limits.deadline.as_millis()).unwrap_or(u64::MAX),
            "memory_bytes_max": plugin.spec.limits.memory_bytes_max,
            "body_in_bytes_max": plugin.spec.limits.body_in_bytes_max,
            "body_out_bytes_max": plugin.spec.limits.body_out_bytes_max,
        },
    })
}

/// A gateway that serves nothing: enough to load one plugin.
fn bare_gateway() -> Gateway {
    Gateway {
        sources: Vec::new(),
        reload: Reload::default(),
        listeners: Vec::new(),
        control: Control::new(([127, 0, 0, 1], 0).into()),
        store: StoreSettings::default(),
        store_is_unnamed: false,
        workers: 1,
        trusted_proxies: Vec::new(),
        limits: ServerLimits::default(),
        runtime: Runtime { instances_max: Some(INSTANCES), ..Runtime::default() },
        fetch: FetchSettings::default(),
        accounts: Vec::new(),
        log: Log { format: LogFormat::Auto, filter: "warn".to_owned(), access: crate::model::gateway::AccessLog::Off },
        analytics: AnalyticsSink { target: AnalyticsTarget::Off, queue_max: 1, batch_max: 1 },
        plugins: Vec::new(),
        apis: Vec::new(),
        policies: Vec::new(),
    }
}

const INSTANCES: u32 = 8;
const TEXT_BYTES_MAX: usize = 200;
/// A Rust plugin with a stack of 64 KiB begins with two or three pages; with rustc's own stack it is seventeen.
const LARGE_STACK_HINT_BYTES: u64 = 1 << 20;
