//! What RFC 9112 and RFC 9113 refuse and hyper lets through: requests that two servers could read in two ways.

use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Method, Request, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::net::client::is_host;

/// Why a request is refused before anybody handles it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: &'static str,
}

/// Checks a request that hyper parsed. Where the target names the host, the `Host` header is taken off, so that nobody
/// behind this can read another one from it.
pub(super) fn check(request: &mut Request<Incoming>, header_count_max: usize) -> Result<(), Refusal> {
    if request.headers().len() > header_count_max {
        return Err(Refusal {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            reason: "request has too many header fields\n",
        });
    }
    if request.method() == Method::CONNECT {
        return Err(Refusal { status: StatusCode::METHOD_NOT_ALLOWED, reason: "CONNECT is not offered\n" });
    }
    // Without a body there was no `Transfer-Encoding`: spares most requests the look-up.
    if !request.body().is_end_stream() {
        check_transfer_encoding(request)?;
    }
    check_target(request)?;
    check_host(request)
}

/// hyper takes any list that ends in `chunked`. A coding before it would be passed on undone, so it is refused.
fn check_transfer_encoding(request: &Request<Incoming>) -> Result<(), Refusal> {
    let mut lines = request.headers().get_all(TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(line), None) if line.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal {
            status: StatusCode::NOT_IMPLEMENTED,
            reason: "`chunked` is the only transfer coding that is understood\n",
        }),
    }
}

fn check_target(request: &Request<Incoming>) -> Result<(), Refusal> {
    let uri = request.uri();
    if uri.path() == "*" && request.method() != Method::OPTIONS {
        return Err(bad("`*` is a target of OPTIONS only\n"));
    }
    match (uri.scheme_str(), uri.authority()) {
        (None, None) => Ok(()),
        (None, Some(_)) if request.version() < Version::HTTP_2 => Err(bad("the target is no path\n")),
        (None | Some("http" | "https"), Some(authority)) => check_authority(authority),
        (Some("http" | "https"), None) => Ok(()),
        _ => Err(bad("the target's scheme is not http or https\n")),
    }
}

/// `user@` in front of a host is how a host is made to look like another one (RFC 9110, 4.2.4).
fn check_authority(authority: &Authority) -> Result<(), Refusal> {
    if is_host(authority.as_str().as_bytes()) { Ok(()) } else { Err(bad("the target's host is not valid\n")) }
}

fn check_host(request: &mut Request<Incoming>) -> Result<(), Refusal> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let named = request.uri().authority();
    match first {
        _ if second.is_some() => return Err(bad("`Host` occurs twice\n")),
        None if named.is_none() && request.version() > Version::HTTP_10 => return Err(bad("`Host` is missing\n")),
        None => return Ok(()),
        Some(host) if !host.is_empty() && !is_host(host.as_bytes()) => return Err(bad("`Host` is not valid\n")),
        Some(_) => {}
    }
    let Some(named) = named else { return Ok(()) };
    // RFC 9113, 8.3.1. HTTP/1 lets the target win instead (RFC 9112, 3.2.2).
    let differs = first.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(named.as_str().as_bytes()));
    if differs && request.version() == Version::HTTP_2 {
        return Err(bad("`Host` differs from `:authority`\n"));
    }
    request.headers_mut().remove(HOST);
    Ok(())
}

fn bad(reason: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, reason }
}
