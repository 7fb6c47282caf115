//! One request after another to servers that have files of plugins: redirects, sizes, who is told a credential.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;

use super::{FetchError, Kind};
use crate::message::body::Body;
use crate::model::api::{Upstream, UpstreamProtocol, UpstreamTls};
use crate::model::gateway::FetchSettings;
use crate::model::outgoing::Reach;
use crate::model::source::Location;
use crate::upstream::{Shared, Target, Upstreams};

/// A way to servers. Lives inside a `LocalRuntime`.
pub(super) struct Client<'s> {
    settings: &'s FetchSettings,
    upstreams: Upstreams,
}

/// What is asked for.
pub(super) struct Wanted<'u> {
    pub(super) url: &'u Location,
    pub(super) headers: HeaderMap,
    pub(super) bytes_max: u64,
}

/// What came.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Reply {
    /// Only where the status says that this is it.
    pub(super) fn good(self) -> Result<Self, FetchError> {
        if self.status == StatusCode::OK { Ok(self) } else { Err(self.refused()) }
    }

    pub(super) fn refused(&self) -> FetchError {
        let kind = match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Denied,
            _ => Kind::Status,
        };
        FetchError::new(kind, format!("the server answers with status {}", self.status.as_u16()))
    }
}

impl<'s> Client<'s> {
    pub(super) fn new(settings: &'s FetchSettings, upstreams: Arc<Shared>) -> Self {
        Self { settings, upstreams: Upstreams::new(upstreams) }
    }

    /// Asks, and goes where the answer leads.
    pub(super) async fn get(&self, wanted: Wanted<'_>) -> Result<Reply, FetchError> {
        let Wanted { url, mut headers, bytes_max } = wanted;
        let mut url = url.clone();
        for _ in 0..=self.settings.redirects_max {
            let reply = self.ask(&url, headers.clone(), bytes_max).await?;
            let leads_on = matches!(reply.status.as_u16(), 301 | 302 | 303 | 307 | 308);
            let Some(next) = reply.headers.get(LOCATION).filter(|_| leads_on) else { return Ok(reply) };
            let next = next.to_str().ok().and_then(|next| next_location(&url, next));
            let next = next.ok_or_else(|| redirect("leads to where no plugin is fetched from"))?;
            if next.origin.tls != url.origin.tls {
                return Err(redirect("leads from one scheme to another"));
            }
            if next.origin != url.origin {
                headers.remove(AUTHORIZATION);
            }
            url = next;
        }
        Err(redirect("leads on more often than `fetch.redirects_max`"))
    }

    async fn ask(&self, url: &Location, mut headers: HeaderMap, bytes_max: u64) -> Result<Reply, FetchError> {
        let away = |error: &dyn std::error::Error| {
            let mut reason = format!("`{url}`: {error}");
            if let Some(source) = error.source() {
                reason.push_str(&format!(": {source}"));
            }
            FetchError::new(Kind::Away, reason)
        };
        let target = Target::new(&self.upstream(url)).map_err(|error| away(&error))?;
        // Nobody has plugins on a metadata service.
        let target = Arc::new(target.within(Reach::Private));
        let host = HeaderValue::try_from(url.origin.authority());
        headers.insert(HOST, host.map_err(|_| FetchError::invalid("its host is none"))?);
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = url.target.clone().into();
        *request.headers_mut() = headers;
        let response = self.upstreams.send(&target, request).await.map_err(|error| away(&error))?;
        let (parts, mut body) = response.into_parts();
        let too_large = || FetchError::new(Kind::Bytes, format!("it has more than {bytes_max} bytes"));
        if http_body::Body::size_hint(&body).lower() > bytes_max {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| away(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            bytes.extend_from_slice(data);
            if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
                return Err(too_large());
            }
        }
        Ok(Reply { status: parts.status, headers: parts.headers, body: bytes })
    }

    fn upstream(&self, url: &Location) -> Upstream {
        // The time of the whole ends it first.
        let longer = self.settings.time_max.saturating_mul(2);
        Upstream {
            origin: url.origin.clone(),
            base_path: String::new(),
            protocol: UpstreamProtocol::Auto,
            tls: UpstreamTls { ca_file: self.settings.ca_file.clone(), server_name: None },
            preserve_host: false,
            connect_timeout: longer,
            reply_timeout: longer,
            idle_timeout: longer,
            idle_connections_max: 0,
            idle_connection_timeout: longer,
            connections_max: 1,
        }
    }
}

fn redirect(reason: &str) -> FetchError {
    FetchError::new(Kind::Redirect, format!("the server's answer {reason}"))
}

/// A whole URL, or another path of the same server. Others are so rare that nobody should rely on them.
fn next_location(from: &Location, next: &str) -> Option<Location> {
    let is_path = next.starts_with('/') && !next.starts_with("//");
    if is_path { from.at(next) } else { Location::parse(next).ok() }
}
