//! What wit-bindgen makes of the contract.
//!
//! One `generate!` for each world, so that a plugin can export one hook and not the others: each module has its own
//! export macro, and [`crate::plugin`] calls those of the hooks that the author wrote. All share the types of `base`.

#![allow(missing_docs, reason = "the documentation of these items is that of the contract, as far as it has any")]
#![allow(unsafe_code, reason = "generated: it crosses the boundary between plugin and gateway")]
#![allow(clippy::all, unreachable_pub, reason = "generated")]

pub mod base {
    wit_bindgen::generate!({
        path: "wit",
        world: "base",
        pub_export_macro: true,
        export_macro_name: "export_base",
        default_bindings_module: "stile_sdk::__private::bindings::base",
        additional_derives: [PartialEq],
    });
}

pub mod with_init {
    wit_bindgen::generate!({
        path: "wit",
        world: "with-init",
        pub_export_macro: true,
        export_macro_name: "export_with_init",
        default_bindings_module: "stile_sdk::__private::bindings::with_init",
    });
}

macro_rules! hooks {
    ($($module:ident: $world:literal, $export:literal, $bindings:literal;)*) => {
        $(
            pub mod $module {
                wit_bindgen::generate!({
                    path: "wit",
                    world: $world,
                    pub_export_macro: true,
                    export_macro_name: $export,
                    default_bindings_module: $bindings,
                    additional_derives: [PartialEq],
                    with: { "stile:plugin/types@0.1.0": crate::bindings::base::stile::plugin::types },
                });

                pub use exports::stile::plugin::$module::*;
            }
        )*
    };
}

hooks! {
    pre: "hook-pre", "export_pre", "stile_sdk::__private::bindings::pre";
    auth: "hook-auth", "export_auth", "stile_sdk::__private::bindings::auth";
    post_auth: "hook-post-auth", "export_post_auth", "stile_sdk::__private::bindings::post_auth";
    endpoint: "hook-endpoint", "export_endpoint", "stile_sdk::__private::bindings::endpoint";
    post: "hook-post", "export_post", "stile_sdk::__private::bindings::post";
    response: "hook-response", "export_response", "stile_sdk::__private::bindings::response";
    analytics: "hook-analytics", "export_analytics", "stile_sdk::__private::bindings::analytics";
}
