//! Who calls: the address, scheme and host that are believed, and what the upstream is told about them.
//!
//! `X-Forwarded-*` is believed from trusted proxies only.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::Uri;
use ipnet::IpNet;

/// One connection's two ends. Made once per connection; a request only borrows it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The other end.
    pub address: SocketAddr,
    /// The other end's IP address as it stands in a header.
    pub address_header: HeaderValue,
    /// Our end.
    pub local: SocketAddr,
    /// Our end's port as it stands in a header.
    pub local_port_header: HeaderValue,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Whether the other end is a proxy whose `X-Forwarded-*` are believed.
    pub trusted: bool,
}

/// The proxies whose `X-Forwarded-*` are believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Takes the networks of the proxies.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether an address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the caller behind all trusted proxies.
    ///
    /// `X-Forwarded-For` is walked from the right as long as the hop that wrote an entry is trusted. An entry that is no
    /// address ends the walk at the hop that wrote it.
    pub fn client(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.address.ip();
        if !peer.trusted {
            return client;
        }
        let lines = headers.get_all(X_FORWARDED_FOR).iter();
        for line in lines.rev() {
            for entry in line.as_bytes().rsplit(|b| *b == b',') {
                let Some(hop) = address(entry) else { return client };
                client = hop;
                if !self.contains(hop) {
                    return client;
                }
            }
        }
        client
    }
}

impl Peer {
    /// Describes a connection.
    pub fn new(address: SocketAddr, local: SocketAddr, tls: bool, proxies: &TrustedProxies) -> Self {
        // A socket that listens on `[::]` shows IPv4 callers as `::ffff:1.2.3.4`.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        // The text of an address is always a header value; an empty one would only say "unknown".
        let address_header =
            HeaderValue::try_from(address.ip().to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let trusted = proxies.contains(address.ip());
        Self { address, address_header, local, local_port_header: HeaderValue::from(local.port()), tls, trusted }
    }

    /// A caller that is known by what was found out of it, and that nothing more is believed of.
    pub fn of_client(client: IpAddr, local: SocketAddr, tls: bool) -> Self {
        Self::new(SocketAddr::new(client, 0), local, tls, &TrustedProxies::default())
    }

    /// `http` or `https`, as the caller used it.
    pub fn scheme(&self, headers: &HeaderMap) -> &'static str {
        self.told_scheme(headers).unwrap_or(if self.tls { "https" } else { "http" })
    }

    /// The host, with its port if there is one, as the caller used it.
    pub fn host<'r>(&self, uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
        self.told_host(headers).and_then(|host| host.to_str().ok()).or_else(|| host(uri, headers))
    }

    /// Writes what the upstream is told about the caller into the headers of the request to it.
    ///
    /// `host` is the one that the caller asked for. From a peer that is not trusted, nothing it said of itself is kept.
    pub fn tell_upstream(&self, host: Option<HeaderValue>, headers: &mut HeaderMap) {
        if !self.trusted {
            headers.remove(FORWARDED);
            headers.remove(X_REAL_IP);
        }
        let chain = match self.trusted {
            true => joined(headers, &self.address_header),
            false => None,
        };
        headers.insert(X_FORWARDED_FOR, chain.unwrap_or_else(|| self.address_header.clone()));
        if self.told_scheme(headers).is_none() {
            headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if self.tls { "https" } else { "http" }));
        }
        if self.told_host(headers).is_none() {
            match host {
                Some(host) => headers.insert(X_FORWARDED_HOST, host),
                None => headers.remove(X_FORWARDED_HOST),
            };
        }
        if !self.trusted || !headers.contains_key(X_FORWARDED_PORT) {
            headers.insert(X_FORWARDED_PORT, self.local_port_header.clone());
        }
    }

    fn told_scheme(&self, headers: &HeaderMap) -> Option<&'static str> {
        if !self.trusted {
            return None;
        }
        let told = headers.get(X_FORWARDED_PROTO)?.as_bytes();
        ["http", "https"].into_iter().find(|scheme| told.eq_ignore_ascii_case(scheme.as_bytes()))
    }

    fn told_host<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        if !self.trusted {
            return None;
        }
        headers.get(X_FORWARDED_HOST).filter(|host| is_host(host.as_bytes()))
    }
}

/// The host that a request names, with its port if there is one: the URI's authority before the `Host` header, as RFC
/// 9112 (3.2.2) and RFC 9113 (8.3.1) want it.
pub fn host<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    match uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => headers.get(HOST)?.to_str().ok(),
    }
}

/// The whole chain on one line, since some upstreams read the first line only.
fn joined(headers: &HeaderMap, last: &HeaderValue) -> Option<HeaderValue> {
    let mut chain = Vec::with_capacity(64);
    for line in headers.get_all(X_FORWARDED_FOR) {
        chain.extend_from_slice(line.as_bytes());
        chain.extend_from_slice(b", ");
    }
    if chain.is_empty() {
        return None;
    }
    chain.extend_from_slice(last.as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(chain)).ok()
}

/// `1.2.3.4`, `1.2.3.4:5`, `::1`, `[::1]`, `[::1]:5`.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse().ok().map(|a: SocketAddr| a.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

pub(crate) fn is_host(text: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.iter().all(plain)
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> TrustedProxies {
        TrustedProxies::new(vec!["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")])
    }

    fn peer(address: &str) -> Peer {
        let address = SocketAddr::new(address.parse().expect("an address"), 5000);
        Peer::new(address, SocketAddr::from(([127, 0, 0, 1], 8443)), true, &proxies())
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[track_caller]
    fn check_client(from: &str, lines: &[&str], expected: &str) {
        let fields: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        assert_eq!(proxies().client(&peer(from), &headers(&fields)).to_string(), expected, "{from} {lines:?}");
    }

    #[test]
    fn the_client_is_the_first_hop_from_the_right_that_is_not_trusted() {
        check_client("192.0.2.1", &[], "192.0.2.1");
        check_client("192.0.2.1", &["198.51.100.1"], "192.0.2.1");
        check_client("10.0.0.1", &[], "10.0.0.1");
        check_client("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check_client("::ffff:10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1");
        check_client("10.0.0.1", &["203.0.113.9, 198.51.100.1 ,10.0.0.2"], "198.51.100.1");
        check_client("10.0.0.1", &["203.0.113.9", "198.51.100.1, 10.0.0.3", "10.0.0.2"], "198.51.100.1");
        check_client("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        check_client("fd00::1", &["[2001:db8::1]:4711"], "2001:db8::1");
        check_client("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1");
        check_client("10.0.0.1", &["2001:db8::1"], "2001:db8::1");
        check_client("10.0.0.1", &["198.51.100.1:80"], "198.51.100.1");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        check_client("10.0.0.1", &["unknown"], "10.0.0.1");
        check_client("10.0.0.1", &["198.51.100.1, unknown, 10.0.0.2"], "10.0.0.2");
        check_client("10.0.0.1", &["198.51.100.1,"], "10.0.0.1");
        check_client("10.0.0.1", &[""], "10.0.0.1");
        check_client("10.0.0.1", &["[198.51.100.1"], "10.0.0.1");
        check_client("10.0.0.1", &["198.51.100.1 10.0.0.2"], "10.0.0.1");
    }

    #[test]
    fn scheme_and_host_are_believed_from_trusted_peers_only() {
        let told = headers(&[("x-forwarded-proto", "HTTP"), ("x-forwarded-host", "public.test"), ("host", "x.test")]);
        let uri = Uri::from_static("/a");
        assert_eq!(peer("10.0.0.1").scheme(&told), "http");
        assert_eq!(peer("10.0.0.1").host(&uri, &told), Some("public.test"));
        assert_eq!(peer("192.0.2.1").scheme(&told), "https");
        assert_eq!(peer("192.0.2.1").host(&uri, &told), Some("x.test"));
        let odd = headers(&[("x-forwarded-proto", "ftp"), ("x-forwarded-host", "a, b"), ("host", "x.test")]);
        assert_eq!(peer("10.0.0.1").scheme(&odd), "https");
        assert_eq!(peer("10.0.0.1").host(&uri, &odd), Some("x.test"));
    }

    #[track_caller]
    fn check_told(from: &str, given: &[(&'static str, &str)], expected: &[(&'static str, &str)]) {
        let mut found = headers(given);
        peer(from).tell_upstream(Some(HeaderValue::from_static("x.test")), &mut found);
        let sorted = |headers: &HeaderMap| {
            let mut all: Vec<_> = headers.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        assert_eq!(sorted(&found), sorted(&headers(expected)));
    }

    #[test]
    fn nothing_that_an_unknown_peer_says_of_itself_reaches_the_upstream() {
        let given = [
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "198.51.100.2"),
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", "198.51.100.1"),
            ("forwarded", "for=198.51.100.1"),
        ];
        let expected = [
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-host", "x.test"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-proto", "https"),
        ];
        check_told("192.0.2.1", &given, &expected);
        check_told("192.0.2.1", &[], &expected);
    }

    #[test]
    fn what_a_trusted_peer_says_is_kept_and_the_peer_joins_the_chain() {
        let given = [
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-host", "public.test"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", "198.51.100.1"),
        ];
        let expected = [
            ("x-forwarded-for", "198.51.100.1, 10.0.0.2, 10.0.0.1"),
            ("x-forwarded-host", "public.test"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-proto", "http"),
            ("x-real-ip", "198.51.100.1"),
        ];
        check_told("10.0.0.1", &given, &expected);
    }
}
