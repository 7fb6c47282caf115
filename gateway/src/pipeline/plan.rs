//! What an API does with a request: a list of steps, made once when the API loads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::auth::Extraction;
use super::caller::Made;
use super::extract;
use super::version::VersionStep;
use super::warnings::Warnings;
use crate::model::api::{Answers, Api, Auth, AuthBy, CredentialSource, HookUse, PolicyGrant, Provider, Rates, Require};
use crate::model::digest::Digest;
use crate::model::key::KeyHash;
use crate::model::limit::Algorithm;
use crate::model::path::PathTemplate;
use crate::model::plugin::{Hook, OnFailure};
use crate::plugin::failure::{LoadError, escaped_reason};
use crate::plugin::load::{ApiFacts, Use};
use crate::store::{Share, Store};
use crate::telemetry::metrics::{ApiMetrics, HookMetrics, Metrics};
use crate::upstream::{Target, TargetError};

/// The work of one API, in order.
pub struct Plan {
    /// Its definition.
    pub api: Api,
    /// What plugins are told of it.
    pub facts: Arc<ApiFacts>,
    /// The way in.
    pub steps: Vec<Step>,
    /// The way out.
    pub response: Vec<ResponseStep>,
    /// After the answer has left.
    pub analytics: Vec<HookStep>,
    /// Where requests go.
    pub destination: Destination,
    /// Its counters.
    pub metrics: ApiMetrics,
    /// What is to be told of it once in a while.
    pub warnings: Warnings,
}

/// Where requests go.
#[derive(Debug)]
pub struct Destination {
    /// The target.
    pub target: Arc<Target>,
    /// The `Host` that they carry.
    pub host: HeaderValue,
    /// Put before every path.
    pub base_path: String,
}

/// One step of the way in.
///
/// Before `Pre`, after `Version`, is the place of CORS.
pub enum Step {
    /// Which version of the API the request has; one without a version that is served ends here.
    Version(VersionStep),
    /// A plugin before anything else.
    Pre(HookStep),
    /// A body that says it is too large ends here.
    BodySize(u64),
    /// The store or a plugin says who calls.
    Authenticate(Box<AuthStep>),
    /// A plugin after authentication.
    PostAuth(HookStep),
    /// The credential is taken off.
    StripCredential(CredentialSource),
    /// An inactive or expired session ends here.
    Expiry,
    /// What the session has no right to ends here.
    Rights,
    /// What is over a rate or quota ends here.
    Limits(Rates),
    /// A plugin where method and path match.
    Endpoint(EndpointStep),
    /// A plugin before the upstream.
    Post(HookStep),
}

/// One function of a plugin, with what a failure means.
pub struct HookStep {
    /// The function.
    pub function: Use,
    /// Its counters.
    pub metrics: HookMetrics,
    /// The hook.
    pub hook: Hook,
    /// What a failure means.
    pub on_failure: OnFailure,
}

/// Authentication.
pub struct AuthStep {
    /// What the plugin's sessions may be, and how often it is asked.
    pub plugin: PluginSessions,
    /// Who knows callers.
    pub by: By,
    /// Where callers put their credential.
    pub credential: CredentialSource,
}

/// What the sessions of an `auth` plugin may be, and how often it is asked for one.
pub struct PluginSessions {
    /// Finds callers' IDs.
    pub extraction: Option<Extraction>,
    /// The policies that a session may name.
    pub policies: PolicyGrant,
    /// What a session of an ID was made by, if it is to be used: see the function `maker`.
    pub maker: String,
    /// How long one is kept, where it does not say itself; zero keeps it until it is deleted.
    pub lifetime: Duration,
    /// How long what was used of a quota that never renews is remembered; zero for ever.
    pub quota_life: Duration,
    /// How many there may be, and counters for them.
    pub share: Arc<Share>,
}

impl PluginSessions {
    /// What holds for a session that the plugin made.
    pub fn made(&self) -> Made {
        Made { share: self.share.clone(), quota_life: self.quota_life }
    }
}

/// Who knows callers.
pub enum By {
    /// The store.
    Token,
    /// A plugin.
    Plugin(HookStep),
    /// Both.
    Both {
        /// The plugin.
        hook: HookStep,
        /// Whether both must know the caller.
        require: Require,
        /// Whose session it is where both do.
        session_from: Provider,
    },
}

/// A plugin where method and path match.
pub struct EndpointStep {
    /// The plugin.
    pub hook: HookStep,
    /// The method; `None` matches all.
    pub method: Option<http::Method>,
    /// The path below the listen path.
    pub path: PathTemplate,
}

/// A plugin on the way back.
pub struct ResponseStep {
    /// The plugin.
    pub hook: HookStep,
    /// Whether it is left out for answers of the gateway and of plugins.
    pub sees_only_upstream: bool,
}

/// What the router finds: an API's plan, or that it did not load.
#[derive(Clone)]
pub enum Routed {
    /// It is served.
    Plan(Arc<Plan>),
    /// It answers 503 for itself alone.
    Unavailable,
}

impl Routed {
    /// Whether both are one.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Plan(plan), Self::Plan(other)) => Arc::ptr_eq(plan, other),
            // Whichever it is, it answers alike.
            (Self::Unavailable, Self::Unavailable) => true,
            _ => false,
        }
    }
}

/// An API's plan cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// One of its plugins does not load.
    #[error("{hook}[{index}]: {source}")]
    Plugin {
        /// The hook.
        hook: Hook,
        /// Which of its uses.
        index: usize,
        /// Why.
        source: LoadError,
    },
    /// Its upstream's settings cannot be used.
    #[error("upstream: {0}")]
    Target(#[from] TargetError),
    /// Its upstream's name cannot stand in a header.
    #[error("upstream: `{0}` is not a host")]
    Host(String),
}

impl Plan {
    /// Makes the plan of an API. `prepare` loads one use of a plugin. What it remembers of callers it forgets when `store` has
    /// news of them.
    ///
    /// Where the plan before it sends to the same upstream, its connections and their limits go on. What was counted goes on.
    ///
    /// # Errors
    /// All that is in its way, so that nobody has to mend one thing to learn of the next.
    pub fn for_api(
        api: &Api,
        metrics: &Metrics,
        store: &Store,
        before: Option<&Self>,
        mut prepare: impl FnMut(Hook, usize, &HookUse) -> Result<Use, LoadError>,
    ) -> Result<Self, Vec<PlanError>> {
        let mut errors = Vec::new();
        let mut steps = Vec::new();
        let destination = Self::destination(api, before).and_then(|destination| {
            if let Some(versions) = &api.versions {
                steps.push(Step::Version(VersionStep::new(versions, api, &destination.target, metrics)?));
            }
            Ok(destination)
        });
        let destination = destination.map_err(|error| errors.push(error)).ok();
        let mut hook_step = |hook: Hook, index: usize, hook_use: &HookUse| {
            let function = prepare(hook, index, hook_use)
                .map_err(|source| errors.push(PlanError::Plugin { hook, index, source }))
                .ok()?;
            let metrics = metrics.hook_use(&api.id, hook, &hook_use.plugin);
            Some(HookStep { function, metrics, hook, on_failure: hook_use.on_failure })
        };
        for (index, hook_use) in api.hooks.pre.iter().enumerate() {
            steps.extend(hook_step(Hook::Pre, index, hook_use).map(Step::Pre));
        }
        steps.push(Step::BodySize(api.request_body_bytes_max));
        let mut strip = None;
        let is_keyless = match &api.auth {
            Auth::Keyless => true,
            Auth::Keyed(keyed) => {
                let credential = keyed.credential.clone();
                strip = keyed.strip_credential.then(|| credential.clone());
                let by = match &keyed.by {
                    AuthBy::Token => Some(By::Token),
                    AuthBy::Plugin(plugin) => hook_step(Hook::Auth, 0, plugin).map(By::Plugin),
                    AuthBy::Both { plugin, require, session_from } => {
                        let by = |hook| By::Both { hook, require: *require, session_from: *session_from };
                        hook_step(Hook::Auth, 0, plugin).map(by)
                    }
                };
                let maker = by.as_ref().and_then(By::hook).map(maker).unwrap_or_default();
                let before = before.and_then(Self::sessions_made);
                let share = Share::new(api.id.clone(), keyed.sessions_max, keyed.counters_max);
                let share = match before {
                    Some(before) => share.counting_on(&before.share),
                    None => share,
                };
                let known = before.and_then(|before| before.extraction.as_ref());
                let plugin = PluginSessions {
                    extraction: keyed.extractor.clone().map(|settings| Extraction::new(settings, store, known)),
                    policies: keyed.policies.clone(),
                    maker,
                    lifetime: keyed.session_lifetime,
                    quota_life: keyed.quota_life,
                    share: Arc::new(share),
                };
                steps.extend(by.map(|by| Step::Authenticate(Box::new(AuthStep { by, credential, plugin }))));
                false
            }
        };
        for (index, hook_use) in api.hooks.post_auth.iter().enumerate() {
            steps.extend(hook_step(Hook::PostAuth, index, hook_use).map(Step::PostAuth));
        }
        steps.extend(strip.map(Step::StripCredential));
        if !is_keyless {
            steps.extend([Step::Expiry, Step::Rights]);
        }
        if !is_keyless || api.rates.api.is_some() {
            steps.push(Step::Limits(api.rates));
        }
        for (index, endpoint) in api.hooks.endpoint.iter().enumerate() {
            let Some(hook) = hook_step(Hook::Endpoint, index, &endpoint.hook) else { continue };
            let (method, path) = (endpoint.method.clone(), endpoint.path.clone());
            steps.push(Step::Endpoint(EndpointStep { hook, method, path }));
        }
        for (index, hook_use) in api.hooks.post.iter().enumerate() {
            steps.extend(hook_step(Hook::Post, index, hook_use).map(Step::Post));
        }
        let mut response = Vec::new();
        for (index, response_use) in api.hooks.response.iter().enumerate() {
            let Some(hook) = hook_step(Hook::Response, index, &response_use.hook) else { continue };
            response.push(ResponseStep { hook, sees_only_upstream: response_use.answers == Answers::Upstream });
        }
        let mut analytics = Vec::new();
        for (index, hook_use) in api.hooks.analytics.iter().enumerate() {
            analytics.extend(hook_step(Hook::Analytics, index, hook_use));
        }
        let Some(destination) = destination.filter(|_| errors.is_empty()) else { return Err(errors) };
        let (facts, metrics) = (Arc::new(ApiFacts::from(api)), metrics.api(&api.id));
        let warnings = Warnings::default();
        Ok(Self { api: api.clone(), facts, steps, response, analytics, destination, metrics, warnings })
    }

    fn destination(api: &Api, before: Option<&Self>) -> Result<Destination, PlanError> {
        let target = match before {
            Some(before) if before.api.upstream == api.upstream => before.destination.target.clone(),
            _ => Arc::new(Target::new(&api.upstream)?),
        };
        Destination::new(target, &api.upstream.base_path)
    }
}

impl Destination {
    /// A target, with what is put before every path.
    pub(super) fn new(target: Arc<Target>, base_path: &str) -> Result<Self, PlanError> {
        let authority = target.origin().authority();
        let host = HeaderValue::from_str(&authority).map_err(|_| PlanError::Host(authority))?;
        Ok(Self { target, host, base_path: base_path.to_owned() })
    }
}

impl Plan {
    /// Every use of a plugin.
    pub fn uses(&self) -> impl Iterator<Item = &Use> {
        self.hooks().map(|hook| &hook.function)
    }

    /// The same, with what a failure means.
    pub fn hooks(&self) -> impl Iterator<Item = &HookStep> {
        (self.steps.iter().filter_map(Step::hook))
            .chain(self.response.iter().map(|step| &step.hook))
            .chain(&self.analytics)
    }
}

impl Step {
    /// The plugin that it calls, if it calls one.
    const fn hook(&self) -> Option<&HookStep> {
        match self {
            Self::Pre(hook) | Self::PostAuth(hook) | Self::Post(hook) => Some(hook),
            Self::Endpoint(endpoint) => Some(&endpoint.hook),
            Self::Authenticate(auth) => auth.by.hook(),
            Self::Version(_)
            | Self::BodySize(_)
            | Self::StripCredential(_)
            | Self::Expiry
            | Self::Rights
            | Self::Limits(_) => None,
        }
    }
}

impl By {
    /// The plugin, where one is asked.
    const fn hook(&self) -> Option<&HookStep> {
        match self {
            Self::Token => None,
            Self::Plugin(hook) | Self::Both { hook, .. } => Some(hook),
        }
    }
}

/// Tells one way to ask a plugin from any other: its file, function and configuration.
fn maker(hook: &HookStep) -> String {
    let function = &hook.function;
    let (file, name) = (function.generation.digest.hex(), &function.function.name);
    // The digest has one length, and the length of the name tells where the configuration begins.
    Digest::of(format!("{file} {} {name} {}", name.len(), function.pool.config()).as_bytes()).hex()
}

impl Plan {
    /// What holds for the sessions that a plugin makes, where one may.
    pub fn sessions_made(&self) -> Option<&PluginSessions> {
        self.steps.iter().find_map(|step| match step {
            Step::Authenticate(auth) if !matches!(auth.by, By::Token) => Some(&auth.plugin),
            _ => None,
        })
    }
}

impl Plan {
    /// The name of the session that its plugin made of an ID; nothing where the plugin is asked about no IDs.
    pub fn identity(&self, id: &str) -> Option<KeyHash> {
        self.sessions_made()?.extraction.as_ref()?;
        let hook = self.steps.iter().find_map(|step| match step {
            Step::Authenticate(auth) => auth.by.hook(),
            _ => None,
        })?;
        Some(extract::session_key(
            &self.api.organisation,
            &self.api.id,
            &hook.function.generation.spec.name,
            id.as_bytes(),
        ))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let api = &self.api;
        let hosts = if api.listen.hosts.is_empty() { "any host".to_owned() } else { api.listen.hosts.join(", ") };
        writeln!(f, "{} ({}) on {} of {hosts}", api.id, api.name, api.listen.path)?;
        let mut lines: Vec<String> = self.steps.iter().map(ToString::to_string).collect();
        let stripped = if api.listen.strip { ", listen path stripped" } else { "" };
        lines.push(format!("upstream {}{}{stripped}", api.upstream.origin, api.upstream.base_path));
        lines.extend(self.response.iter().map(|step| {
            let only = if step.sees_only_upstream { ", upstream's answers only" } else { "" };
            format!("{}{only}", step.hook)
        }));
        lines.push("reply".to_owned());
        if api.analytics.enabled {
            lines.extend(self.analytics.iter().map(ToString::to_string));
            lines.push("store the record".to_owned());
        }
        for (number, line) in lines.iter().enumerate() {
            writeln!(f, "  {:>2}. {line}", number + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(step) => step.fmt(f),
            Self::Pre(hook) | Self::PostAuth(hook) | Self::Post(hook) => hook.fmt(f),
            Self::BodySize(bytes_max) => write!(f, "request body of at most {bytes_max} bytes"),
            Self::Authenticate(auth) => {
                write!(f, "{}, credential in {}", auth.by, auth.credential)?;
                if auth.plugin.extraction.is_some() { f.write_str(", asked once for each ID") } else { Ok(()) }
            }
            Self::StripCredential(source) => write!(f, "strip credential from {source}"),
            Self::Expiry => f.write_str("expiry and activity of the session"),
            Self::Rights => f.write_str("access rights of the session"),
            Self::Limits(rates) => {
                let algorithm = match rates.algorithm {
                    Algorithm::Fixed => "fixed windows".to_owned(),
                    Algorithm::Sliding => "a sliding window".to_owned(),
                    Algorithm::Smooth { burst } => format!("evenly spaced, {burst} at once"),
                };
                f.write_str("rate and quota of the session")?;
                if let Some(limit) = rates.api {
                    let seconds = Duration::from_micros(limit.per_us()).as_secs_f64();
                    write!(f, ", {} requests in {seconds} s of the API", limit.max())?;
                }
                write!(f, ", counted in {algorithm}")
            }
            Self::Endpoint(endpoint) => {
                let method = endpoint.method.as_ref().map_or("any method", http::Method::as_str);
                write!(f, "{}, on {method} {}", endpoint.hook, endpoint.path)
            }
        }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token => f.write_str("token of a session in the store"),
            Self::Plugin(hook) => hook.fmt(f),
            Self::Both { hook, require: Require::Any, .. } => {
                write!(f, "token of a session in the store, or else {hook}")
            }
            Self::Both { hook, require: Require::All, session_from } => {
                let whose = match session_from {
                    Provider::Token => "token",
                    Provider::Plugin => "plugin",
                };
                write!(f, "token of a session in the store and {hook}, session of the {whose}")
            }
        }
    }
}

impl fmt::Display for HookStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generation = &self.function.generation;
        write!(
            f,
            "{} `{}` of {} {} ({}), reads {}, on failure {}",
            self.hook,
            escaped_reason(&self.function.function.name),
            generation.spec.name,
            escaped_reason(&generation.description.version),
            generation.digest.short(),
            self.function.function.reads.summary(),
            match self.on_failure {
                OnFailure::Reject => "reject",
                OnFailure::Continue => "continue",
            }
        )
    }
}
