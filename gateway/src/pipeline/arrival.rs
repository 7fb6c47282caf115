//! How a request comes to its API: from a caller's connection, by host and path, or from another request, by the API's id.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HOST, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::analytics::Recording;
use super::apis::Apis;
use super::content::Content;
use super::exchange::{Core, Exchange, Lineage, RequestId, Upload};
use super::finish;
use super::plan::{Plan, Routed};
use super::reject::{ErrorFormat, Reject};
use crate::message::body::Body;
use crate::message::hop;
use crate::model::path;
use crate::net::client::Peer;
use crate::plugin::verdict::Vars;
use crate::telemetry::log;

/// A request at its API's door.
pub(super) struct Arrival {
    pub(super) begun: Instant,
    pub(super) id: RequestId,
    pub(super) lineage: Lineage,
    /// The connection that it came on, or that the request came on which it comes from.
    pub(super) peer: Rc<Peer>,
    pub(super) client: IpAddr,
    pub(super) is_https: bool,
    /// The host that the caller addressed, in lower case, without port.
    pub(super) host: String,
    /// The same with its port.
    pub(super) authority: Option<HeaderValue>,
    /// Without fields of the connection.
    pub(super) parts: Parts,
    /// As the upstream will be asked for it.
    pub(super) path: String,
    pub(super) body: Body,
    pub(super) upgrade: Option<OnUpgrade>,
}

/// A request that reached no API.
pub struct Unrouted {
    reject: Reject,
    method: Method,
    path: String,
    headers: HeaderMap,
    peer: Rc<Peer>,
    version: Version,
    upload: Upload,
}

impl Unrouted {
    /// The answer, with its line in the log.
    pub fn respond(self, core: &Core) -> Response<Body> {
        let mut response = self.reject.respond(ErrorFormat::of(&self.headers));
        finish::say_close(self.version, self.upload, response.headers_mut());
        let status = response.status().as_u16();
        core.metrics.unrouted(status, self.reject.reason());
        if log::wants(core.access, status) {
            log::access(&log::AccessLine {
                api: "",
                request_id: "",
                parent: None,
                client: self.peer.address.ip(),
                method: self.method.as_str(),
                path: &self.path,
                protocol: self.version,
                status,
                bytes: 0,
                time: Duration::ZERO,
                upstream: Duration::ZERO,
            });
        }
        response
    }
}

impl Exchange {
    /// Finds the API of a caller's request and makes it ready for the plan.
    #[expect(clippy::result_large_err, reason = "made once for a request that ends with it")]
    pub fn begin(
        core: &Rc<Core>,
        apis: &Apis,
        request: Request<Incoming>,
        peer: Rc<Peer>,
    ) -> Result<(Box<Self>, Arc<Plan>), Unrouted> {
        let begun = Instant::now();
        let (mut parts, body) = request.into_parts();
        let host = without_port(peer.host(&parts.uri, &parts.headers).unwrap_or("")).to_ascii_lowercase();
        let authority = match parts.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => parts.headers.get(HOST).cloned(),
        };
        let found =
            path::canonical(parts.uri.path()).map_err(Reject::from).and_then(|path| match apis.find(&host, &path) {
                Some((Routed::Plan(plan), rest)) => {
                    let rest = if plan.api.listen.strip { rest.to_owned() } else { path.clone().into_owned() };
                    Ok((plan.clone(), rest))
                }
                Some((Routed::Unavailable, _)) => Err(Reject::Unavailable),
                None => Err(Reject::NotFound),
            });
        let (plan, path) = match found {
            Ok(found) => found,
            Err(reject) => {
                let path = parts.uri.path().to_owned();
                let (method, headers, version) = (parts.method, parts.headers, parts.version);
                let upload = if body.is_end_stream() { Upload::Whole } else { Upload::Left(body.size_hint().exact()) };
                return Err(Unrouted { reject, method, path, headers, peer, version, upload });
            }
        };
        let id = match parts.headers.get("x-request-id") {
            Some(given) if peer.trusted && is_id(given) => RequestId::given(given.clone()),
            _ => core.ids.next(),
        };
        let upgrade = if is_websocket(&parts.headers) && hop::upgrade_requested(&parts.headers, parts.version) {
            hop::strip_but_upgrade(&mut parts.headers);
            parts.extensions.remove::<OnUpgrade>()
        } else {
            // Now, not after the plugins: what the caller names in `Connection` must not take away what they set.
            hop::strip(&mut parts.headers);
            None
        };
        if parts.version == Version::HTTP_2 {
            hop::join_cookies(&mut parts.headers);
        }
        let client = core.trusted.client(&peer, &parts.headers);
        let is_https = peer.scheme(&parts.headers) == "https";
        let (body, lineage) = (Body::Incoming(body), Lineage::default());
        let arrival =
            Arrival { begun, id, lineage, peer, client, is_https, host, authority, parts, path, body, upgrade };
        Ok((arrival.enter(core, &plan), plan))
    }
}

impl Arrival {
    /// Makes it ready for the plan of its API.
    pub(super) fn enter(self, core: &Rc<Core>, plan: &Arc<Plan>) -> Box<Exchange> {
        let Self { begun, id, lineage, peer, client, is_https, host, authority, parts, path, body, upgrade } = self;
        let bytes_in = Rc::new(Cell::new(0));
        let recording = Recording::begin(plan, &parts.headers);
        let upload = Rc::new(Cell::new(Upload::Whole));
        let body = if body.is_end_stream() {
            Body::Empty
        } else {
            upload.set(Upload::Left(body.size_hint().exact()));
            finish::incoming(body, plan, begun, &bytes_in, &upload, recording.as_deref())
        };
        plan.metrics.begin();
        core.in_flight.set(core.in_flight.get().saturating_add(1));
        Box::new(Exchange {
            client,
            is_https,
            host,
            authority,
            id,
            lineage,
            begun,
            time_ms: core.clock.now_ms(),
            version: parts.version,
            original_method: parts.method.clone(),
            method: parts.method,
            api_version: None,
            path,
            query: parts.uri.query().map(str::to_owned),
            original_uri: parts.uri,
            error_format: ErrorFormat::of(&parts.headers),
            headers: parts.headers,
            content: Content::streamed(body),
            upgrade,
            caller: None,
            is_moved: false,
            told: None,
            credential: None,
            vars: Vars::new(),
            target: None,
            upstream_time: Duration::ZERO,
            recording,
            bytes_in,
            upload,
            is_told: false,
            core: core.clone(),
            plan: plan.clone(),
            peer,
        })
    }
}

/// A host without its port; an IPv6 address keeps its brackets.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') && (!host.contains(':') || host.ends_with(']')) => host,
        _ => authority,
    }
}

/// The one protocol that is passed on: with others, such as `h2c`, requests would follow that no hook sees.
fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn is_id(value: &HeaderValue) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    !value.is_empty() && value.len() <= REQUEST_ID_BYTES_MAX && value.as_bytes().iter().copied().all(is_plain)
}

const REQUEST_ID_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    // limit: pipeline::arrival::REQUEST_ID_BYTES_MAX
    #[test]
    fn an_id_of_a_proxy_has_so_many_bytes() {
        let is_id = |text: &str| super::is_id(&HeaderValue::from_str(text).expect("a value"));
        assert!(is_id(&"a".repeat(REQUEST_ID_BYTES_MAX)));
        assert!(!is_id(&"a".repeat(REQUEST_ID_BYTES_MAX + 1)));
        assert!(!is_id(""));
        assert!(!is_id("a b"));
    }
}
