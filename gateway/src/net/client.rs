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
        let told = headers.get(X_FORWARDED_PROTO).filter(|_| self.trusted)?.as_bytes();
        ["http", "https"].into_iter().find(|scheme| told.eq_ignore_ascii_case(scheme.as_bytes()))
    }

    fn told_host<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        headers.get(X_FORWARDED_HOST).filter(|host| self.trusted && is_host(host.as_bytes()))
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
