//! The form that each protocol wants a request in.

use http::header::{self, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Request, Uri, Version};
use http_body::Body as _;

use super::error::UpstreamError;
use super::target::Target;
use crate::message::body::Body;
use crate::message::hop;

/// Path and query in the URI, and one `Cookie` field where HTTP/2 may split it (RFC 9113, section 8.2.3).
pub(super) fn h1(request: &mut Request<Body>) {
    if request.version() == Version::HTTP_2 {
        hop::join_cookies(request.headers_mut());
    }
    // Only a request that was prepared for HTTP/2 and is sent again has an authority here.
    if let Some(host) = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        request.headers_mut().insert(header::HOST, host);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    }
    *request.version_mut() = Version::HTTP_11;
    frame(request);
}

/// Says that a body of unknown length comes in chunks: with some methods hyper drops it otherwise (RFC 9110, section
/// 9.3.1, lets any request have one).
pub(super) fn frame(request: &mut Request<Body>) {
    let is_unknown = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    if is_unknown && !request.headers().contains_key(header::CONTENT_LENGTH) {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Scheme, authority and path in the URI, and no `Host`.
pub(super) fn h2(request: &mut Request<Body>, target: &Target) -> Result<(), UpstreamError> {
    let host = request.headers_mut().remove(header::HOST);
    // Only a request that was prepared for HTTP/1.1 and is sent again has it here.
    request.headers_mut().remove(header::TRANSFER_ENCODING);
    let named = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(target.scheme());
    parts.authority = named.or(parts.authority).or_else(|| target.authority.clone());
    parts.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| UpstreamError::Protocol(None))?;
    *request.version_mut() = Version::HTTP_2;
    Ok(())
}
