//! What is looked at before a request leaves, and what is told of it afterwards.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::Error;

use super::{METHODS_REFUSED, is_forbidden};
use crate::model::api::{Origin, Upstream, UpstreamProtocol, UpstreamTls};
use crate::model::outgoing::{self, Destination, Site};
use crate::model::plugin::{Limits, PluginSpec};
use crate::plugin::host::Identity;
use crate::telemetry::text::escaped;
use crate::upstream::{Target, TargetError, UpstreamError};

/// The way out of one loaded version of a plugin, over all APIs and cores: its list, its connections, its limits.
#[derive(Debug)]
pub struct Gate {
    allow: Vec<Destination>,
    target: Target,
    concurrency: Arc<Semaphore>,
    limits: Arc<Limits>,
}

impl Gate {
    /// The way out that the definition describes. Reads certificate authorities where TLS may be spoken.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn new(spec: &PluginSpec, limits: Arc<Limits>) -> Result<Self, TargetError> {
        let count = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        let tls = spec.outgoing_http.allow.iter().any(Destination::tls);
        // Who sends keeps the time as a whole, of which each part may take all.
        let time = limits.outgoing_time_max;
        let target = Target::new(&Upstream {
            origin: Origin { tls, host: "".into(), port: 0 },
            base_path: String::new(),
            protocol: UpstreamProtocol::Auto,
            tls: UpstreamTls { ca_file: spec.outgoing_http.ca_file.clone(), server_name: None },
            preserve_host: false,
            connect_timeout: time,
            reply_timeout: time,
            idle_timeout: time,
            idle_connections_max: count(limits.outgoing_idle_connections_max),
            idle_connection_timeout: IDLE_TIMEOUT,
            // As many as there are requests, which are bounded below.
            connections_max: usize::MAX,
        })?;
        let concurrency = Arc::new(Semaphore::new(count(limits.outgoing_concurrency_max)));
        Ok(Self { allow: spec.outgoing_http.allow.clone(), target, concurrency, limits })
    }

    /// Where a request goes, if it may.
    pub(super) fn target(&self, uri: &Uri) -> Result<(Site, Arc<Target>), Refused> {
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(Refused::NotAllowed),
        };
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        let site = Site::parse(tls, authority).map_err(|_| Refused::Host)?;
        let reach = outgoing::reach(&self.allow, &site).ok_or(Refused::NotAllowed)?;
        let target = Arc::new(self.target.with_origin(site.origin()).within(reach));
        Ok((site, target))
    }

    /// A place among the requests of the plugin at one time, waited for a moment.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        if let Ok(permit) = Arc::clone(&self.concurrency).try_acquire_owned() {
            return Ok(permit);
        }
        let waited = tokio::time::timeout(self.limits.outgoing_wait, Arc::clone(&self.concurrency).acquire_owned());
        waited.await.ok().and_then(Result::ok).ok_or(Refused::Busy)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// No tunnels, and nothing that has a server repeat what it was sent.
pub(super) fn check_method(method: &Method) -> Result<(), Refused> {
    let is_refused = METHODS_REFUSED.iter().any(|refused| refused.as_str().eq_ignore_ascii_case(method.as_str()));
    if is_refused { Err(Refused::Method) } else { Ok(()) }
}

/// No field of the connection, and one length at most, which is returned.
pub(super) fn check_headers(headers: &HeaderMap) -> Result<Option<u64>, Refused> {
    if headers.keys().any(is_forbidden) {
        return Err(Refused::Field);
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let length = length.to_str().ok().filter(is_number).and_then(|text| text.parse().ok()).ok_or(Refused::Field)?;
    if lengths.next().is_some() { Err(Refused::Field) } else { Ok(Some(length)) }
}

/// Header fields are short enough.
pub(super) fn check_bytes(headers: &HeaderMap, limits: &Limits) -> Result<(), Refused> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let fits = u32::try_from(bytes).is_ok_and(|bytes| bytes <= limits.outgoing_header_bytes_max);
    if fits { Ok(()) } else { Err(Refused::HeaderBytes) }
}

/// Path and query in the request line, and the one spelling of the host.
pub(super) fn address(parts: &mut Parts, target: &Target) {
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    parts.uri = Uri::from(path);
    if let Ok(host) = HeaderValue::from_str(&target.origin().authority()) {
        parts.headers.insert(header::HOST, host);
    }
}

/// Why a request did not leave, or its answer did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plugin::host) enum Refused {
    /// There is no network in `describe`, `init` and `analytics`.
    Hook,
    /// More requests than the call may send.
    Calls,
    /// The host is spelled in a way that two programs could read differently.
    Host,
    /// The place is not listed.
    NotAllowed,
    /// The name has an address that may not be reached.
    Address,
    /// The method is refused.
    Method,
    /// A field of the connection, or an unclear length.
    Field,
    /// A secret may not go there.
    Secret,
    /// As many requests as may be are on their way.
    Busy,
    /// It took too long.
    Time,
    /// The request's body is too long.
    RequestBytes,
    /// The answer's body is too long.
    ResponseBytes,
    /// Header fields are too long.
    HeaderBytes,
    /// The request's body was broken off.
    RequestBroken,
    /// The name has no address.
    Resolve,
    /// Nobody accepts a connection.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The connection ended before the answer did.
    Closed,
    /// The other side broke the protocol.
    Protocol,
    /// The call ended before its answer.
    Aborted,
}

impl Refused {
    /// The label of the metric.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Calls => "calls",
            Self::Host => "host",
            Self::NotAllowed => "not_allowed",
            Self::Address => "address",
            Self::Method => "method",
            Self::Field => "field",
            Self::Secret => "secret",
            Self::Busy => "busy",
            Self::Time => "time",
            Self::RequestBytes => "request_bytes",
            Self::ResponseBytes => "response_bytes",
            Self::HeaderBytes => "header_bytes",
            Self::RequestBroken => "request_broken",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::Aborted => "aborted",
        }
    }
}

impl From<&UpstreamError> for Refused {
    fn from(error: &UpstreamError) -> Self {
        use crate::message::body::BodyError;
        match error {
            UpstreamError::Resolve { .. } => Self::Resolve,
            UpstreamError::Address { .. } => Self::Address,
            UpstreamError::Connect(_) => Self::Connect,
            UpstreamError::Tls(_) => Self::Tls,
            UpstreamError::Busy { .. } => Self::Busy,
            UpstreamError::ConnectTimeout | UpstreamError::ReplyTimeout => Self::Time,
            UpstreamError::Closed(_) => Self::Closed,
            UpstreamError::Protocol(_) => Self::Protocol,
            UpstreamError::RequestBody(BodyError::TooLarge { .. }) => Self::RequestBytes,
            UpstreamError::RequestBody(_) => Self::RequestBroken,
        }
    }
}

/// What the guest is told. Where an address may not be reached, it does not learn which one it is.
impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Hook | Refused::NotAllowed | Refused::Method | Refused::Field | Refused::Secret => {
                Self::HttpRequestDenied
            }
            Refused::Host => Self::HttpRequestUriInvalid,
            Refused::Address => Self::DestinationIpProhibited,
            Refused::Calls | Refused::Busy => Self::ConnectionLimitReached,
            Refused::Time => Self::HttpResponseTimeout,
            Refused::RequestBytes => Self::HttpRequestBodySize(None),
            Refused::ResponseBytes => Self::HttpResponseBodySize(None),
            Refused::HeaderBytes => Self::HttpResponseHeaderSectionSize(None),
            Refused::Resolve => Self::DnsError { rcode: None, info_code: None },
            Refused::Connect => Self::ConnectionRefused,
            Refused::Tls => Self::TlsProtocolError,
            Refused::Closed | Refused::Aborted | Refused::RequestBroken => Self::ConnectionTerminated,
            Refused::Protocol => Self::HttpProtocolError,
        }
    }
}

/// Tells once what became of a request, whatever ends it.
pub(super) struct Telling {
    identity: Arc<Identity>,
    /// Where it wanted to go, until it may.
    asked: Option<Uri>,
    host: Option<Arc<str>>,
    begun: Instant,
    outcome: Option<Refused>,
}

impl Telling {
    /// Until something else is told, the request counts as given up.
    pub(super) fn new(identity: &Arc<Identity>) -> Self {
        let (identity, begun) = (Arc::clone(identity), Instant::now());
        Self { identity, asked: None, host: None, begun, outcome: Some(Refused::Aborted) }
    }

    pub(super) fn asked(&mut self, uri: &Uri) {
        self.asked = Some(uri.clone());
    }

    pub(super) fn to(&mut self, host: &Arc<str>) {
        self.asked = None;
        self.host = Some(Arc::clone(host));
    }

    pub(super) fn tell(mut self, refused: Refused) {
        self.outcome = Some(refused);
    }

    pub(super) fn tell_ended(mut self, ended: Result<(), Refused>) {
        self.outcome = ended.err();
    }

    fn host(&self) -> Cow<'_, str> {
        let asked = || self.asked.as_ref().and_then(Uri::host).map(|host| escaped(host, PLACE_BYTES_MAX));
        self.host.as_deref().map(Cow::Borrowed).or_else(asked).unwrap_or(Cow::Borrowed("-"))
    }

    /// Of a request that may not go where it wants to: what a list would have to name.
    fn place(&self) -> Option<String> {
        let asked = self.asked.as_ref()?;
        let port = asked.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        let place = format!("{}://{}{port}", asked.scheme_str()?, asked.host()?);
        Some(escaped(&place, PLACE_BYTES_MAX).into_owned())
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let outcome = self.outcome.map_or("ok", Refused::as_str);
        let time = self.begun.elapsed();
        self.identity.outgoing.ended(outcome, time);
        // Of the place nothing more: users, paths and queries may hold what nobody should read.
        tracing::debug!(
            target: "stile::outgoing", api = %self.identity.api, plugin = %self.identity.plugin,
            host = &*self.host(), place = self.place().as_deref(), outcome,
            time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX), "request of a plugin"
        );
    }
}

/// More than any name of a host has, with scheme and port.
const PLACE_BYTES_MAX: usize = 280;
/// Below what servers commonly have.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn tunnels_and_echoes_are_no_methods() {
        for name in ["CONNECT", "connect", "Connect", "TRACE", "trace"] {
            assert_eq!(check_method(&Method::from_bytes(name.as_bytes()).unwrap()), Err(Refused::Method), "{name}");
        }
        assert_eq!(check_method(&Method::from_bytes(b"PROPFIND").unwrap()), Ok(()));
    }

    #[track_caller]
    fn check(headers: &[(&'static str, &'static str)], expected: Result<Option<u64>, Refused>) {
        let map: HeaderMap = (headers.iter())
            .map(|(name, value)| (header::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        assert_eq!(check_headers(&map), expected, "{headers:?}");
    }

    #[test]
    fn fields_of_the_connection_and_unclear_lengths_do_not_leave() {
        let fields = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "proxy-authenticate",
            "proxy-x",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "http2-settings",
            "host",
            "expect",
        ];
        for name in fields {
            check(&[(name, "x")], Err(Refused::Field));
        }
        check(&[("accept", "x"), ("content-length", "12")], Ok(Some(12)));
        check(&[("content-length", "+12")], Err(Refused::Field));
        check(&[("content-length", "")], Err(Refused::Field));
        check(&[("content-length", "1"), ("content-length", "1")], Err(Refused::Field));
        check(&[], Ok(None));
    }
}
