//! From a file to something that can be called.
//!
//! A [`Generation`] is one loaded version of a plugin. A [`Use`] is one function of it at one hook of one API, with its
//! configuration checked and its first instance made: what can fail at load does not fail at the first request.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::{Component, InstancePre};

use super::cache::{Artifact, Cache};
use super::check;
use super::compile::{CompileError, Compiler};
use super::configs::Configs;
use super::description::{Description, Function, MetricKind};
use super::engine::Engine;
use super::failure::{CallError, LoadError, escaped_reason};
use super::host::{self, ApiGate, Gate, Host, Identity, Sessions};
use super::limits::MemoryBudget;
use super::pool::{Counters, Pool};
use super::quarantine::Quarantine;
use super::shape;
use super::v0_1::Exports;
use super::v0_1::lift::{self, DescriptionInvalid};
use crate::files;
use crate::model::api::{Api, Auth, HookUse, PolicyGrant};
use crate::model::digest::Digest;
use crate::model::edit_rules::EditRules;
use crate::model::id::{ApiId, PluginName};
use crate::model::path::ListenPath;
use crate::model::plugin::{Capability, FailureKind, Hook, Limits, PluginSpec};
use crate::model::provenance::{Doubt, Signed};
use crate::store::{SessionCache, Store};
use crate::telemetry::metrics::{GuestMetricKind, Metrics};

/// What plugins are loaded with.
#[derive(Clone)]
pub struct Loader {
    /// The engine.
    pub engine: Engine,
    /// What compiles components that are not in the cache.
    pub compiler: Compiler,
    /// Compiled components on disk.
    pub cache: Option<Cache>,
    /// Values of plugins.
    pub store: Store,
    /// Sessions of callers.
    pub sessions: SessionCache,
    /// Metrics of plugins.
    pub metrics: Metrics,
    /// Whether keys may be without access rights and policies.
    pub allow_master_keys: bool,
    /// Threads that will call them; each has idle instances of its own.
    pub workers: usize,
    /// How instances came and went, of all pools there were.
    pub instances: Arc<Counters>,
    /// Loaded versions that are still there: those that are used, and those whose last calls have not ended.
    pub generations: Arc<AtomicUsize>,
}

/// One loaded version of a plugin.
pub struct Generation {
    /// The plugin as configured.
    pub spec: PluginSpec,
    /// Content of its file.
    pub digest: Digest,
    /// The name of the key that signed it, where it must be signed.
    pub signed_by: Option<Arc<str>>,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// How long it took to compile; `None` if it came from the cache.
    pub compile_time: Option<Duration>,
    /// What it says of itself.
    pub description: Description,
    /// Linear memory of a fresh instance, in bytes: its largest memory.
    pub initial_memory_bytes: u64,
    /// Interfaces that it imports, sorted.
    pub imports: Vec<String>,
    configs: Configs,
    pub(super) limits: Arc<Limits>,
    pub(super) engine: Engine,
    pub(super) component: InstancePre<Host>,
    pub(super) exports: Exports,
    pub(super) concurrency: Arc<Semaphore>,
    pub(super) memory: Arc<MemoryBudget>,
    pub(super) gate: Option<Arc<Gate>>,
    pub(super) api_gate: Option<Arc<ApiGate>>,
    /// Whether it is called at all.
    pub quarantine: Quarantine,
    _count: Counted,
}

/// Counts as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is told to plugins of an API that does not change from call to call.
#[derive(Debug, Clone)]
pub struct ApiFacts {
    /// Its id.
    pub id: ApiId,
    /// Its name.
    pub name: String,
    /// Its organisation.
    pub organisation: String,
    /// Where it listens.
    pub listen_path: ListenPath,
    /// Its context variables.
    pub variables: Vec<(String, String)>,
    /// The policies that they may put a session under.
    pub policies: PolicyGrant,
}

/// One function of a plugin at one hook of an API, ready to be called.
pub struct Use {
    /// The function's name and what it reads.
    pub function: Function,
    /// Its plugin.
    pub generation: Arc<Generation>,
    /// The API.
    pub api: Arc<ApiFacts>,
    /// Its instances.
    pub pool: Arc<Pool>,
}

/// A component file as it was read: what was looked at is what is compiled.
pub struct PluginFile {
    wasm: Vec<u8>,
    /// Of its content.
    pub digest: Digest,
    /// The name of the key that signed it, where it must be signed.
    pub signed_by: Option<Arc<str>>,
}

impl From<&Api> for ApiFacts {
    fn from(api: &Api) -> Self {
        Self {
            id: api.id.clone(),
            name: api.name.clone(),
            organisation: api.organisation.clone(),
            listen_path: api.listen.path.clone(),
            variables: api.variables.clone(),
            policies: match &api.auth {
                Auth::Keyless => PolicyGrant::Only(Vec::new()),
                Auth::Keyed(keyed) => keyed.policies.clone(),
            },
        }
    }
}

impl Loader {
    /// Loads a plugin's file: reads, checks, compiles (or takes it from the cache), asks it what it is. Takes a while, so
    /// not on a thread that serves requests.
    pub fn load(&self, spec: &PluginSpec) -> Result<Arc<Generation>, LoadError> {
        self.load_file(spec, &PluginFile::read(spec)?)
    }

    /// Like [`Loader::load`], of a file that was read already.
    pub fn load_file(&self, spec: &PluginSpec, file: &PluginFile) -> Result<Arc<Generation>, LoadError> {
        let plugin = &spec.name;
        let (wasm, digest) = (&file.wasm[..], file.digest);
        let limits = Arc::new(self.bounded(&spec.limits));
        check::is_component(plugin, wasm)?;
        shape::check(plugin, wasm, &limits)?;
        let cached = self.cache.as_ref().and_then(|cache| cache.get(self.engine.wasmtime(), &digest));
        let (artifact, compile_time) = match cached {
            Some(artifact) => (artifact, None),
            None => {
                let compiled = self.compiler.compile(&self.engine, wasm, &digest, &limits);
                let (component, compile_time) = compiled.map_err(|error| not_compiled(plugin, &limits, error))?;
                check::types(plugin, &component)?;
                check::imports(spec, &component)?;
                check::resources(plugin, &component, &limits)?;
                let description = self.describe(spec, &component, &limits)?;
                let artifact = Artifact { component, description };
                if let Some(cache) = &self.cache {
                    cache.put(self.engine.wasmtime(), &digest, &artifact);
                }
                (artifact, Some(compile_time))
            }
        };
        let Artifact { component, description } = artifact;
        let initial_memory_bytes = check::resources(plugin, &component, &limits)?;
        let imports = check::imports(spec, &component)?;
        check::wanted(spec, &description)?;
        let linked = host::linker(self.engine.wasmtime(), &spec.grants)
            .and_then(|linker| linker.instantiate_pre(&component))
            .and_then(|component| Ok((Exports::find(&component)?, component)));
        let (exports, component) = linked.map_err(|error| LoadError::Export {
            plugin: plugin.clone(),
            export: super::CONTRACT.to_owned(),
            reason: format!("cannot be linked: {error:#}"),
        })?;
        check::functions(plugin, &description, &exports)?;
        again(|| {
            let host = Host::new(limits.clone(), None, self.engine.memory().clone());
            super::call::block_on(super::call::check_types(&self.engine, host, &limits, &component, &exports))
        })
        .map_err(|source| LoadError::Instance { plugin: plugin.clone(), source })?;
        let gate = match spec.grants.contains(&Capability::OutgoingHttp) {
            true => Some(Arc::new(Gate::new(spec, limits.clone()).map_err(|source| LoadError::Outgoing {
                plugin: plugin.clone(),
                reason: escaped_reason(&source.to_string()),
            })?)),
            false => None,
        };
        let calls_apis = spec.grants.contains(&Capability::Apis);
        let api_gate = calls_apis.then(|| Arc::new(ApiGate::new(spec, limits.clone())));
        Ok(Arc::new(Generation {
            gate,
            api_gate,
            quarantine: Quarantine::new(
                plugin,
                &digest.short(),
                &spec.quarantine,
                self.store.clock().clone(),
                self.metrics.quarantine(plugin),
            ),
            concurrency: Arc::new(Semaphore::new(usize::try_from(limits.concurrency_max).unwrap_or(usize::MAX))),
            memory: Arc::new(self.engine.memory_share()),
            file_bytes: u64::try_from(wasm.len()).unwrap_or(u64::MAX),
            spec: spec.clone(),
            engine: self.engine.clone(),
            digest,
            signed_by: file.signed_by.clone(),
            compile_time,
            description,
            initial_memory_bytes,
            imports,
            configs: Configs::default(),
            limits,
            component,
            exports,
            _count: Counted::new(&self.generations),
        }))
    }

    /// Prepares one use: finds the function, checks its configuration, makes one instance.
    ///
    /// `pools` holds the pools that earlier uses of the API made: uses of the same plugin with the same configuration
    /// share one.
    pub fn prepare(
        &self,
        generation: &Arc<Generation>,
        api: &Arc<ApiFacts>,
        hook: Hook,
        hook_use: &HookUse,
        pools: &mut Vec<Arc<Pool>>,
    ) -> Result<Use, LoadError> {
        let function = generation.function(hook, hook_use.function.as_deref())?.clone();
        let config = if hook_use.config.is_null() { "null".to_owned() } else { hook_use.config.to_string() };
        let known = pools.iter().find(|pool| Arc::ptr_eq(pool.generation(), generation) && pool.config() == config);
        let pool = match known {
            Some(pool) => pool.clone(),
            None => {
                let of = (&generation.spec.name, &*generation.limits);
                let schema = generation.description.config_schema.as_deref();
                generation.configs.check(&self.compiler, of, schema, &hook_use.config)?;
                let identity = self.identity(generation, api);
                let pool =
                    Arc::new(Pool::new(generation.clone(), identity, config, self.workers, self.instances.clone()));
                again(|| super::call::block_on(pool.try_first_instance()))
                    .map_err(|source| LoadError::Init { plugin: generation.spec.name.clone(), source })?;
                pools.push(pool.clone());
                pool
            }
        };
        Ok(Use { function, generation: generation.clone(), api: api.clone(), pool })
    }

    fn identity(&self, generation: &Generation, facts: &ApiFacts) -> Arc<Identity> {
        let (api, plugin) = (&facts.id, &generation.spec.name);
        let metrics = self.metrics.guest(api, plugin);
        for metric in &generation.description.metrics {
            let kind = match metric.kind {
                MetricKind::Counter => GuestMetricKind::Counter,
                MetricKind::Histogram => GuestMetricKind::Histogram,
            };
            // Not an error of loading: whoever came first with a name would decide which plugins of others work.
            if let Err(reason) = metrics.declare(&metric.name, kind, &metric.help) {
                tracing::warn!(%api, %plugin, metric = %metric.name, %reason, "metric refused");
            }
        }
        let kv = self.store.kv(api, plugin, &generation.limits);
        let sessions = Sessions {
            cache: self.sessions.clone(),
            organisation: facts.organisation.clone(),
            may_change_limits: generation.spec.grants.contains(&Capability::SessionLimits),
            rules: Arc::new(EditRules { policies: facts.policies.clone(), allow_master_keys: self.allow_master_keys }),
            metrics: self.metrics.session_calls(api, plugin),
        };
        Arc::new(Identity {
            api: api.clone(),
            plugin: plugin.clone(),
            kv,
            metrics,
            sessions,
            gate: generation.gate.clone(),
            outgoing: self.metrics.outgoing(api, plugin),
            api_gate: generation.api_gate.clone(),
            api_calls: self.metrics.api_calls(api, plugin),
            secrets: generation.spec.secrets.clone(),
        })
    }

    fn describe(
        &self,
        spec: &PluginSpec,
        component: &Component,
        limits: &Arc<Limits>,
    ) -> Result<Description, LoadError> {
        let plugin = &spec.name;
        let failed = |source| LoadError::Describe { plugin: plugin.clone(), source };
        // Without an identity, every import but WASI ends `describe` when it is called.
        let linked =
            host::linker(self.engine.wasmtime(), &spec.grants).and_then(|linker| linker.instantiate_pre(component));
        let component = linked.map_err(|error| failed(CallError::new(FailureKind::Load, &format!("{error:#}"))))?;
        let exports = Exports::find(&component)
            .map_err(|error| failed(CallError::new(FailureKind::Load, &format!("{error:#}"))))?;
        let answer = again(|| {
            let host = Host::new(limits.clone(), None, self.engine.memory().clone());
            super::call::block_on(super::call::describe(&self.engine, host, limits, &component, &exports))
        });
        lift::description(answer.map_err(failed)?).map_err(|invalid| match invalid {
            DescriptionInvalid::CapabilityUnknown(capability) => {
                LoadError::NotOffered { plugin: plugin.clone(), capability: escaped_reason(&capability) }
            }
            DescriptionInvalid::Other(reason) => {
                LoadError::Description { plugin: plugin.clone(), reason: escaped_reason(&reason) }
            }
        })
    }

    /// No plugin's limit goes beyond what a slot can hold, nor beyond its share of all slots.
    fn bounded(&self, limits: &Limits) -> Limits {
        let memory_bytes_max = limits.memory_bytes_max.min(self.engine.instance_memory_bytes_max());
        let concurrency_max = limits.concurrency_max.min(self.engine.slots_share());
        Limits { memory_bytes_max, concurrency_max, ..limits.clone() }
    }
}

impl Generation {
    fn function(&self, hook: Hook, name: Option<&str>) -> Result<&Function, LoadError> {
        let plugin = self.spec.name.clone();
        let offered: Vec<&Function> = self.description.functions_for(hook).collect();
        let names = || match offered.as_slice() {
            [] => "none".to_owned(),
            some => some.iter().map(|f| format!("`{}`", escaped_reason(&f.name))).collect::<Vec<_>>().join(", "),
        };
        if offered.is_empty() {
            let mut hooks: Vec<String> = Hook::ALL
                .into_iter()
                .filter(|hook| self.description.functions_for(*hook).next().is_some())
                .map(|hook| format!("`{hook}`"))
                .collect();
            if hooks.is_empty() {
                hooks.push("none".to_owned());
            }
            return Err(LoadError::HookMissing { plugin, hook, offered: hooks.join(", ") });
        }
        match name {
            Some(name) => offered.iter().find(|f| f.name == name).copied().ok_or_else(|| LoadError::Function {
                plugin,
                hook,
                reason: format!("there is no function `{name}`"),
                offered: names(),
            }),
            None => match offered.as_slice() {
                [only] => Ok(only),
                _ => Err(LoadError::Function {
                    plugin,
                    hook,
                    reason: "which of its functions is meant? say `function:`".to_owned(),
                    offered: names(),
                }),
            },
        }
    }
}

/// Why a component did not compile, for the operator.
fn not_compiled(plugin: &PluginName, limits: &Limits, error: CompileError) -> LoadError {
    let plugin = plugin.clone();
    match error {
        CompileError::Refused(reason) => LoadError::Compile { plugin, reason: escaped_reason(&reason) },
        CompileError::Time => LoadError::CompileTime { plugin, time_max: limits.compile_time_max },
        CompileError::Memory => LoadError::CompileMemory { plugin, bytes_max: limits.compile_memory_bytes_max },
        CompileError::Compiled => LoadError::CompiledSize { plugin, bytes_max: limits.compiled_bytes_max },
        CompileError::Broken(reason) => LoadError::Compiler { plugin, reason: escaped_reason(&reason) },
        CompileError::Start(error) => {
            LoadError::Compiler { plugin, reason: escaped_reason(&format!("it does not start: {error}")) }
        }
    }
}

/// Tries again what ran out of time: when a gateway starts, the machine is busy, and an API would be gone for good.
fn again<T>(mut attempt: impl FnMut() -> Result<T, CallError>) -> Result<T, CallError> {
    for _ in 1..LOAD_ATTEMPTS {
        match attempt() {
            Err(error) if error.kind == FailureKind::Deadline => {}
            ended => return ended,
        }
    }
    attempt()
}

const LOAD_ATTEMPTS: u32 = 3;

impl PluginFile {
    /// Reads the file of a plugin under its size limit, and looks at where it comes from.
    ///
    /// # Errors
    /// It cannot be read, is too large, or is not the one that it must be.
    pub fn read(spec: &PluginSpec) -> Result<Self, LoadError> {
        use std::io::Read as _;
        let plugin = &spec.name;
        let Some(file) = spec.source.file() else {
            let (place, reason) = (spec.source.to_string(), "it is not on this machine".to_owned());
            return Err(LoadError::Fetch { plugin: plugin.clone(), place, reason });
        };
        let failed = |error: std::io::Error| LoadError::File {
            plugin: plugin.clone(),
            file: file.to_owned(),
            reason: error.to_string(),
        };
        let opened = files::open(file).map_err(failed)?;
        let (bytes, bytes_max) = (opened.metadata().map_err(failed)?.len(), spec.limits.file_bytes_max);
        let too_large = |bytes| LoadError::TooLarge { plugin: plugin.clone(), file: file.to_owned(), bytes, bytes_max };
        if bytes > bytes_max {
            return Err(too_large(bytes));
        }
        let mut wasm = Vec::new();
        // One byte more than allowed, in case the file grew since.
        opened.take(bytes_max.saturating_add(1)).read_to_end(&mut wasm).map_err(failed)?;
        if u64::try_from(wasm.len()).unwrap_or(u64::MAX) > bytes_max {
            return Err(too_large(bytes_max.saturating_add(1)));
        }
        Self::checked(spec, wasm, None)
    }

    /// Takes a file that was fetched, with the signature that came along, and looks at where it comes from.
    ///
    /// # Errors
    /// It is not the one that it must be.
    pub fn fetched(spec: &PluginSpec, wasm: Vec<u8>, signature: Option<Vec<u8>>) -> Result<Self, LoadError> {
        Self::checked(spec, wasm, signature)
    }

    fn checked(spec: &PluginSpec, wasm: Vec<u8>, signature: Option<Vec<u8>>) -> Result<Self, LoadError> {
        let digest = Digest::of(&wasm);
        let signature = |signed: &Signed| match &signed.file {
            Some(file) => read_signature(file),
            None => signature.ok_or_else(|| Doubt::Unsigned {
                place: spec.source.to_string(),
                reason: "none came with it".to_owned(),
            }),
        };
        let signed_by = spec.provenance.check(&wasm, &digest, signature);
        let signed_by = signed_by.map_err(|doubt| LoadError::Provenance { plugin: spec.name.clone(), doubt })?;
        Ok(Self { wasm, digest, signed_by })
    }
}

/// What is in the file of a signature, as much as may be one.
fn read_signature(file: &Path) -> Result<Vec<u8>, Doubt> {
    use std::io::Read as _;
    let mut signature = Vec::new();
    let read = files::open(file).and_then(|opened| opened.take(SIGNATURE_BYTES_MAX).read_to_end(&mut signature));
    let unsigned =
        |error: std::io::Error| Doubt::Unsigned { place: file.display().to_string(), reason: error.to_string() };
    read.map_err(unsigned)?;
    Ok(signature)
}

/// More than one in base64, with line breaks.
const SIGNATURE_BYTES_MAX: u64 = 1_024;
