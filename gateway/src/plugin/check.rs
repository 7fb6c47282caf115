//! What is checked of a component before a byte of it runs, and before it is used.

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::CONTRACT;
use super::description::Description;
use super::failure::{LoadError, Missing, escaped_reason};
use super::v0_1::{self, Exports};
use crate::model::id::PluginName;
use crate::model::plugin::{Capability, Hook, Limits, PluginSpec};

/// That the bytes are a component at all, with words for the commonest mistake.
pub fn is_component(plugin: &PluginName, wasm: &[u8]) -> Result<(), LoadError> {
    match wasm.get(..8) {
        Some(b"\0asm\x01\0\0\0") => Err(LoadError::CoreModule(plugin.clone())),
        Some([b'\0', b'a', b's', b'm', ..]) => Ok(()),
        _ => Err(LoadError::Compile { plugin: plugin.clone(), reason: "not a WebAssembly file".to_owned() }),
    }
}

/// That its exports are the contract's, by name, version and type.
pub fn types(plugin: &PluginName, component: &Component) -> Result<(), LoadError> {
    let engine = component.engine();
    let of_contract = format!("{}/description@{}", package(), version());
    let mut has_description = false;
    for (export, item) in component.component_type().exports(engine) {
        let Some(rest) = export.strip_prefix(package()).and_then(|rest| rest.strip_prefix('/')) else { continue };
        let (interface, found) = rest.split_once('@').unwrap_or((rest, ""));
        if found != version() {
            let found = escaped_reason(&format!("{}@{found}", package()));
            return Err(LoadError::Version { plugin: plugin.clone(), found });
        }
        has_description |= export == of_contract;
        let ComponentItem::ComponentInstance(_) = item.ty else {
            let reason = "is not an interface".to_owned();
            return Err(LoadError::Export { plugin: plugin.clone(), export: escaped_reason(interface), reason });
        };
    }
    if !has_description {
        let reason = format!("is missing: a plugin exports it for `{CONTRACT}` (the SDK does so by itself)");
        return Err(LoadError::Export { plugin: plugin.clone(), export: of_contract, reason });
    }
    v0_1::signature::check(component, package()).map_err(|mismatch| LoadError::Export {
        plugin: plugin.clone(),
        export: escaped_reason(&mismatch.function),
        reason: format!("{} ({CONTRACT})", mismatch.reason),
    })
}

/// That it imports nothing that is not offered and granted. Returns its imports, sorted.
pub fn imports(spec: &PluginSpec, component: &Component) -> Result<Vec<String>, LoadError> {
    let plugin = &spec.name;
    let (mut imports, mut wanted) = (Vec::new(), Vec::new());
    for (import, _) in component.component_type().imports(component.engine()) {
        match needed(import) {
            Need::Nothing => {}
            Need::Grant(capability) => {
                wanted.push(Missing { capability, wanted: format!("imports `{}`:", escaped_reason(import)) });
            }
            Need::Version(found) => {
                return Err(LoadError::Version { plugin: plugin.clone(), found: escaped_reason(&found) });
            }
            Need::NotOffered(hint) => {
                return Err(LoadError::Import { plugin: plugin.clone(), import: escaped_reason(import), hint });
            }
        }
        imports.push(escaped_reason(import));
    }
    granted(spec, wanted)?;
    imports.sort();
    Ok(imports)
}

/// That it asks for nothing that is not offered and granted: rights over what it returns are no imports.
pub fn wanted(spec: &PluginSpec, description: &Description) -> Result<(), LoadError> {
    let wanted = description.capabilities.iter();
    let wanted = wanted.map(|wanted| Missing { capability: wanted.capability, wanted: "wants".to_owned() });
    granted(spec, wanted.collect())
}

/// That all of it is granted. What is not is told once, however often the plugin wants it.
fn granted(spec: &PluginSpec, wanted: Vec<Missing>) -> Result<(), LoadError> {
    let mut missing: Vec<Missing> = Vec::new();
    for wanted in wanted {
        let is_told = missing.iter().any(|told| told.capability == wanted.capability);
        if !spec.grants.contains(&wanted.capability) && !is_told {
            missing.push(wanted);
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(LoadError::NotGranted { plugin: spec.name.clone(), missing }) }
}

/// The capability that an import needs, if it needs one.
pub fn capability(import: &str) -> Option<Capability> {
    match needed(import) {
        Need::Grant(capability) => Some(capability),
        Need::Nothing | Need::Version(_) | Need::NotOffered(_) => None,
    }
}

/// What an import needs.
enum Need {
    Nothing,
    Grant(Capability),
    Version(String),
    NotOffered(&'static str),
}

fn needed(import: &str) -> Need {
    let (name, found) = import.split_once('@').unwrap_or((import, ""));
    if let Some(interface) = name.strip_prefix(package()).and_then(|rest| rest.strip_prefix('/')) {
        if found != version() {
            return Need::Version(format!("{}@{found}", package()));
        }
        return match interface {
            "types" => Need::Nothing,
            "log" => Need::Grant(Capability::Log),
            "kv" => Need::Grant(Capability::Kv),
            "metrics" => Need::Grant(Capability::Metrics),
            "sessions-read" => Need::Grant(Capability::SessionsRead),
            "sessions" => Need::Grant(Capability::Sessions),
            "secrets" => Need::Grant(Capability::Secrets),
            "apis" => Need::Grant(Capability::Apis),
            _ => Need::NotOffered(""),
        };
    }
    match name {
        "wasi:http/outgoing-handler" | "wasi:http/types" => Need::Grant(Capability::OutgoingHttp),
        _ if name.starts_with("wasi:sockets/") => {
            Need::NotOffered("; plugins have no sockets: build without them, or use `wasi:http/outgoing-handler`")
        }
        _ if WASI_OFFERED.iter().any(|package| name.starts_with(package)) => Need::Nothing,
        _ => Need::NotOffered("; see `wit/README.md` for what a plugin may import"),
    }
}

const WASI_OFFERED: [&str; 5] = ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/"];

/// That it fits into a slot, and its first memory into its limit. Returns the size of that, in bytes.
pub fn resources(plugin: &PluginName, component: &Component, limits: &Limits) -> Result<u64, LoadError> {
    let Some(required) = component.resources_required() else {
        let reason = "imports core modules, which a plugin may not".to_owned();
        return Err(LoadError::Resources { plugin: plugin.clone(), reason });
    };
    let pages = required.max_initial_memory_size.unwrap_or(0);
    let largest = pages.saturating_mul(PAGE_BYTES);
    if largest > limits.memory_bytes_max {
        let reason = format!(
            "needs {largest} bytes of memory to begin with, and `limits.memory_bytes_max` is {}",
            limits.memory_bytes_max
        );
        return Err(LoadError::Resources { plugin: plugin.clone(), reason });
    }
    Ok(largest)
}

/// That each function of `describe` is for an exported hook, and each exported hook has a function.
pub fn functions(plugin: &PluginName, description: &Description, exports: &Exports) -> Result<(), LoadError> {
    for hook in Hook::ALL {
        let (described, exported) = (description.functions_for(hook).next().is_some(), exports.has(hook));
        let reason = match (described, exported) {
            (true, false) => format!("names a function for `{hook}`, but the component does not export that interface"),
            (false, true) => {
                format!("names no function for `{hook}`, but the component exports `{}`", v0_1::interface(hook))
            }
            _ => continue,
        };
        return Err(LoadError::Description { plugin: plugin.clone(), reason });
    }
    Ok(())
}

/// A page of linear memory (WebAssembly core specification, section 4.2.8).
const PAGE_BYTES: u64 = 64 << 10;

fn package() -> &'static str {
    CONTRACT.split('@').next().unwrap_or(CONTRACT)
}

fn version() -> &'static str {
    CONTRACT.split('@').nth(1).unwrap_or("")
}
