//! Write plugins for Stile in Rust.
//!
//! A plugin is a WebAssembly component. It offers functions; an API's definition hooks them into the life of a request.
//! This is a whole one:
//!
//! ```
//! use stile_sdk::prelude::*;
//!
//! struct Hello;
//!
//! #[plugin]
//! impl Hello {
//!     #[pre]
//!     fn hello(request: &mut Request) {
//!         request.headers.set("x-hello", "world");
//!     }
//! }
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes the component. Start from the folder `template` beside this
//! crate: it has the release profile and the small stack that make a plugin cheap to run.
//!
//! # Functions
//!
//! A function belongs to the hook of its attribute and is found by its name. There may be several for one hook. It takes
//! the arguments that it needs, in any order, and no other:
//!
//! | hook | arguments | returns |
//! |---|---|---|
//! | `#[pre]` | `&mut Request`, `&Context` | [`Action`] |
//! | `#[auth]` | `&mut Request`, `&Context`, `Option<&Credential>` | [`AuthAction`] |
//! | `#[post_auth]` | `&mut Request`, `&Context`, `Option<&Session>`, `&mut SessionEdits` | [`Action`] |
//! | `#[endpoint]` | the same and `&PathParams` | [`Action`] |
//! | `#[post]` | `&mut Request`, `&Context`, `Option<&Session>`, `&mut SessionEdits` | [`Action`] |
//! | `#[response]` | `&mut Response`, `&Request`, `&Context`, `Option<&Session>` | nothing |
//! | `#[analytics]` | `&mut Record` | [`Verdict`] |
//!
//! Instead of an [`Action`] a function may return nothing (go on), a [`Reply`] or a [`Rejection`]; instead of an
//! [`AuthAction`] a [`Session`], a [`Refusal`], a [`Reply`] or a [`Rejection`]; instead of a [`Verdict`]
//! nothing (keep it). Around any of these it may put a `Result`: its error is a failure of the plugin. The text goes to
//! the gateway's log, never to the caller, and `on_failure` of the definition decides what becomes of the request. So
//! does a panic, whose message and place the gateway logs.
//!
//! What a function changes is recorded and sent back with its action. Later reads of the same call see the change.
//!
//! # What a function reads
//!
//! Whatever crosses the boundary costs time, so a function is handed only what its attribute names:
//!
//! ```
//! # use stile_sdk::prelude::*;
//! # struct Example;
//! # #[plugin]
//! # impl Example {
//! #[pre(headers = ["authorization", "x-tenant"], body = 64 * 1024, context = [api, vars])]
//! # fn example(request: &mut Request) {}
//! # }
//! ```
//!
//! | key | |
//! |---|---|
//! | `headers = ["…"]` or `headers = all` | header fields of the message that the hook is about; none without this key |
//! | `body = 65536` | its body, up to so many bytes; in `#[analytics]` just `body` |
//! | `context = [request_id, api, endpoint, host, variables, vars]` | parts of [`Context`]; `vars` are in `request.vars` or `response.vars` |
//! | `request_headers = ["…"]` | in `#[response]`: header fields of the request |
//! | `name = "…"` | the function's name for definitions, where it is not the Rust name |
//!
//! The session is handed over when a function has the argument `Option<&Session>`.
//!
//! # Configuration
//!
//! [`config`] makes a type that the definition's `config` is parsed into, once for each instance. The gateway
//! gets its JSON Schema and checks definitions against it. `#[plugin(config = Self)]` says that the plugin is its
//! configuration; `config = Other` that it is a tuple struct around it; a function `new` that it is made from it:
//!
//! ```
//! use stile_sdk::prelude::*;
//!
//! #[config]
//! struct Config {
//!     /// Comma-separated.
//!     teams: String,
//! }
//!
//! struct Teams(Vec<String>);
//!
//! #[plugin(capabilities(log = "tells who was turned away"))]
//! impl Teams {
//!     fn new(config: Config) -> Result<Self, String> {
//!         match config.teams.is_empty() {
//!             true => Err("`teams` names no team".to_owned()),
//!             false => Ok(Self(config.teams.split(',').map(str::to_owned).collect())),
//!         }
//!     }
//!
//!     #[pre(headers = ["x-team"])]
//!     fn members_only(&self, request: &mut Request) -> Action {
//!         match request.headers.text("x-team") {
//!             Some(team) if self.0.iter().any(|known| known == team) => Action::Continue,
//!             _ => {
//!                 log::info("turned away");
//!                 reject(403, "this API is for its teams")
//!             }
//!         }
//!     }
//! }
//! ```
//!
//! # What a plugin may call
//!
//! [`log`], [`kv`], [`metrics`], [`sessions`], [`http`], [`secrets`] and [`apis`]. Each is a capability that the operator grants;
//! `capabilities(kv = "counts requests")` in `#[plugin(…)]` says why you want it. [`http`] is `outgoing_http`. [`sessions`]
//! are two: `sessions_read` to read them, and `sessions` to change them as well. `upstream` and `session_limits` are
//! capabilities too: they allow
//! [`Request::set_upstream`] and the edits of a session that change what it may do. Metrics are declared:
//! `counters(turned_away_total = "requests turned away")`, `histograms(…)`.
//!
//! # Tests
//!
//! `cargo test` runs a plugin natively against a fake host: see `testing`.

macro_rules! contract_version {
    () => {
        "0.1.0"
    };
}

#[cfg(feature = "config")]
mod config;
mod context;
mod edits;
mod fields;
mod guest;
mod outcome;
mod record;
mod request;
mod response;
mod session;

pub mod apis;
#[doc(hidden)]
pub mod bindings;
pub mod http;
pub mod kv;
pub mod log;
pub mod metrics;
pub mod secrets;
pub mod sessions;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod types;

pub use context::{Context, PathParams};
pub use fields::{Headers, Query, Vars};
pub use guest::Plugin;
pub use outcome::{Action, AuthAction, IntoAction, IntoAuthAction, IntoDone, IntoVerdict, Verdict, reject};
pub use record::Record;
pub use request::Request;
pub use response::Response;
pub use session::SessionEdits;
pub use types::{Credential, Refusal, Rejection, Reply, Session};

#[cfg(feature = "config")]
pub use stile_sdk_macros::config;
pub use stile_sdk_macros::plugin;

#[cfg(feature = "config")]
pub use {schemars, serde, serde_json};

/// The version of the contract in `wit/` that a plugin built with this crate speaks.
pub const CONTRACT: &str = contract_version!();

/// What almost every plugin uses.
pub mod prelude {
    #[cfg(feature = "config")]
    pub use crate::config;
    pub use crate::{
        Action, AuthAction, Context, Credential, PathParams, Record, Refusal, Rejection, Reply, Request, Response,
        Session, SessionEdits, Verdict, apis, http, kv, log, metrics, plugin, reject, secrets, sessions,
    };
}

/// For what [`plugin`] writes. Not for plugins themselves.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "config")]
    pub use crate::config::{parse, schema};
    pub use crate::{
        bindings,
        guest::{
            Description, FunctionSpec, HeaderSpec, IntoState, Metric, Plugin, STAMP, calls, contract, unknown_function,
        },
        outcome::{IntoAction, IntoAuthAction, IntoDone, IntoVerdict},
        types,
    };
}
