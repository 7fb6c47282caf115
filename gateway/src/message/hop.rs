//! Header fields that belong to one connection and must not pass a gateway (RFC 9110, section 7.6.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Whether a field belongs to the connection or its framing, so that a plugin may never set or remove it.
pub fn is_connection_field(name: &HeaderName) -> bool {
    is_hop_field(name.as_str())
        || matches!(name.as_str(), "host" | "content-length" | "expect" | "trailer" | "proxy-authenticate")
}

/// Removes what belongs to one connection: the known fields and those that `Connection` names.
///
/// `TE` stays where it says `trailers`, which is all that a gateway can promise. `Trailer` stays too: it only
/// announces fields that do pass, and an HTTP/1.1 writer sends no trailer that was not announced.
pub fn strip(headers: &mut HeaderMap) {
    // Most messages have none or only `Connection: keep-alive`: what is not there costs nothing.
    let present: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| is_hop_field(name.as_str())).cloned().collect();
    if present.contains(&header::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
    }
    // Chunked framing overrides a length, which must not travel on beside it (RFC 9112, section 6.3).
    if present.contains(&header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    let trailers = present.contains(&header::TE) && has_token(headers, &header::TE, "trailers");
    for name in present {
        headers.remove(name);
    }
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Like [`strip`], but leaves `Upgrade` with its `Connection: upgrade`: for a request that asks for another
/// protocol, and for the answer that agrees.
pub fn strip_but_upgrade(headers: &mut HeaderMap) {
    let upgrade: Vec<HeaderValue> = headers.get_all(header::UPGRADE).iter().cloned().collect();
    strip(headers);
    if upgrade.is_empty() {
        return;
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    for protocol in upgrade {
        headers.append(header::UPGRADE, protocol);
    }
}

/// Whether a request asks for another protocol on its connection, which only HTTP/1.1 has.
pub fn upgrade_requested(headers: &HeaderMap, version: http::Version) -> bool {
    version == http::Version::HTTP_11
        && headers.contains_key(header::UPGRADE)
        && has_token(headers, &header::CONNECTION, "upgrade")
}

fn is_hop_field(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authorization"
            | "http2-settings"
    )
}

/// The fields that `Connection` names and that may be taken away by being named there.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let is_option = |token: &&str| token.eq_ignore_ascii_case("keep-alive") || token.eq_ignore_ascii_case("close");
    tokens(headers, &header::CONNECTION)
        .filter(|token| !is_option(token))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| !is_hop_field(name.as_str()) && !is_end_to_end(name))
        .collect()
}

/// A caller could use `Connection: host` to take away what routing and framing rest on.
fn is_end_to_end(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "authorization"
            | "cookie"
            | "set-cookie"
            | "cache-control"
            | "trailer"
            | "forwarded"
            | "via"
    ) || name.as_str().starts_with("x-forwarded-")
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case(wanted)))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    (headers.get_all(name).iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// Makes one `Cookie` field of several: HTTP/2 may split it, and HTTP/1.1 and plugins get it whole (RFC 9113, section
/// 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<_> = headers.get_all(header::COOKIE).iter().map(http::HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = http::HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        (lines.iter()).map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    fn check(before: &[(&'static str, &'static str)], after: &[(&'static str, &'static str)]) {
        let mut map = headers(before);
        strip(&mut map);
        assert_eq!(map, headers(after));
    }

    #[test]
    fn fields_of_the_connection_are_removed() {
        check(&[("accept", "a")], &[("accept", "a")]);
        check(&[("connection", "keep-alive"), ("keep-alive", "timeout=5"), ("accept", "a")], &[("accept", "a")]);
        check(&[("connection", "close, X-Secret"), ("x-secret", "1"), ("x-other", "2")], &[("x-other", "2")]);
        check(&[("transfer-encoding", "chunked"), ("upgrade", "h2c"), ("http2-settings", "AA")], &[]);
        check(&[("proxy-connection", "x"), ("proxy-authorization", "y")], &[]);
    }

    #[test]
    fn te_is_kept_only_as_trailers() {
        check(&[("te", "gzip")], &[]);
        check(&[("te", "trailers, gzip;q=0.5"), ("connection", "te")], &[("te", "trailers")]);
    }

    #[test]
    fn length_beside_chunked_framing_does_not_pass() {
        check(&[("transfer-encoding", "chunked"), ("content-length", "3")], &[]);
    }

    #[test]
    fn connection_cannot_take_away_what_routing_rests_on() {
        let kept = [("host", "a"), ("content-length", "3"), ("x-forwarded-for", "::1"), ("authorization", "k")];
        let mut before = kept.to_vec();
        before.push(("connection", "host, content-length, X-Forwarded-For, authorization"));
        check(&before, &kept);
    }

    #[test]
    fn upgrade_needs_both_fields_and_http_11() {
        let asked = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert!(upgrade_requested(&asked, http::Version::HTTP_11));
        assert!(!upgrade_requested(&asked, http::Version::HTTP_2));
        assert!(!upgrade_requested(&headers(&[("upgrade", "websocket")]), http::Version::HTTP_11));
        let mut kept = asked;
        strip_but_upgrade(&mut kept);
        assert_eq!(kept, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn plugins_cannot_set_fields_of_the_connection() {
        for name in ["connection", "te", "upgrade", "transfer-encoding", "host", "content-length", "expect", "trailer"]
        {
            assert!(is_connection_field(&HeaderName::from_static(name)), "{name}");
        }
        assert!(is_connection_field(&header::PROXY_AUTHENTICATE));
        assert!(!is_connection_field(&header::COOKIE));
    }
}
