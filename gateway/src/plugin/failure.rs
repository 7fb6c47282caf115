//! What can go wrong with a plugin, when it loads and when it is called.

use std::path::PathBuf;

use crate::model::id::PluginName;
use crate::model::plugin::{Capability, FailureKind, Hook};
use crate::model::provenance::Doubt;

/// A call failed. The text is for the log, never for a caller.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {reason}", kind.as_str())]
pub struct CallError {
    /// How it failed, for counters and policy.
    pub kind: FailureKind,
    /// What happened, already escaped and cut: it may hold a guest's words.
    pub reason: String,
    /// Whom it speaks against.
    pub fault: Fault,
}

/// Whom a failed call speaks against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The plugin.
    Plugin,
    /// The gateway: it had no instance free, or no memory for plugins left.
    Gateway,
    /// Nobody: the plugin is in quarantine, and the call was not made.
    Quarantine,
}

impl CallError {
    /// A failure with its reason. The reason is escaped here, so nobody need remember.
    pub fn new(kind: FailureKind, reason: &str) -> Self {
        let fault = if kind == FailureKind::Busy { Fault::Gateway } else { Fault::Plugin };
        Self { kind, reason: escaped_reason(reason), fault }
    }

    /// There is no instance any more.
    pub(super) fn gone() -> Self {
        Self::new(FailureKind::Busy, "instance is gone")
    }

    /// The same where it kept an instance from being made: then no call was.
    pub(super) fn without_instance(self) -> Self {
        if self.kind == FailureKind::Busy {
            return self;
        }
        Self { kind: FailureKind::Load, reason: self.to_string(), fault: self.fault }
    }
}

/// A reason with a guest's words in it, safe to show.
pub fn escaped_reason(reason: &str) -> String {
    crate::telemetry::text::escaped(reason, REASON_BYTES_MAX).into_owned()
}

const REASON_BYTES_MAX: usize = 2048;

/// A capability that a plugin wants, and was not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The capability.
    pub capability: Capability,
    /// How the plugin says so, already escaped.
    pub wanted: String,
}

/// All that is missing, with what grants it: one line, and one round.
fn not_granted(plugin: &PluginName, missing: &[Missing]) -> String {
    let list = |shown: fn(&Missing) -> String| missing.iter().map(shown).collect::<Vec<_>>().join(", ");
    let wanted = list(|missing| format!("{} capability `{}`", missing.wanted, missing.capability.as_str()));
    // What another one includes need not be added.
    let is_included = |of: Capability| missing.iter().any(|missing| missing.capability.includes(of));
    let needed = || missing.iter().map(|missing| missing.capability).filter(|of| !is_included(*of));
    let names: Vec<String> = needed().map(|of| format!("`{}`", of.as_str())).collect();
    let (names, beside) = (names.join(", "), needed().map(Capability::beside).collect::<String>());
    let (are, them) = if missing.len() == 1 { ("is", "that") } else { ("are", "them") };
    format!(
        "{wanted}, which {are} not granted; if you trust it with {them}, add {names} to `plugins.{plugin}.grants`{beside}"
    )
}

/// A plugin, or one use of it, cannot be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("plugin `{plugin}`: cannot read `{}`: {reason}", file.display())]
    File {
        /// The plugin.
        plugin: PluginName,
        /// Its file.
        file: PathBuf,
        /// The system's word for it.
        reason: String,
    },
    /// The file cannot be fetched.
    #[error("plugin `{plugin}`: cannot fetch `{place}`: {reason}")]
    Fetch {
        /// The plugin.
        plugin: PluginName,
        /// Where it is.
        place: String,
        /// Why not.
        reason: String,
    },
    /// The file is larger than allowed.
    #[error("plugin `{plugin}`: `{}` has {bytes} bytes, the limit is {bytes_max}; raise `limits.file_bytes_max`", file.display())]
    TooLarge {
        /// The plugin.
        plugin: PluginName,
        /// Its file.
        file: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The file is not the one that it must be, or not of whom it must be.
    #[error("plugin `{plugin}`: {doubt}")]
    Provenance {
        /// The plugin.
        plugin: PluginName,
        /// What is the matter.
        doubt: Doubt,
    },
    /// It is a core module, not a component.
    #[error(
        "plugin `{0}`: this is a core WebAssembly module, not a component; build it for `wasm32-wasip2`, or wrap it with `wasm-tools component new`"
    )]
    CoreModule(PluginName),
    /// It is not WebAssembly, or breaks its rules.
    #[error("plugin `{plugin}`: does not compile: {reason}")]
    Compile {
        /// The plugin.
        plugin: PluginName,
        /// The compiler's word for it.
        reason: String,
    },
    /// It takes too long to compile.
    #[error("plugin `{plugin}`: takes longer than {} ms to compile; raise `limits.compile_time_max_ms` if you trust it", time_max.as_millis())]
    CompileTime {
        /// The plugin.
        plugin: PluginName,
        /// The limit.
        time_max: std::time::Duration,
    },
    /// It takes too much memory to compile.
    #[error(
        "plugin `{plugin}`: takes more than {bytes_max} bytes of memory to compile; raise `limits.compile_memory_bytes_max` if you trust it"
    )]
    CompileMemory {
        /// The plugin.
        plugin: PluginName,
        /// The limit.
        bytes_max: u64,
    },
    /// Too much comes of compiling it.
    #[error(
        "plugin `{plugin}`: is more than {bytes_max} bytes when compiled; raise `limits.compiled_bytes_max` if you trust it"
    )]
    CompiledSize {
        /// The plugin.
        plugin: PluginName,
        /// The limit.
        bytes_max: u64,
    },
    /// The compiler did not get to its end.
    #[error("plugin `{plugin}`: the compiler did not get to its end: {reason}")]
    Compiler {
        /// The plugin.
        plugin: PluginName,
        /// How that looked.
        reason: String,
    },
    /// It has more of something than allowed.
    #[error("plugin `{plugin}`: has {count} {what} or more, the limit is {max}; raise `limits.{key}` if you trust it")]
    Shape {
        /// The plugin.
        plugin: PluginName,
        /// Of what.
        what: &'static str,
        /// How many were counted before the rest was left.
        count: u64,
        /// The limit.
        max: u32,
        /// Its key.
        key: &'static str,
    },
    /// It is built for another version of the contract.
    #[error("plugin `{plugin}`: built for `{found}`, this gateway speaks `{}`", crate::plugin::CONTRACT)]
    Version {
        /// The plugin.
        plugin: PluginName,
        /// The package that it names.
        found: String,
    },
    /// It does not export `describe`, or exports something with another type.
    #[error("plugin `{plugin}`: export `{export}` {reason}")]
    Export {
        /// The plugin.
        plugin: PluginName,
        /// The export.
        export: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It imports something that the gateway does not have.
    #[error("plugin `{plugin}`: imports `{import}`, which this gateway does not offer{hint}")]
    Import {
        /// The plugin.
        plugin: PluginName,
        /// The import.
        import: String,
        /// What may help.
        hint: &'static str,
    },
    /// It wants capabilities that were not granted.
    #[error("plugin `{plugin}`: {}", not_granted(plugin, missing))]
    NotGranted {
        /// The plugin.
        plugin: PluginName,
        /// All that it wants.
        missing: Vec<Missing>,
    },
    /// It wants a capability that this version does not have.
    #[error("plugin `{plugin}`: wants capability `{capability}`, which this version of the gateway does not offer")]
    NotOffered {
        /// The plugin.
        plugin: PluginName,
        /// The capability, as the plugin names it.
        capability: String,
    },
    /// `describe` failed.
    #[error("plugin `{plugin}`: `describe` failed: {source}")]
    Describe {
        /// The plugin.
        plugin: PluginName,
        /// How.
        source: CallError,
    },
    /// `describe` returned something that cannot be.
    #[error("plugin `{plugin}`: `describe` is not valid: {reason}")]
    Description {
        /// The plugin.
        plugin: PluginName,
        /// What is wrong.
        reason: String,
    },
    /// A definition uses a hook that the plugin does not implement.
    #[error("plugin `{plugin}` does not implement the hook `{hook}`; it implements {offered}")]
    HookMissing {
        /// The plugin.
        plugin: PluginName,
        /// The hook.
        hook: Hook,
        /// What it implements.
        offered: String,
    },
    /// A definition names a function that the plugin does not have, or none where it has several.
    #[error("plugin `{plugin}`: {reason}; for `{hook}` it has {offered}")]
    Function {
        /// The plugin.
        plugin: PluginName,
        /// The hook.
        hook: Hook,
        /// What is wrong.
        reason: String,
        /// What it has.
        offered: String,
    },
    /// The configuration does not fit the plugin's schema.
    #[error("plugin `{plugin}`: configuration{path}: {reason}")]
    Config {
        /// The plugin.
        plugin: PluginName,
        /// The path within the configuration, with a space before it; empty for all of it.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The plugin's schema is none.
    #[error("plugin `{plugin}`: its configuration schema is not usable: {reason}")]
    ConfigSchema {
        /// The plugin.
        plugin: PluginName,
        /// What is wrong.
        reason: String,
    },
    /// No instance can be made.
    #[error("plugin `{plugin}`: cannot be instantiated: {source}")]
    Instance {
        /// The plugin.
        plugin: PluginName,
        /// How it failed.
        source: CallError,
    },
    /// Its way out cannot be made.
    #[error("plugin `{plugin}`: `outgoing_http`: {reason}")]
    Outgoing {
        /// The plugin.
        plugin: PluginName,
        /// What is wrong.
        reason: String,
    },
    /// The first instance failed, in `init` or before.
    #[error("plugin `{plugin}`: `init` failed: {source}")]
    Init {
        /// The plugin.
        plugin: PluginName,
        /// How.
        source: CallError,
    },
    /// It needs more memories or tables than a slot has.
    #[error("plugin `{plugin}`: {reason}")]
    Resources {
        /// The plugin.
        plugin: PluginName,
        /// What it needs and what there is.
        reason: String,
    },
}
