//! Version 0.1 of the contract: the generated bindings, and the only place that sees them.
//!
//! [`signature`] compares a component with the contract before it runs; [`lower`] hands the gateway's values to a guest, [`stored`] a session that it asked for; [`lift`] takes a guest's answer, a stranger's input, and checks it.

pub mod lift;
pub mod lower;
pub mod signature;
pub mod stored;
#[cfg(any(test, feature = "fuzzing"))]
pub mod written;

/// Generated from `wit/`.
#[allow(missing_docs, clippy::all, reason = "generated code")]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "everything",
        imports: {
            default: trappable,
            "stile:plugin/kv": async | trappable,
            "stile:plugin/sessions-read": async | trappable,
            "stile:plugin/sessions": async | trappable,
            "stile:plugin/apis": async | trappable,
        },
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
        require_store_data_send: true,
    });
}

pub use bindings::exports::stile::plugin as hooks;
use bindings::stile::plugin::types;

use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Lower, TypedFunc};
use wasmtime::{Store, format_err};

use super::host::Host;
use crate::model::plugin::Hook;

/// Where a component's functions are, for the interfaces that it exports.
pub struct Exports {
    describe: ComponentExportIndex,
    init: Option<ComponentExportIndex>,
    /// By hook, in the order of [`Hook::ALL`].
    handle: [Option<ComponentExportIndex>; 7],
}

/// `describe`.
type Describe = TypedFunc<(), (hooks::description::PluginDescription,)>;
/// `init`.
type Init<'a> = TypedFunc<(&'a str,), (Result<(), String>,)>;
// Parameters are references: a call moves them several times on its way into the guest.

/// `pre`.
pub type Pre<'a> =
    TypedFunc<(&'a str, &'a types::Context<'a>, &'a types::Request<'a>), (Result<hooks::pre::Action, String>,)>;
/// `auth`.
pub type Auth<'a> = TypedFunc<
    (&'a str, &'a types::Context<'a>, &'a types::Request<'a>, Option<&'a hooks::auth::Credential<'a>>),
    (Result<hooks::auth::Action, String>,),
>;
/// `post-auth` and `post`, which differ in their actions' names only.
pub type WithSession<'a, A> = TypedFunc<
    (&'a str, &'a types::Context<'a>, &'a types::Request<'a>, Option<&'a types::SessionParam<'a>>),
    (Result<A, String>,),
>;
/// `endpoint`.
pub type Endpoint<'a> = TypedFunc<
    (
        &'a str,
        &'a types::Context<'a>,
        &'a types::Request<'a>,
        &'a [(&'a str, &'a str)],
        Option<&'a types::SessionParam<'a>>,
    ),
    (Result<hooks::endpoint::Action, String>,),
>;
/// `response`.
pub type Response<'a> = TypedFunc<
    (
        &'a str,
        &'a types::Context<'a>,
        &'a types::Request<'a>,
        &'a types::Response<'a>,
        Option<&'a types::SessionParam<'a>>,
    ),
    (Result<hooks::response::Action, String>,),
>;
/// `analytics`.
pub type Analytics<'a> =
    TypedFunc<(&'a str, &'a [types::AnalyticsRecord<'a>]), (Result<Vec<hooks::analytics::Verdict>, String>,)>;

impl Exports {
    /// Finds the exports of a linked component.
    pub fn find(component: &InstancePre<Host>) -> wasmtime::Result<Self> {
        let find = |interface: &str, function: &str| {
            let component = component.component();
            let interface = component.get_export_index(None, format!("stile:plugin/{interface}@0.1.0").as_str())?;
            component.get_export_index(Some(&interface), function)
        };
        Ok(Self {
            describe: find("description", "describe").ok_or_else(|| format_err!("`describe` is not exported"))?,
            init: find("lifecycle", "init"),
            handle: Hook::ALL.map(|hook| find(interface(hook), "handle")),
        })
    }

    /// Whether the hook's interface is there.
    pub fn has(&self, hook: Hook) -> bool {
        self.index(hook).is_some()
    }

    /// Compares the exported functions with the bindings. After that, [`Exports::handle`] may take them as they are.
    pub fn check(&self, store: &mut Store<Host>, instance: &Instance) -> wasmtime::Result<()> {
        for hook in Hook::ALL {
            let Some(index) = self.index(hook) else { continue };
            match hook {
                Hook::Pre => checked::<Pre<'_>>(store, instance, index),
                Hook::Auth => checked::<Auth<'_>>(store, instance, index),
                Hook::PostAuth => checked::<WithSession<'_, hooks::post_auth::Action>>(store, instance, index),
                Hook::Endpoint => checked::<Endpoint<'_>>(store, instance, index),
                Hook::Post => checked::<WithSession<'_, hooks::post::Action>>(store, instance, index),
                Hook::Response => checked::<Response<'_>>(store, instance, index),
                Hook::Analytics => checked::<Analytics<'_>>(store, instance, index),
            }?;
        }
        if let Some(index) = &self.init {
            checked::<Init<'_>>(store, instance, index)?;
        }
        Ok(())
    }

    /// Calls `describe`.
    pub async fn describe(
        &self,
        store: &mut Store<Host>,
        instance: &Instance,
    ) -> wasmtime::Result<hooks::description::PluginDescription> {
        let function: Describe = instance.get_typed_func(&mut *store, self.describe)?;
        Ok(function.call_async(store, ()).await?.0)
    }

    /// Calls `init`, if there is one.
    pub async fn init(
        &self,
        store: &mut Store<Host>,
        instance: &Instance,
        config: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        let Some(index) = &self.init else { return Ok(Ok(())) };
        let function: Init<'_> = unchecked(store, instance, index)?;
        Ok(function.call_async(store, (config,)).await?.0)
    }

    /// The hook's function in an instance. `F` is the hook's type, which [`Exports::check`] has compared.
    pub fn handle<F: Typed>(&self, hook: Hook, store: &mut Store<Host>, instance: &Instance) -> wasmtime::Result<F> {
        let index = self.index(hook).ok_or_else(|| format_err!("the hook's interface is not exported"))?;
        unchecked(store, instance, index)
    }

    fn index(&self, hook: Hook) -> Option<&ComponentExportIndex> {
        Hook::ALL.iter().zip(&self.handle).find(|(of, _)| **of == hook)?.1.as_ref()
    }
}

/// A typed function, to name its parameters and results in one word.
pub trait Typed: Send + Sync + Sized {
    /// Its parameters.
    type Params: ComponentNamedList + Lower;
    /// Its results.
    type Results: ComponentNamedList + Lift;

    /// Calls it.
    fn call<'s>(
        &'s self,
        store: &'s mut Store<Host>,
        params: Self::Params,
    ) -> impl Future<Output = wasmtime::Result<Self::Results>> + Send + 's
    where
        Self::Params: 's;

    /// Takes a function as one of this type.
    ///
    /// # Safety
    ///
    /// The function has these parameters and results: they were compared by [`Exports::check`].
    #[expect(unsafe_code, reason = "see the safety comment of the caller")]
    unsafe fn from_func(function: wasmtime::component::Func) -> Self;
}

impl<P: ComponentNamedList + Lower, R: ComponentNamedList + Lift + 'static> Typed for TypedFunc<P, R> {
    type Params = P;
    type Results = R;

    fn call<'s>(
        &'s self,
        store: &'s mut Store<Host>,
        params: P,
    ) -> impl Future<Output = wasmtime::Result<R>> + Send + 's
    where
        P: 's,
    {
        self.call_async(store, params)
    }

    #[expect(unsafe_code, reason = "see the safety comment of the caller")]
    unsafe fn from_func(function: wasmtime::component::Func) -> Self {
        // SAFETY: the caller's to keep.
        unsafe { Self::new_unchecked(function) }
    }
}

fn checked<F: Typed>(
    store: &mut Store<Host>,
    instance: &Instance,
    index: &ComponentExportIndex,
) -> wasmtime::Result<()> {
    instance.get_typed_func::<F::Params, F::Results>(store, index).map(drop)
}

/// Comparing types anew for each instance would cost more than a small call.
#[expect(unsafe_code, reason = "types were compared when the component loaded")]
fn unchecked<F: Typed>(
    store: &mut Store<Host>,
    instance: &Instance,
    index: &ComponentExportIndex,
) -> wasmtime::Result<F> {
    let function = instance.get_func(store, index).ok_or_else(|| format_err!("an export is not a function"))?;
    // SAFETY: `Exports::check` compared this export of this component with `F`'s parameters and results: `load` runs it on
    // the first instance of each generation, before the generation can be used. All instances of a component have its types.
    Ok(unsafe { F::from_func(function) })
}

/// The hook's name in the contract.
pub const fn interface(hook: Hook) -> &'static str {
    match hook {
        Hook::Pre => "pre",
        Hook::Auth => "auth",
        Hook::PostAuth => "post-auth",
        Hook::Endpoint => "endpoint",
        Hook::Post => "post",
        Hook::Response => "response",
        Hook::Analytics => "analytics",
    }
}
