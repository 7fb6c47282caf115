//! What an API does with a request: a list of steps, made once when the API loads.

use std::fmt;
use std::sync::Arc;

use http::HeaderValue;

use crate::model::api::{Answers, Api, Auth, CredentialSource, HookUse};
use crate::model::path::PathTemplate;
use crate::model::plugin::{Hook, OnFailure};
use crate::plugin::failure::LoadError;
use crate::plugin::load::{ApiFacts, Use};
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
    pub target: Arc<Target>,
    /// The `Host` that they carry.
    pub host: HeaderValue,
    /// Its counters.
    pub metrics: ApiMetrics,
}

/// One step of the way in.
///
/// Between `Expiry` and `Endpoint` is the place of access rights, rate, quota and the API's own rate limit, and before
/// `Pre` that of versions and CORS.
pub enum Step {
    /// A plugin before anything else.
    Pre(HookStep),
    /// A body that says it is too large ends here.
    BodySize(u64),
    /// A plugin says who calls.
    Authenticate(AuthStep),
    /// A plugin after authentication.
    PostAuth(HookStep),
    /// The credential is taken off.
    StripCredential(CredentialSource),
    /// An inactive or expired session ends here.
    Expiry,
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

/// Authentication by a plugin.
pub struct AuthStep {
    /// The plugin.
    pub hook: HookStep,
    /// Where callers put their credential.
    pub credential: CredentialSource,
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
    /// Makes the plan of an API. `prepare` loads one use of a plugin.
    pub fn for_api(
        api: &Api,
        metrics: &Metrics,
        mut prepare: impl FnMut(Hook, usize, &HookUse) -> Result<Use, LoadError>,
    ) -> Result<Self, PlanError> {
        let mut hook_step = |hook: Hook, index: usize, hook_use: &HookUse| {
            let function =
                prepare(hook, index, hook_use).map_err(|source| PlanError::Plugin { hook, index, source })?;
            let metrics = metrics.hook_use(&api.id, hook, &hook_use.plugin);
            Ok::<_, PlanError>(HookStep { function, metrics, hook, on_failure: hook_use.on_failure })
        };
        let mut steps = Vec::new();
        for (index, hook_use) in api.hooks.pre.iter().enumerate() {
            steps.push(Step::Pre(hook_step(Hook::Pre, index, hook_use)?));
        }
        steps.push(Step::BodySize(api.request_body_bytes_max));
        let mut strip = None;
        let is_keyless = match &api.auth {
            Auth::Keyless => true,
            Auth::Plugin { hook, credential, strip_credential } => {
                let credential = credential.clone();
                strip = strip_credential.then(|| credential.clone());
                steps.push(Step::Authenticate(AuthStep { hook: hook_step(Hook::Auth, 0, hook)?, credential }));
                false
            }
        };
        for (index, hook_use) in api.hooks.post_auth.iter().enumerate() {
            steps.push(Step::PostAuth(hook_step(Hook::PostAuth, index, hook_use)?));
        }
        steps.extend(strip.map(Step::StripCredential));
        if !is_keyless {
            steps.push(Step::Expiry);
        }
        for (index, endpoint) in api.hooks.endpoint.iter().enumerate() {
            let hook = hook_step(Hook::Endpoint, index, &endpoint.hook)?;
            let (method, path) = (endpoint.method.clone(), endpoint.path.clone());
            steps.push(Step::Endpoint(EndpointStep { hook, method, path }));
        }
        for (index, hook_use) in api.hooks.post.iter().enumerate() {
            steps.push(Step::Post(hook_step(Hook::Post, index, hook_use)?));
        }
        let mut response = Vec::new();
        for (index, response_use) in api.hooks.response.iter().enumerate() {
            let hook = hook_step(Hook::Response, index, &response_use.hook)?;
            response.push(ResponseStep { hook, sees_only_upstream: response_use.answers == Answers::Upstream });
        }
        let mut analytics = Vec::new();
        for (index, hook_use) in api.hooks.analytics.iter().enumerate() {
            analytics.push(hook_step(Hook::Analytics, index, hook_use)?);
        }
        let target = Arc::new(Target::new(&api.upstream)?);
        let authority = api.upstream.origin.authority();
        let host = HeaderValue::from_str(&authority).map_err(|_| PlanError::Host(authority))?;
        let (facts, metrics) = (Arc::new(ApiFacts::from(api)), metrics.api(&api.id));
        Ok(Self { api: api.clone(), facts, steps, response, analytics, target, host, metrics })
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
            Self::Pre(hook) | Self::PostAuth(hook) | Self::Post(hook) => hook.fmt(f),
            Self::BodySize(bytes_max) => write!(f, "request body of at most {bytes_max} bytes"),
            Self::Authenticate(auth) => write!(f, "{}, credential in {}", auth.hook, auth.credential),
            Self::StripCredential(source) => write!(f, "strip credential from {source}"),
            Self::Expiry => f.write_str("expiry and activity of the session"),
            Self::Endpoint(endpoint) => {
                let method = endpoint.method.as_ref().map_or("any method", http::Method::as_str);
                write!(f, "{}, on {method} {}", endpoint.hook, endpoint.path)
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
            self.function.function.name,
            generation.spec.name,
            generation.description.version,
            generation.digest.short(),
            self.function.function.reads.summary(),
            match self.on_failure {
                OnFailure::Reject => "reject",
                OnFailure::Continue => "continue",
            }
        )
    }
}
