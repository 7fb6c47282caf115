//! The attribute macros of `stile-sdk`, which re-exports and explains them.
//!
//! [`plugin`] reads an impl block into a list of functions (`parse`), checking what can be checked there so that a mistake
//! is an error at its place, and writes what the gateway calls (`emit`).

mod config;
mod emit;
mod hook;
mod parse;
mod reads;

use proc_macro::TokenStream;

/// Makes a plugin of an impl block: see the [crate documentation](https://docs.rs/stile-sdk).
///
/// Methods marked with the name of a hook are the plugin's functions; others are left alone. Keys of the attribute:
///
/// - `config = Type`: the type of the configuration, marked with `#[config]`. With `config = Self` the plugin is its
///   configuration, with another type it is a tuple struct around it. Not needed with a method `new`, which is given the
///   configuration and returns `Self` or a `Result`.
/// - `capabilities(kv = "why", …)`: what the plugin asks the operator for.
/// - `counters(name = "help", …)`, `histograms(…)`: the metrics that it writes.
#[proc_macro_attribute]
pub fn plugin(arguments: TokenStream, item: TokenStream) -> TokenStream {
    match parse::plugin(arguments.into(), item.into()) {
        Ok(plugin) => emit::plugin(&plugin).into(),
        Err(error) => error.into_compile_error().into(),
    }
}

/// Makes a struct or enum part of a plugin's configuration: it is parsed from JSON and has a JSON Schema.
///
/// Unknown keys are refused, variants of an enum are written in snake case, and doc comments become the schema's
/// descriptions. Attributes of serde and schemars work as usual: `#[serde(default)]` makes a key optional.
#[proc_macro_attribute]
pub fn config(arguments: TokenStream, item: TokenStream) -> TokenStream {
    config::derive(arguments.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
