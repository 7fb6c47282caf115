//! Runs a plugin natively, against a fake host.
//!
//! A [`Host`] keeps the values, lines and metrics of the plugin and its clock, and answers its requests and calls; it [loads](Host::load) a plugin as the
//! gateway would. A [`Call`] is a request on its way: the plugin is handed of it what its function asked for, and no more,
//! and what it changes is there afterwards, in the [`Outcome`].
//!
//! ```
//! use stile_sdk::{prelude::*, testing::{Call, Host}};
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
//!
//! let hello = Host::new().load::<Hello>();
//! let outcome = hello.pre("hello", Call::get("/orders"));
//! assert_eq!(outcome.call.header("x-hello"), Some("world"));
//! ```

mod apply;
mod call;
pub(crate) mod host;
mod loaded;

pub use call::{Call, record};
pub use loaded::{Loaded, Outcome};

/// What a plugin tells the gateway, as the contract has it.
pub use crate::guest::contract as description;

use crate::{
    apis,
    guest::{Plugin, contract::PluginDescription},
    http, kv,
    log::Level,
    types::Session,
};

/// A fake host. There is one for each thread; making one empties it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Host;

/// A line that the plugin wrote.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "these are the arguments of `log::line`")]
pub struct LogLine {
    pub level: Level,
    pub message: String,
    pub fields: Vec<(String, String)>,
}

impl Host {
    /// A host without values, at a fixed time.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "making one has an effect")]
    pub fn new() -> Self {
        host::with(|state| *state = host::State { time_ms: 1_750_000_000_000, ..host::State::default() });
        Self
    }

    /// Loads a plugin without configuration.
    ///
    /// # Panics
    /// The plugin does not load.
    #[must_use]
    #[track_caller]
    pub fn load<P: Plugin>(&self) -> Loaded<P> {
        self.load_text("null").unwrap_or_else(|error| panic!("the plugin does not load: {error}"))
    }

    /// Loads a plugin with its configuration.
    ///
    /// # Panics
    /// The plugin does not load.
    #[cfg(feature = "config")]
    #[must_use]
    #[track_caller]
    pub fn load_with<P: Plugin>(&self, config: serde_json::Value) -> Loaded<P> {
        self.try_load_with(config).unwrap_or_else(|error| panic!("the plugin does not load: {error}"))
    }

    /// Loads a plugin with its configuration, or tells why it does not load.
    ///
    /// # Errors
    /// The plugin's own: the configuration is not what it wants.
    #[cfg(feature = "config")]
    #[allow(clippy::needless_pass_by_value, reason = "tests write the value in place")]
    pub fn try_load_with<P: Plugin>(&self, config: serde_json::Value) -> Result<Loaded<P>, String> {
        self.load_text(&config.to_string())
    }

    fn load_text<P: Plugin>(&self, config: &str) -> Result<Loaded<P>, String> {
        let description: PluginDescription = P::describe();
        host::with(|state| state.description = Some(description.clone()));
        Ok(Loaded::new(P::init(config)?, description))
    }

    /// Lets time pass, for calls and for values that are kept only so long.
    pub fn advance_ms(&self, ms: u64) {
        host::with(|state| state.time_ms += ms);
    }

    /// Puts a value into `kv`.
    pub fn set_kv(&self, key: &str, value: impl Into<Vec<u8>>) {
        let stored = host::Stored { value: value.into(), until_ms: None };
        host::with(|state| state.kv.insert(key.to_owned(), stored));
    }

    /// The value in `kv`, as text.
    #[must_use]
    pub fn kv(&self, key: &str) -> Option<String> {
        host::with(|state| state.kv.get(key).map(|stored| String::from_utf8_lossy(&stored.value).into_owned()))
    }

    /// Lets every call of `kv` fail from now on; `None` mends it.
    pub fn fail_kv(&self, failure: Option<kv::Error>) {
        host::with(|state| state.kv_failure = failure);
    }

    /// Keeps a session under a token, for [`sessions`](crate::sessions) to find.
    pub fn set_session(&self, token: &str, session: Session) {
        host::with(|state| state.sessions.insert(token.to_owned(), session));
    }

    /// The session that is kept under a token.
    #[must_use]
    pub fn session(&self, token: &str) -> Option<Session> {
        host::with(|state| state.sessions.get(token).cloned())
    }

    /// Lets every call of `sessions` find the store away from now on, or there again.
    pub fn set_sessions_away(&self, away: bool) {
        host::with(|state| state.sessions_away = away);
    }

    /// The lines that the plugin wrote.
    #[must_use]
    pub fn lines(&self) -> Vec<LogLine> {
        host::with(|state| state.lines.clone())
    }

    /// The value of a counter.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        host::with(|state| state.counters.get(name).copied().unwrap_or_default())
    }

    /// The values of a histogram.
    #[must_use]
    pub fn histogram(&self, name: &str) -> Vec<f64> {
        host::with(|state| state.histograms.get(name).cloned().unwrap_or_default())
    }

    /// Answers requests that the plugin sends. Without it they are [denied](http::Error::Denied).
    pub fn answer_http(&self, answer: impl Fn(&http::Request) -> Result<http::Response, http::Error> + 'static) {
        host::with(|state| state.http_answer = Some(std::rc::Rc::new(answer)));
    }

    /// The requests that the plugin sent.
    #[must_use]
    pub fn http_requests(&self) -> Vec<http::Request> {
        host::with(|state| state.http_requests.clone())
    }

    /// Answers calls that the plugin makes to APIs. Without it they are [denied](apis::Error::Denied).
    pub fn answer_apis(&self, answer: impl Fn(&apis::Request) -> Result<apis::Response, apis::Error> + 'static) {
        host::with(|state| state.api_answer = Some(std::rc::Rc::new(answer)));
    }

    /// The calls that the plugin made to APIs.
    #[must_use]
    pub fn api_requests(&self) -> Vec<apis::Request> {
        host::with(|state| state.api_requests.clone())
    }

    /// Has a secret of this name; its placeholder is `placeholder-of-NAME`.
    pub fn set_secret(&self, name: &str) {
        host::with(|state| state.secrets.push(name.to_owned()));
    }
}
