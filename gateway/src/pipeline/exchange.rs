//! One request on its way: what it is now, what plugins made of it, and what has to be told at its end.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use hyper::upgrade::OnUpgrade;

use super::analytics::{Recorder, Recording};
use super::apis::Apis;
use super::caller::Caller;
use super::content::Content;
use super::limits::Told;
use super::plan::{HookStep, Plan};
use super::reject::{ErrorFormat, Reject};
use super::standing::Standings;
use super::version::ServedVersion;
use crate::clock::Clock;
use crate::message::body::{Body, BodyError};
use crate::model::gateway::AccessLog;
use crate::model::store::Away;
use crate::net::client::{Peer, TrustedProxies};
use crate::plugin::failure::Fault;
use crate::plugin::pool::Worker;
use crate::plugin::verdict::{Facts, Made, RequestView, UpstreamOverride, Vars};
use crate::store::{SessionCache, Store};
use crate::telemetry::flood::Flood;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Upstreams;

/// What the requests of one worker share.
pub struct Core {
    /// The worker's number and slow lane.
    pub worker: Worker,
    /// Its connections to upstreams.
    pub upstreams: Upstreams,
    /// Where its analytics records go.
    pub recorder: Recorder,
    /// Whose forwarded addresses are believed.
    pub trusted: Arc<TrustedProxies>,
    /// Which requests get a line in the log.
    pub access: AccessLog,
    /// The time.
    pub clock: Clock,
    /// Counts requests that reach no API.
    pub metrics: Metrics,
    /// What is counted of sessions, and what is written.
    pub store: Store,
    /// Sessions, as they are read.
    pub sessions: SessionCache,
    /// What callers may do, as far as this core has made it ready.
    pub standings: Standings,
    /// What happens to requests with limits while the store is away.
    pub away: Away,
    /// The APIs of this moment.
    pub apis: Box<dyn Fn() -> Arc<Apis>>,
    /// How deep requests may come from requests.
    pub api_depth_max: u32,
    /// Requests on this core that have an API and no end yet.
    pub in_flight: Cell<u32>,
    /// Makes request ids: a part drawn at start, and a count.
    pub ids: RequestIds,
}

/// Makes ids that no other worker or gateway makes.
#[derive(Debug)]
pub struct RequestIds {
    prefix: [u8; 16],
    count: Cell<u64>,
}

/// The name of a request: thirty-two hexadecimal digits, or what a trusted proxy named it.
#[derive(Debug, Clone)]
pub struct RequestId(Id);

#[derive(Debug, Clone)]
enum Id {
    Made([u8; 32]),
    Given(HeaderValue),
}

impl RequestIds {
    /// Begins with a number drawn at random.
    pub fn new(prefix: u64) -> Self {
        Self { prefix: hexadecimal(prefix), count: Cell::new(0) }
    }

    pub(super) fn next(&self) -> RequestId {
        self.count.set(self.count.get().wrapping_add(1));
        let mut digits = [0; 32];
        let (prefix, count) = digits.split_at_mut(16);
        prefix.copy_from_slice(&self.prefix);
        count.copy_from_slice(&hexadecimal(self.count.get()));
        RequestId(Id::Made(digits))
    }
}

/// Sixteen digits, all eight bytes at once.
fn hexadecimal(number: u64) -> [u8; 16] {
    const ONES: u128 = 0x0101_0101_0101_0101_0101_0101_0101_0101;
    // One half-byte to each byte.
    let mut wide = u128::from(number);
    wide = (wide | (wide << 32)) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    wide = (wide | (wide << 16)) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    wide = (wide | (wide << 8)) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    wide = (wide | (wide << 4)) & (ONES * 0x0f);
    // Those above nine are letters: `a` is 39 beyond what follows `9`.
    let letters = ((wide + ONES * 6) >> 4) & ONES;
    (wide + ONES * u128::from(b'0') + letters * 39).to_be_bytes()
}

impl RequestId {
    /// What a trusted proxy named a request.
    pub(super) const fn given(value: HeaderValue) -> Self {
        Self(Id::Given(value))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Id::Made(digits) => std::str::from_utf8(digits).unwrap_or(""),
            Id::Given(value) => value.to_str().unwrap_or(""),
        }
    }

    /// As a header value.
    pub fn to_value(&self) -> HeaderValue {
        match &self.0 {
            Id::Made(digits) => HeaderValue::from_bytes(digits).unwrap_or_else(|_| HeaderValue::from_static("")),
            Id::Given(value) => value.clone(),
        }
    }
}

/// How much of the caller's body has not come yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upload {
    /// Nothing: all has come.
    Whole,
    /// So many bytes, where that is known.
    Left(Option<u64>),
    /// Some, and they were asked for: it is the caller who lets the gateway wait.
    Awaited,
}

/// The requests that a request comes from: none for a caller's own.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// How many there are.
    pub depth: u32,
    /// The id of the last one.
    pub parent: Option<Rc<str>>,
}

/// Whether a step ends the way in.
pub enum Flow {
    /// The next step.
    Next,
    /// This is the answer.
    Reply(Box<Answer>),
}

/// An answer on its way out.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// The body.
    pub content: Content,
    /// Who made it.
    pub made: Made,
    /// The upstream's side of an upgraded connection.
    pub upgrade: Option<OnUpgrade>,
}

impl Answer {
    /// Whether the connection has become a tunnel, here or by an API that the request was sent on to.
    pub fn is_upgraded(&self) -> bool {
        self.status.is_informational()
    }
}

/// One request on its way.
pub struct Exchange {
    pub(super) core: Rc<Core>,
    pub(super) plan: Arc<Plan>,
    pub(super) peer: Rc<Peer>,
    pub(super) client: IpAddr,
    pub(super) is_https: bool,
    /// The host that the caller addressed, in lower case, without port.
    pub(super) host: String,
    /// The same as it stood in the request, with its port.
    pub(super) authority: Option<HeaderValue>,
    pub(super) id: RequestId,
    pub(super) begun: Instant,
    pub(super) time_ms: u64,
    pub(super) version: Version,
    pub(super) method: Method,
    /// As the caller sent it, whatever plugins made of it.
    pub(super) original_method: Method,
    /// As the caller sent it.
    pub(super) original_uri: Uri,
    /// Which version of the API it has, once that is known.
    pub(super) api_version: Option<Arc<ServedVersion>>,
    /// As the upstream will be asked for it, before its base path and without the version.
    pub(super) path: String,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
    pub(super) upgrade: Option<OnUpgrade>,
    /// Who calls, once that is known.
    pub(super) caller: Option<Box<Caller>>,
    /// Whether a plugin changed method or path since rights were looked at.
    pub(super) is_moved: bool,
    /// What is left of rates and quota, for the answer.
    pub(super) told: Option<Box<Told>>,
    /// The caller's credential, for the record.
    pub(super) credential: Option<Vec<u8>>,
    pub(super) vars: Vars,
    /// Where it goes instead of the API's upstream.
    pub(super) target: Option<UpstreamOverride>,
    /// The requests that it comes from.
    pub(super) lineage: Lineage,
    pub(super) upstream_time: Duration,
    pub(super) recording: Option<Box<Recording>>,
    pub(super) bytes_in: Rc<Cell<u64>>,
    /// What is left of the caller's body.
    pub(super) upload: Rc<Cell<Upload>>,
    pub(super) error_format: ErrorFormat,
    /// Whether its end has been told.
    pub(super) is_told: bool,
}

impl Exchange {
    /// What a function is told of the request, and the request as it sees it.
    pub fn seen_by<'a>(&'a self, step: &HookStep) -> (Facts<'a>, RequestView<'a>) {
        let reads = &step.function.function.reads;
        let facts = Facts {
            time_ms: self.time_ms,
            is_https: self.is_https,
            client: self.client,
            request_id: self.id.as_str(),
            api_version: self.version_name(),
            endpoint: if reads.context.endpoint { self.endpoint() } else { None },
            host: &self.host,
            vars: &self.vars,
            local: self.peer.local,
            depth: self.lineage.depth,
        };
        let view = RequestView {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            body: if reads.body_bytes_max.is_some() { self.content.known() } else { None },
        };
        (facts, view)
    }

    /// The first endpoint of the definition that matches the request as it is now: operation id and template.
    pub fn endpoint(&self) -> Option<(&str, &str)> {
        let path = self.path_below_listen_path();
        let matches = |endpoint: &&crate::model::api::EndpointUse| {
            endpoint.method.as_ref().is_none_or(|method| *method == self.method)
                && endpoint.path.matches(path).is_some()
        };
        let endpoint = self.plan.api.hooks.endpoint.iter().find(matches)?;
        Some((endpoint.operation_id.as_str(), endpoint.path.as_str()))
    }

    /// What endpoint templates are matched against.
    pub fn path_below_listen_path(&self) -> &str {
        let listen = &self.plan.api.listen;
        if listen.strip { &self.path } else { listen.path.strip(&self.path).unwrap_or(&self.path) }
    }

    /// Refuses a body that says it is larger than this; one that does not say is counted as it comes.
    pub fn check_size(&self, bytes_max: u64) -> Result<Flow, Reject> {
        let declared = self.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if declared.is_some_and(|bytes| bytes > bytes_max) {
            return Err(Reject::RequestBody(BodyError::TooLarge { bytes_max }));
        }
        Ok(Flow::Next)
    }

    /// When the whole request has to be over.
    pub fn deadline(&self) -> Instant {
        self.begun + self.plan.api.request_timeout
    }

    /// The answer to a refusal; its cause goes to the log.
    pub fn refuse(&self, reject: &Reject) -> Answer {
        self.plan.metrics.refused(reject.reason());
        match reject {
            // A line for each would be a flood; the quarantine itself has one.
            Reject::Plugin { source, .. } if source.fault == Fault::Quarantine => {
                tracing::debug!(
                    api = %self.plan.api.id, request_id = self.id.as_str(), reason = %reject, "request refused"
                );
            }
            Reject::Plugin { plugin, hook, source } => {
                tracing::warn!(
                    api = %self.plan.api.id, request_id = self.id.as_str(), %plugin, %hook, kind = source.kind.as_str(),
                    reason = %source.reason, "plugin failed"
                );
            }
            Reject::Store(error) => {
                if let Some(requests) = STORE.begin(self.core.clock.now_ms()) {
                    tracing::warn!(
                        api = %self.plan.api.id, request_id = self.id.as_str(), requests, reason = %error,
                        "requests are refused: the store gives no answer"
                    );
                }
            }
            _ => match self.plan.warnings.of(reject) {
                Some(flood) => {
                    if let Some(requests) = flood.begin(self.core.clock.now_ms()) {
                        tracing::warn!(
                            api = %self.plan.api.id, request_id = self.id.as_str(), requests, reason = %reject,
                            "requests failed"
                        );
                    }
                }
                None => tracing::debug!(
                    api = %self.plan.api.id, request_id = self.id.as_str(), reason = %reject, "request refused"
                ),
            },
        }
        let (parts, body) = reject.respond(self.error_format).into_parts();
        let content = match body {
            Body::Full(bytes) => Content::made(bytes),
            body => Content::streamed(body),
        };
        Answer { status: parts.status, headers: parts.headers, content, made: Made::Gateway, upgrade: None }
    }
}

impl Core {
    /// The store answered.
    pub fn store_answered(&self) {
        if let Some(untold) = STORE.end(|| self.clock.now_ms()) {
            tracing::info!(untold, "the store answers again");
        }
    }
}

static STORE: Flood = Flood::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_thirty_two_hexadecimal_digits_that_count() {
        for number in [0, 1, 9, 10, 15, 16, 0x0123_4567_89ab_cdef, 0xf0e1_d2c3_b4a5_9687, u64::MAX] {
            assert_eq!(std::str::from_utf8(&hexadecimal(number)), Ok(&*format!("{number:016x}")));
        }
        let ids = RequestIds::new(0xab);
        assert_eq!(ids.next().as_str(), "00000000000000ab0000000000000001");
        assert_eq!(ids.next().as_str(), "00000000000000ab0000000000000002");
    }
}
