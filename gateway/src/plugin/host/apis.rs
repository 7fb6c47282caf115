//! Calls of guests to APIs of the gateway that the operator lists.
//!
//! A call is checked where its guest runs, and answered by a task of the same core, which knows the APIs ([`loopback`]). It
//! ends with the call of the guest, as what waits for its answer does.

mod loopback;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

pub use self::loopback::{ApiCall, ApiCalls, Asked, Loopback, Unanswered};
use super::{Host, HostLimit, Identity, imports};
use crate::model::id::ApiId;
use crate::model::plugin::{Limits, PluginSpec};
use crate::plugin::v0_1::bindings::stile::plugin::types;
use crate::plugin::v0_1::lift::{Invalid, Lift};
use crate::plugin::verdict::{Facts, Reply};
use crate::telemetry::text::escaped;
use imports::apis::{Error, Outgoing};

/// The way to APIs of one loaded version of a plugin, over all APIs and cores.
#[derive(Debug)]
pub struct ApiGate {
    allow: Vec<ApiId>,
    concurrency: Arc<Semaphore>,
    limits: Arc<Limits>,
}

/// The request that a guest is called for, as far as calls that it makes are told.
#[derive(Debug)]
pub struct Cause {
    /// The caller.
    pub client: IpAddr,
    /// Whether the caller's connection is encrypted, as far as trusted proxies tell.
    pub is_https: bool,
    /// The host that the caller addressed.
    pub host: String,
    /// Our end of the caller's connection.
    pub local: SocketAddr,
    /// The request's id.
    pub request_id: String,
    /// How many requests it comes from.
    pub depth: u32,
}

impl Cause {
    pub(super) fn new(facts: &Facts<'_>) -> Self {
        Self {
            client: facts.client,
            is_https: facts.is_https,
            host: facts.host.to_owned(),
            local: facts.local,
            request_id: facts.request_id.to_owned(),
            depth: facts.depth,
        }
    }
}

impl ApiGate {
    /// What the definition lists.
    pub fn new(spec: &PluginSpec, limits: Arc<Limits>) -> Self {
        let places = usize::try_from(limits.api_concurrency_max).unwrap_or(usize::MAX);
        Self { allow: spec.apis.clone(), concurrency: Arc::new(Semaphore::new(places)), limits }
    }

    /// A place among the calls of the plugin at one time, waited for a moment.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        if let Ok(permit) = Arc::clone(&self.concurrency).try_acquire_owned() {
            return Ok(permit);
        }
        let waited = tokio::time::timeout(self.limits.api_wait, Arc::clone(&self.concurrency).acquire_owned());
        waited.await.ok().and_then(Result::ok).ok_or(Refused::Busy)
    }
}

impl imports::apis::Host for Host {
    async fn call(&mut self, request: Outgoing) -> wasmtime::Result<Result<types::Reply, Error>> {
        let mut answers = self.call_apis(vec![request]).await?;
        Ok(answers.pop().unwrap_or(Err(Error::BrokenOff)))
    }

    async fn call_all(&mut self, requests: Vec<Outgoing>) -> wasmtime::Result<Vec<Result<types::Reply, Error>>> {
        self.call_apis(requests).await
    }
}

impl Host {
    async fn call_apis(&mut self, requests: Vec<Outgoing>) -> wasmtime::Result<Vec<Result<types::Reply, Error>>> {
        for request in &requests {
            self.charge(bytes_of(request))?;
        }
        let identity = self.identity()?.clone();
        let left = u32::try_from(requests.len()).ok().and_then(|calls| self.api_calls_left.checked_sub(calls));
        let Some(left) = left else {
            Telling::new(&identity, None).tell(Refused::Calls);
            return Err(HostLimit("more calls to APIs than `api_calls_max`").into());
        };
        self.api_calls_left = left;
        let calls = requests.into_iter().map(|request| self.prepared(&identity, request));
        let calls = join_all(calls.map(Prepared::made).collect::<Vec<_>>());
        let answers = calls.await;
        let mut told = Vec::with_capacity(answers.len());
        for answer in answers {
            if let Ok(reply) = &answer {
                self.owe(u64::try_from(bytes_of_answer(reply)).unwrap_or(u64::MAX));
            }
            told.push(answer.map(types::Reply::from).map_err(Error::from));
        }
        Ok(told)
    }

    /// Looks at a call and makes it what is handed over.
    fn prepared(&self, identity: &Arc<Identity>, request: Outgoing) -> Prepared {
        let limits = &self.limits;
        let until = Instant::now()
            + request.timeout_ms.map_or(limits.api_time_max, Duration::from_millis).min(limits.api_time_max);
        let telling = Telling::new(identity, Some(escaped(&request.api_id, ID_BYTES_MAX).into_owned()));
        let checked = (|| {
            let cause = self.cause.clone().ok_or(Refused::Hook)?;
            let loopback = self.loopback.clone().ok_or(Refused::Hook)?;
            let gate = identity.api_gate.clone().ok_or(Refused::NotAllowed)?;
            if !gate.allow.iter().any(|id| id.as_str() == request.api_id) {
                return Err(Refused::NotAllowed);
            }
            if u64::try_from(request.body.len()).is_ok_and(|bytes| bytes > limits.api_request_bytes_max) {
                return Err(Refused::RequestBytes);
            }
            let lift = Lift { limits, grants: &[], upstream: &[], apis: &[] };
            let request = lift.api_request(request).map_err(|Invalid(reason)| Refused::Invalid(reason))?;
            let (call, answer) = ApiCall::new(request, cause, limits.api_response_bytes_max);
            Ok(Way { gate, loopback, call, answer })
        })();
        Prepared { checked, until, telling }
    }
}

/// A call that was looked at.
struct Prepared {
    checked: Result<Way, Refused>,
    until: Instant,
    telling: Telling,
}

/// What it takes to make it.
struct Way {
    gate: Arc<ApiGate>,
    loopback: Loopback,
    call: ApiCall,
    answer: loopback::Answer,
}

impl Prepared {
    /// Makes the call. Dropped, it ends the call.
    async fn made(self) -> Result<Reply, Refused> {
        let Self { checked, until, mut telling } = self;
        let made = async {
            let Way { gate, loopback, call, answer } = checked?;
            let answered = timeout_at(until.into(), async {
                loopback.send(call.in_place(gate.place().await?))?;
                Ok(answer.await.unwrap_or(Err(Unanswered::BrokenOff))?)
            });
            answered.await.unwrap_or(Err(Refused::Time))
        };
        let made = made.await;
        telling.outcome = made.as_ref().map_or_else(Refused::as_str, |_| "ok");
        made
    }
}

/// Why a call was not made, or has no answer.
#[derive(Debug)]
enum Refused {
    /// There are no calls in `describe`, `init` and `analytics`.
    Hook,
    /// More calls than the call of the plugin may make.
    Calls,
    /// The API is not listed.
    NotAllowed,
    /// What is wrong with the request.
    Invalid(String),
    /// The request's body is too long.
    RequestBytes,
    /// As many calls as may be are on their way.
    Busy,
    /// It took too long.
    Time,
    /// The core has no answer.
    Unanswered(Unanswered),
}

impl Refused {
    /// The label of the metric.
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Calls => "calls",
            Self::NotAllowed => "not_allowed",
            Self::Invalid(_) => "invalid",
            Self::RequestBytes => "request_bytes",
            Self::Busy => "busy",
            Self::Time => "time",
            Self::Unanswered(Unanswered::NotFound) => "not_found",
            Self::Unanswered(Unanswered::TooDeep) => "too_deep",
            Self::Unanswered(Unanswered::TooLarge) => "response_bytes",
            Self::Unanswered(Unanswered::BrokenOff) => "broken_off",
        }
    }
}

impl From<Unanswered> for Refused {
    fn from(why: Unanswered) -> Self {
        Self::Unanswered(why)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Hook | Refused::NotAllowed => Self::Denied,
            Refused::Invalid(reason) => Self::Invalid(reason),
            Refused::RequestBytes | Refused::Unanswered(Unanswered::TooLarge) => Self::TooLarge,
            // The number of calls ends the call of the plugin itself.
            Refused::Busy | Refused::Calls => Self::Busy,
            Refused::Time => Self::Timeout,
            Refused::Unanswered(Unanswered::NotFound) => Self::NotFound,
            Refused::Unanswered(Unanswered::TooDeep) => Self::TooDeep,
            Refused::Unanswered(Unanswered::BrokenOff) => Self::BrokenOff,
        }
    }
}

impl From<Reply> for types::Reply {
    fn from(reply: Reply) -> Self {
        let headers = reply.headers.iter();
        Self {
            status: reply.status.as_u16(),
            headers: headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect(),
            body: reply.body.into(),
        }
    }
}

/// Tells once what became of a call, whatever ends it.
struct Telling {
    identity: Arc<Identity>,
    /// The API that it named, as it may be shown.
    to: Option<String>,
    begun: Instant,
    outcome: &'static str,
}

impl Telling {
    /// Until something else is told, the call counts as given up.
    fn new(identity: &Arc<Identity>, to: Option<String>) -> Self {
        Self { identity: identity.clone(), to, begun: Instant::now(), outcome: "aborted" }
    }

    fn tell(mut self, refused: Refused) {
        self.outcome = refused.as_str();
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let time = self.begun.elapsed();
        self.identity.api_calls.ended(self.outcome, time);
        tracing::debug!(
            target: "stile::outgoing", api = %self.identity.api, plugin = %self.identity.plugin,
            to = self.to.as_deref().unwrap_or("-"), outcome = self.outcome,
            time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX), "call of a plugin to an API"
        );
    }
}

fn bytes_of(request: &Outgoing) -> usize {
    let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    request.api_id.len() + request.path.len() + request.body.len() + headers
}

fn bytes_of_answer(reply: &Reply) -> usize {
    let headers: usize = reply.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    reply.body.len() + headers
}

/// As long as ids are.
const ID_BYTES_MAX: usize = 128;
