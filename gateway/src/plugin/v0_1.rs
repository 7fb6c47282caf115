//! Version 0.1 of the contract: the generated bindings, and the only place that sees them.
//!
//! [`types`] compares a component with the contract before it runs; [`lower`] hands the gateway's values to a guest; [`lift`] takes a guest's answer, a stranger's input, and checks it.

pub mod lift;
pub mod lower;
pub mod types;

/// Generated from `wit/`.
#[expect(missing_docs, clippy::all, reason = "generated code")]
pub mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "everything",
        imports: { default: trappable, "stile:plugin/kv": async | trappable },
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
        require_store_data_send: true,
    });
}

pub use bindings::exports::stile::plugin as hooks;

use wasmtime::component::InstancePre;

use super::host::Host;
use crate::model::plugin::Hook;

/// Where a component's functions are, for the interfaces that it exports.
pub struct Exports {
    /// `describe`.
    pub description: hooks::description::GuestIndices,
    /// `init`, if there is one.
    pub lifecycle: Option<hooks::lifecycle::GuestIndices>,
    /// `pre`.
    pub pre: Option<hooks::pre::GuestIndices>,
    /// `auth`.
    pub auth: Option<hooks::auth::GuestIndices>,
    /// `post-auth`.
    pub post_auth: Option<hooks::post_auth::GuestIndices>,
    /// `endpoint`.
    pub endpoint: Option<hooks::endpoint::GuestIndices>,
    /// `post`.
    pub post: Option<hooks::post::GuestIndices>,
    /// `response`.
    pub response: Option<hooks::response::GuestIndices>,
    /// `analytics`.
    pub analytics: Option<hooks::analytics::GuestIndices>,
}

impl Exports {
    /// Finds the exports of a linked component.
    pub fn find(component: &InstancePre<Host>) -> wasmtime::Result<Self> {
        Ok(Self {
            description: hooks::description::GuestIndices::new(component)?,
            lifecycle: hooks::lifecycle::GuestIndices::new(component).ok(),
            pre: hooks::pre::GuestIndices::new(component).ok(),
            auth: hooks::auth::GuestIndices::new(component).ok(),
            post_auth: hooks::post_auth::GuestIndices::new(component).ok(),
            endpoint: hooks::endpoint::GuestIndices::new(component).ok(),
            post: hooks::post::GuestIndices::new(component).ok(),
            response: hooks::response::GuestIndices::new(component).ok(),
            analytics: hooks::analytics::GuestIndices::new(component).ok(),
        })
    }

    /// Whether the hook's interface is there.
    pub fn has(&self, hook: Hook) -> bool {
        match hook {
            Hook::Pre => self.pre.is_some(),
            Hook::Auth => self.auth.is_some(),
            Hook::PostAuth => self.post_auth.is_some(),
            Hook::Endpoint => self.endpoint.is_some(),
            Hook::Post => self.post.is_some(),
            Hook::Response => self.response.is_some(),
            Hook::Analytics => self.analytics.is_some(),
        }
    }
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
