//! Writes what `#[plugin]` expands to: the description, the way from a name to a function, and the exports.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::LitStr;

use crate::{
    hook::{Argument, HOOKS, Hook},
    parse::{Function, Plugin, State},
    reads::{Body, Headers},
};

pub(crate) fn plugin(plugin: &Plugin) -> TokenStream {
    let item = &plugin.item;
    let this = &item.self_ty;
    let description = description(plugin);
    let lifecycle = lifecycle(plugin);
    let dispatch = hooks(plugin).map(|hook| dispatch(plugin, hook));
    let exports = exports(plugin);
    quote! {
        #item

        #[automatically_derived]
        impl ::stile_sdk::__private::Plugin for #this {
            #description
            #lifecycle
            #(#dispatch)*
        }

        #exports
    }
}

/// The hooks that the plugin has functions for.
fn hooks(plugin: &Plugin) -> impl Iterator<Item = Hook> {
    HOOKS.into_iter().filter(|hook| plugin.functions.iter().any(|function| function.hook == *hook))
}

fn description(plugin: &Plugin) -> TokenStream {
    let functions = plugin.functions.iter().map(spec);
    let capabilities = plugin.capabilities.iter().map(|(name, reason)| quote!((#name, #reason)));
    let counters = plugin.counters.iter().map(|metric| self::metric("Counter", metric));
    let histograms = plugin.histograms.iter().map(|metric| self::metric("Histogram", metric));
    quote! {
        const DESCRIPTION: ::stile_sdk::__private::Description = ::stile_sdk::__private::Description {
            name: ::core::env!("CARGO_PKG_NAME"),
            version: ::core::env!("CARGO_PKG_VERSION"),
            functions: &[#(#functions),*],
            capabilities: &[#(#capabilities),*],
            metrics: &[#(#counters,)* #(#histograms),*],
        };
    }
}

fn spec(function: &Function) -> TokenStream {
    let hook = ident(function.hook.variant());
    let name = &function.name;
    let headers = headers(&function.reads.headers);
    let request_headers = self::headers(&function.reads.request_headers);
    let body = match &function.reads.body {
        None => quote!(::core::option::Option::None),
        Some(Body::Recorded) => quote!(::core::option::Option::Some(::core::primitive::u64::MAX)),
        Some(Body::UpTo(bytes)) => quote!(::core::option::Option::Some(#bytes)),
    };
    let session = function.arguments.contains(&Argument::Session);
    let context = &function.reads.context;
    quote! {
        ::stile_sdk::__private::FunctionSpec {
            hook: ::stile_sdk::__private::contract::Hook::#hook,
            name: #name,
            headers: #headers,
            body: #body,
            request_headers: #request_headers,
            session: #session,
            context: ::stile_sdk::__private::contract::ContextFields::empty()
                #(.union(::stile_sdk::__private::contract::ContextFields::#context))*,
        }
    }
}

fn headers(headers: &Headers) -> TokenStream {
    match headers {
        Headers::All => quote!(::stile_sdk::__private::HeaderSpec::All),
        Headers::Named(names) => quote!(::stile_sdk::__private::HeaderSpec::Named(&[#(#names),*])),
    }
}

fn metric(kind: &str, (name, help): &(String, LitStr)) -> TokenStream {
    let kind = ident(kind);
    quote! {
        ::stile_sdk::__private::Metric {
            name: #name,
            kind: ::stile_sdk::__private::contract::MetricKind::#kind,
            help: #help,
        }
    }
}

fn lifecycle(plugin: &Plugin) -> TokenStream {
    let this = &plugin.item.self_ty;
    let (state, schema, init) = match &plugin.state {
        State::None => (quote!(()), None, quote!(::core::result::Result::Ok(()))),
        State::Config => (quote!(#this), Some(quote!(#this)), quote!(::stile_sdk::__private::parse::<#this>(config))),
        State::Around(config) => {
            (quote!(#this), Some(quote!(#config)), quote!(::stile_sdk::__private::parse::<#config>(config).map(Self)))
        }
        State::New => {
            (quote!(#this), None, quote!(::stile_sdk::__private::IntoState::<#this>::into_state(<#this>::new())))
        }
        State::NewFrom(config) => (
            quote!(#this),
            Some(quote!(#config)),
            quote! {
                let config = ::stile_sdk::__private::parse::<#config>(config)?;
                ::stile_sdk::__private::IntoState::<#this>::into_state(<#this>::new(config))
            },
        ),
    };
    let schema = schema.map(|config| {
        quote! {
            fn config_schema() -> ::core::option::Option<::std::string::String> {
                ::stile_sdk::__private::schema::<#config>()
            }
        }
    });
    quote! {
        type State = #state;

        #schema

        #[allow(unused_variables)]
        fn init(config: &str) -> ::core::result::Result<Self::State, ::std::string::String> {
            #init
        }
    }
}

/// The method of `Plugin` for one hook.
fn dispatch(plugin: &Plugin, hook: Hook) -> TokenStream {
    let method = ident(hook.attribute());
    let (parameters, call, into) = shape(hook);
    let convert = ident(into);
    let trait_name = match hook {
        Hook::Auth => ident("IntoAuthAction"),
        Hook::Response => ident("IntoDone"),
        Hook::Analytics => ident("IntoVerdict"),
        _ => ident("IntoAction"),
    };
    let arms = plugin.functions.iter().filter(|function| function.hook == hook).map(|function| {
        let name = &function.name;
        let invocation = invocation(plugin, function);
        quote!(#name => ::stile_sdk::__private::#trait_name::#convert(#invocation),)
    });
    let answer = quote! {
        match function {
            #(#arms)*
            _ => ::stile_sdk::__private::unknown_function(function),
        }
    };
    let (result, body) = match hook {
        Hook::Analytics => (
            quote!(::std::vec::Vec<::stile_sdk::__private::bindings::analytics::Verdict>),
            quote! {
                records.into_iter().map(|record| {
                    let mut call = #call;
                    let answer = #answer;
                    ::core::result::Result::Ok(call.analytics(answer?))
                }).collect()
            },
        ),
        _ => (
            quote!(::stile_sdk::__private::bindings::#method::Action),
            quote! {
                let mut call = #call;
                let answer = #answer;
                ::core::result::Result::Ok(call.#method(answer?))
            },
        ),
    };
    quote! {
        #[allow(unused_mut, unused_variables)]
        fn #method(
            state: &Self::State,
            function: &str,
            #parameters
        ) -> ::core::result::Result<#result, ::std::string::String> {
            #body
        }
    }
}

/// Of a hook: its parameters as they cross the boundary, what makes a call of them, and the conversion of the answer.
fn shape(hook: Hook) -> (TokenStream, TokenStream, &'static str) {
    let types = quote!(::stile_sdk::__private::types);
    let context = quote!(context: #types::Context, request: #types::Request,);
    let session = quote!(session: ::core::option::Option<#types::Session>,);
    let inbound = quote!(::stile_sdk::__private::calls::Inbound::new(context, request));
    match hook {
        Hook::Pre => (context, inbound, "into_action"),
        Hook::Auth => (
            quote!(#context credential: ::core::option::Option<#types::Credential>,),
            quote!(#inbound.with_credential(credential)),
            "into_auth_action",
        ),
        Hook::PostAuth | Hook::Post => {
            (quote!(#context #session), quote!(#inbound.with_session(session)), "into_action")
        }
        Hook::Endpoint => (
            quote! {
                #context
                path_params: ::std::vec::Vec<(::std::string::String, ::std::string::String)>,
                #session
            },
            quote!(#inbound.with_path_params(path_params).with_session(session)),
            "into_action",
        ),
        Hook::Response => (
            quote!(#context response: #types::Response, #session),
            quote!(::stile_sdk::__private::calls::Outbound::new(context, request, response, session)),
            "into_done",
        ),
        Hook::Analytics => (
            quote!(records: ::std::vec::Vec<#types::AnalyticsRecord>,),
            quote!(::stile_sdk::__private::calls::Recorded::new(record)),
            "into_verdict",
        ),
    }
}

fn invocation(plugin: &Plugin, function: &Function) -> TokenStream {
    let this = &plugin.item.self_ty;
    let ident = &function.ident;
    let state = function.takes_self.then(|| quote!(state,));
    let arguments = function.arguments.iter().map(|argument| match argument {
        Argument::Request => quote!(&mut call.request),
        Argument::SentRequest => quote!(&call.request),
        Argument::Context => quote!(&call.context),
        Argument::Credential => quote!(call.credential.as_ref()),
        Argument::Session => quote!(call.session.as_ref()),
        Argument::SessionEdits => quote!(&mut call.session_edits),
        Argument::PathParams => quote!(&call.path_params),
        Argument::Response => quote!(&mut call.response),
        Argument::Record => quote!(&mut call.record),
    });
    quote!(<#this>::#ident(#state #(#arguments),*))
}

/// What makes a component of it: the exports of the hooks that there are functions for, and no other.
fn exports(plugin: &Plugin) -> TokenStream {
    let this = &plugin.item.self_ty;
    let result = |ok: TokenStream| quote!(::core::result::Result<#ok, ::std::string::String>);
    let (slot, with_state, init) = match plugin.state {
        State::None => (None, quote!(call(&())), None),
        _ => (
            Some(quote! {
                ::std::thread_local! {
                    static STATE: ::core::cell::OnceCell<<#this as Plugin>::State> =
                        const { ::core::cell::OnceCell::new() };
                }
            }),
            quote! {
                STATE.with(|state| match state.get() {
                    ::core::option::Option::Some(state) => call(state),
                    ::core::option::Option::None => {
                        ::core::result::Result::Err("called before `init`".to_owned())
                    }
                })
            },
            Some(quote! {
                impl bindings::with_init::exports::stile::plugin::lifecycle::Guest for Exports {
                    fn init(config: ::std::string::String) -> ::core::result::Result<(), ::std::string::String> {
                        let state = <#this as Plugin>::init(&config)?;
                        STATE.with(|slot| slot.set(state)).map_err(|_| "`init` was called twice".to_owned())
                    }
                }
                bindings::with_init::export_with_init!(Exports with_types_in bindings::with_init);
            }),
        ),
    };
    let guests = hooks(plugin).map(|hook| {
        let method = ident(hook.attribute());
        let export = format_ident!("export_{method}");
        let (parameters, _, _) = shape(hook);
        let names = match hook {
            Hook::Pre => quote!(context, request),
            Hook::Auth => quote!(context, request, credential),
            Hook::PostAuth | Hook::Post => quote!(context, request, session),
            Hook::Endpoint => quote!(context, request, path_params, session),
            Hook::Response => quote!(context, request, response, session),
            Hook::Analytics => quote!(records),
        };
        let answer = match hook {
            Hook::Analytics => result(quote!(::std::vec::Vec<bindings::analytics::Verdict>)),
            _ => result(quote!(bindings::#method::Action)),
        };
        quote! {
            impl bindings::#method::Guest for Exports {
                fn handle(function: ::std::string::String, #parameters) -> #answer {
                    with_state(|state| <#this as Plugin>::#method(state, &function, #names))
                }
            }
            bindings::#method::#export!(Exports with_types_in bindings::#method);
        }
    });
    let with_state_result = result(quote!(T));
    quote! {
        // Natively nothing is exported, but nothing is unused for that.
        #[cfg(not(target_family = "wasm"))]
        const _: fn() -> ::stile_sdk::__private::contract::PluginDescription =
            <#this as ::stile_sdk::__private::Plugin>::describe;

        #[cfg(target_family = "wasm")]
        #[allow(unsafe_code)]
        const _: () = {
            use ::stile_sdk::__private::{Plugin, bindings};

            struct Exports;

            #slot

            fn with_state<T>(call: impl FnOnce(&<#this as Plugin>::State) -> #with_state_result) -> #with_state_result {
                #with_state
            }

            impl bindings::base::exports::stile::plugin::description::Guest for Exports {
                fn describe() -> ::stile_sdk::__private::contract::PluginDescription {
                    <#this as Plugin>::describe()
                }
            }
            bindings::base::export_base!(Exports with_types_in bindings::base);

            #init
            #(#guests)*

            #[used]
            #[unsafe(link_section = "stile:sdk")]
            static STAMP: [u8; ::stile_sdk::__private::STAMP.len()] = *::stile_sdk::__private::STAMP;
        };
    }
}

fn ident(name: &str) -> Ident {
    Ident::new(name, Span::call_site())
}
