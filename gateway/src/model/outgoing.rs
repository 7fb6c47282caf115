//! Where a plugin may send requests: what an operator lists, and how the place that a guest names is read.
//!
//! A guest's text becomes a [`Site`] or nothing: one spelling for each place, so that a list compares places, not texts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;

use super::address::AddressKind;
use super::api::Origin;

/// What a plugin with the capability `outgoing-http` may reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutgoingHttp {
    /// Where it may send requests.
    pub allow: Vec<Destination>,
    /// A PEM file with certificate authorities; the system's roots where there is none.
    pub ca_file: Option<PathBuf>,
}

/// One entry of a list of places, such as `https://*.example.com`, `http://10.0.0.0/8:9000`, `https://*:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    tls: bool,
    host: HostPattern,
    /// `None` for any.
    port: Option<u16>,
    private: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    /// Any name; no address.
    Any,
    /// One label before this.
    Below(String),
    /// This name.
    Name(String),
    /// An address of this network, written as an address.
    Network(IpNet),
}

/// A place that a request is to go to, read once and for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    tls: bool,
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

/// Which of a site's addresses may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reach {
    /// Any: the operator wrote the target.
    #[default]
    Any,
    /// Those of the Internet.
    Public,
    /// Those of the Internet and of private networks.
    Private,
    /// Those of this network; special ones only where it is made of nothing else.
    Listed(IpNet),
}

/// Why a text is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SiteInvalid(&'static str);

impl Reach {
    /// Whether a connection may go to this address.
    pub fn admits(&self, address: IpAddr) -> bool {
        let kind = AddressKind::of(address);
        match self {
            Self::Any => true,
            Self::Public => kind == AddressKind::Public,
            Self::Private => kind <= AddressKind::Private,
            // Whoever lists a wide network does not think of the metadata service within.
            Self::Listed(network) => network.contains(&address) && kind <= AddressKind::Private.max(kind_of(network)),
        }
    }
}

/// The kind that all addresses of a network have, as far as its ends tell; otherwise as if they were public.
fn kind_of(network: &IpNet) -> AddressKind {
    let (first, last) = (AddressKind::of(network.network()), AddressKind::of(network.broadcast()));
    if first == last && first != AddressKind::Never { first } else { AddressKind::Public }
}

/// How far a request to this place may reach with such a list; `None` where the place is not listed.
pub fn reach(allow: &[Destination], site: &Site) -> Option<Reach> {
    let entries = || allow.iter().filter(|entry| entry.admits(site));
    entries().find(|entry| entry.private).or_else(|| entries().next()).map(Destination::reach)
}

impl Destination {
    /// Reads an entry. `private` lets a name have addresses of private networks and of this machine.
    ///
    /// # Errors
    /// The text is not scheme and host with a port or without, or `private` is said of an address.
    pub fn parse(text: &str, private: bool) -> Result<Self, SiteInvalid> {
        let (tls, authority) = split_scheme(text)?;
        let (host, port) = match split_port(authority)? {
            (host, Some("*")) => (host, None),
            (host, port) => (host, Some(port_of(port, tls)?)),
        };
        let host = if host == "*" {
            HostPattern::Any
        } else if let Some(rest) = host.strip_prefix("*.") {
            HostPattern::Below(name(rest)?)
        } else if let Some((address, prefix)) = host.split_once('/') {
            let prefix = prefix.parse().ok().filter(|_| prefix.bytes().all(|b| b.is_ascii_digit()));
            let network = prefix.and_then(|prefix| IpNet::new(address_of(address)?, prefix).ok());
            HostPattern::Network(network.ok_or(SiteInvalid("it is not a network such as `10.0.0.0/8`"))?.trunc())
        } else {
            match Host::parse(host)? {
                Host::Name(name) => HostPattern::Name(name),
                Host::Address(address) => HostPattern::Network(address.into()),
            }
        };
        if private && matches!(host, HostPattern::Network(_)) {
            return Err(SiteInvalid("`private` is for names: an address that is listed may be reached"));
        }
        Ok(Self { tls, host, port, private })
    }

    /// Whether the entry lists this place.
    pub fn admits(&self, site: &Site) -> bool {
        let is_host = match (&self.host, &site.host) {
            (HostPattern::Any, Host::Name(_)) => true,
            (HostPattern::Below(parent), Host::Name(name)) => is_below(name, parent),
            (HostPattern::Name(listed), Host::Name(name)) => listed == name,
            (HostPattern::Network(network), Host::Address(address)) => network.contains(address),
            _ => false,
        };
        is_host && self.tls == site.tls && self.port.is_none_or(|port| port == site.port)
    }

    /// Whether everything that the other entry lists is listed by this one.
    pub fn covers(&self, other: &Self) -> bool {
        let has_host = match (&self.host, &other.host) {
            (HostPattern::Any, HostPattern::Any | HostPattern::Below(_) | HostPattern::Name(_)) => true,
            (HostPattern::Below(parent), HostPattern::Name(name)) => is_below(name, parent),
            (HostPattern::Network(network), HostPattern::Network(other)) => {
                network.contains(other)
                    && (kind_of(other) != AddressKind::Special || kind_of(network) == kind_of(other))
            }
            (ours, others) => ours == others,
        };
        let has_port = self.port.is_none_or(|port| other.port == Some(port));
        has_host && has_port && self.tls == other.tls && (self.private || !other.private)
    }

    fn reach(&self) -> Reach {
        match self.host {
            HostPattern::Network(network) => Reach::Listed(network),
            _ if self.private => Reach::Private,
            _ => Reach::Public,
        }
    }

    /// Whether TLS is spoken there.
    pub const fn tls(&self) -> bool {
        self.tls
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "https://" } else { "http://" })?;
        match &self.host {
            HostPattern::Any => f.write_str("*")?,
            HostPattern::Below(parent) => write!(f, "*.{parent}")?,
            HostPattern::Name(name) => f.write_str(name)?,
            HostPattern::Network(network) => {
                let is_single = network.prefix_len() == network.max_prefix_len();
                match (network.addr(), is_single) {
                    (IpAddr::V6(address), true) => write!(f, "[{address}]")?,
                    (address, true) => write!(f, "{address}")?,
                    (IpAddr::V6(address), false) => write!(f, "[{address}]/{}", network.prefix_len())?,
                    (address, false) => write!(f, "{address}/{}", network.prefix_len())?,
                }
            }
        }
        match self.port {
            None => f.write_str(":*"),
            Some(port) if port == default_port(self.tls) => Ok(()),
            Some(port) => write!(f, ":{port}"),
        }
    }
}

impl Site {
    /// Reads the authority of a URL, as a guest wrote it.
    ///
    /// # Errors
    /// It has a user, an odd spelling of an address, a character that no name has, or no valid port. Such a text might
    /// be one place here and another one for whoever resolves it.
    pub fn parse(tls: bool, authority: &str) -> Result<Self, SiteInvalid> {
        let (host, port) = split_port(authority)?;
        Ok(Self { tls, host: Host::parse(host)?, port: port_of(port, tls)? })
    }

    /// Reads scheme and authority.
    ///
    /// # Errors
    /// As [`Site::parse`], or there is more.
    pub fn of_origin(text: &str) -> Result<Self, SiteInvalid> {
        let (tls, authority) = split_scheme(text)?;
        Self::parse(tls, authority)
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> Origin {
        let host: Arc<str> = match &self.host {
            Host::Name(name) => name.as_str().into(),
            Host::Address(address) => address.to_string().into(),
        };
        Origin { tls: self.tls, host, port: self.port }
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, SiteInvalid> {
        if let Some(address) = address_of(text) {
            return Ok(Self::Address(address));
        }
        name(text).map(Self::Name)
    }
}

/// An address in its one spelling: four decimal numbers, or IPv6 in brackets without a zone.
fn address_of(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    }
}

/// A DNS name in small letters. One whose last label is a number would be an address for some resolvers.
fn name(text: &str) -> Result<String, SiteInvalid> {
    let is_label = |label: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(is_plain) && !label.starts_with('-')
    };
    if text.is_empty() {
        return Err(SiteInvalid("it has no host"));
    }
    if text.len() > NAME_BYTES_MAX || !text.split('.').all(is_label) {
        return Err(SiteInvalid("its host is not a name of letters, digits, `-` and `_` with dots in between"));
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x") || last.starts_with("0X");
    if is_number {
        return Err(SiteInvalid("its host is neither an address with four decimal numbers nor a name"));
    }
    Ok(text.to_ascii_lowercase())
}

fn split_scheme(text: &str) -> Result<(bool, &str), SiteInvalid> {
    match text.split_once("://") {
        Some(("https", rest)) => Ok((true, rest)),
        Some(("http", rest)) => Ok((false, rest)),
        _ => Err(SiteInvalid("it begins with neither `http://` nor `https://`")),
    }
}

/// Host and port; a network keeps its slash.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), SiteInvalid> {
    if authority.contains('@') {
        return Err(SiteInvalid("a name and a password have no place here"));
    }
    let host_ends = authority.rfind(']').map_or(0, |at| at + 1);
    match authority.get(host_ends..).unwrap_or_default().split_once(':') {
        Some((between, port)) => Ok((authority.get(..host_ends + between.len()).unwrap_or_default(), Some(port))),
        None => Ok((authority, None)),
    }
}

fn port_of(text: Option<&str>, tls: bool) -> Result<u16, SiteInvalid> {
    let Some(text) = text else { return Ok(default_port(tls)) };
    let port = text.parse().ok().filter(|port| *port != 0 && text.bytes().all(|b| b.is_ascii_digit()));
    port.ok_or(SiteInvalid("its port is not one of 1 to 65535"))
}

const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// One label more than the parent, as with hosts of APIs.
fn is_below(name: &str, parent: &str) -> bool {
    name.split_once('.').is_some_and(|(_, rest)| rest == parent)
}

const NAME_BYTES_MAX: usize = 253;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn site(url: &str) -> Result<Site, SiteInvalid> {
        let (scheme, authority) = url.split_once("://").unwrap();
        Site::parse(scheme == "https", authority)
    }

    fn entry(text: &str) -> Destination {
        let (text, private) = text.strip_suffix(" private").map_or((text, false), |text| (text, true));
        Destination::parse(text, private).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// How far a request to `url` reaches with this list.
    #[track_caller]
    fn check(list: &[&str], url: &str, expected: Option<Reach>) {
        let allow: Vec<_> = list.iter().map(|text| entry(text)).collect();
        let reach = site(url).ok().and_then(|site| reach(&allow, &site));
        assert_eq!(reach, expected, "{url} with {list:?}");
    }

    const PUBLIC: Option<Reach> = Some(Reach::Public);

    #[test]
    fn a_place_is_listed_by_scheme_host_and_port() {
        let list = ["https://auth.example.com", "http://*.svc.local:8080", "https://any.port:*"];
        check(&list, "https://auth.example.com", PUBLIC);
        check(&list, "https://auth.example.com:443", PUBLIC);
        check(&list, "https://AUTH.Example.COM", PUBLIC);
        check(&list, "http://auth.example.com:443", None);
        check(&list, "http://auth.example.com", None);
        check(&list, "https://auth.example.com:444", None);
        check(&list, "https://x.auth.example.com", None);
        check(&list, "https://auth.example.com.evil.test", None);
        check(&list, "https://auth-example.com", None);
        check(&list, "http://a.svc.local:8080", PUBLIC);
        check(&list, "http://a.b.svc.local:8080", None);
        check(&list, "http://svc.local:8080", None);
        check(&list, "http://a.svc.local", None);
        check(&list, "https://any.port:1", PUBLIC);
        check(&["https://*"], "https://a.test", PUBLIC);
        check(&["https://*"], "https://8.8.8.8", None);
        check(&[], "https://a.test", None);
    }

    #[test]
    fn odd_spellings_of_a_host_are_no_place() {
        let list = ["http://*:*", "http://0.0.0.0/0:*", "http://[::]/0:*"];
        let odd = [
            "0x7f.1",
            "0x7f000001",
            "127.1",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.01",
            "127.0.0.1.",
            "1.2.3.4.5",
            "localhost.",
            "a..b",
            "",
            "user:pass@a.test",
            "a.test@b.test",
            "a%2etest",
            "%31%32%37.0.0.1",
            "b\u{fc}cher.test",
            "127\u{3002}0\u{3002}0\u{3002}1",
            "[::1",
            "::1",
            "[::1%25eth0]",
            "[127.0.0.1]",
            "[::1]x",
            "a.test:",
            "a.test:0",
            "a.test:65536",
            "a.test:+80",
            "a.test:80:80",
            "a b",
            "a/b",
            "a\\b",
            "-a.test",
            "a.0x1",
            "a?b",
            "a#b",
            "a\r\nb",
        ];
        for authority in odd {
            check(&list, &format!("http://{authority}"), None);
        }
        check(&list, "http://127.0.0.1", Some(Reach::Listed("0.0.0.0/0".parse().unwrap())));
        check(&list, "http://xn--bcher-kva.test", PUBLIC);
    }

    #[test]
    fn addresses_are_listed_as_addresses() {
        let listed = |network: &str| Some(Reach::Listed(network.parse().unwrap()));
        let list = ["http://10.0.0.7:9000", "http://192.168.0.0/16", "https://[fd00::1]", "http://[fd00:1::]/32:81"];
        check(&list, "http://10.0.0.7:9000", listed("10.0.0.7/32"));
        check(&list, "http://10.0.0.8:9000", None);
        check(&list, "http://[::ffff:10.0.0.7]:9000", None);
        check(&list, "http://192.168.3.4", listed("192.168.0.0/16"));
        check(&list, "https://[FD00:0::1]", listed("fd00::1/128"));
        check(&list, "http://[fd00:1:2::3]:81", listed("fd00:1::/32"));
    }

    #[test]
    fn a_private_name_reaches_private_addresses_and_no_metadata() {
        check(&["http://*.local", "http://a.local private"], "http://a.local", Some(Reach::Private));
        check(&["http://*.local", "http://a.local private"], "http://b.local", PUBLIC);
        let admits = |reach: Reach, address: &str| reach.admits(address.parse().unwrap());
        for (address, public, private) in [
            ("8.8.8.8", true, true),
            ("10.0.0.1", false, true),
            ("127.0.0.1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("169.254.169.254", false, false),
            ("fd00:ec2::254", false, false),
            ("0.0.0.0", false, false),
        ] {
            assert_eq!(
                (admits(Reach::Public, address), admits(Reach::Private, address)),
                (public, private),
                "{address}"
            );
        }
    }

    #[test]
    fn a_listed_network_reaches_special_addresses_only_where_it_is_made_of_them() {
        for (network, address, expected) in [
            ("10.0.0.0/8", "10.1.2.3", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "127.0.0.1", true),
            ("0.0.0.0/0", "169.254.169.254", false),
            ("0.0.0.0/0", "0.0.0.0", false),
            ("0.0.0.0/32", "0.0.0.0", false),
            ("160.0.0.0/3", "169.254.169.254", false),
            ("169.254.0.0/15", "169.254.169.254", false),
            ("169.254.0.0/16", "169.254.169.254", true),
            ("169.254.169.254/32", "169.254.169.254", true),
            ("169.254.169.254/32", "169.254.169.253", false),
            ("100.64.0.0/10", "100.64.0.1", true),
            ("100.64.0.0/10", "100.100.100.200", false),
            ("100.100.100.200/31", "100.100.100.200", false),
            ("100.100.100.200/32", "100.100.100.200", true),
            ("168.63.0.0/16", "168.63.129.16", false),
            ("198.18.0.0/15", "198.18.0.1", true),
            ("::/0", "2606:4700::1111", true),
            ("::/0", "fe80::1", false),
            ("::/0", "::ffff:169.254.169.254", false),
            ("::ffff:0:0/96", "::ffff:169.254.169.254", false),
            ("::ffff:169.254.0.0/112", "::ffff:169.254.169.254", true),
            ("fd00::/8", "fd00::1", true),
            ("fd00::/8", "fd00:ec2::254", false),
            ("fd00:ec2::254/128", "fd00:ec2::254", true),
            ("fe80::/10", "fe80::1", true),
            ("fe80::/64", "fe80::1", true),
        ] {
            let reach = Reach::Listed(network.parse().unwrap());
            assert_eq!(reach.admits(address.parse().unwrap()), expected, "{address} of {network}");
        }
    }

    #[track_caller]
    fn check_covers(ceiling: &str, text: &str, expected: bool) {
        assert_eq!(entry(ceiling).covers(&entry(text)), expected, "{ceiling} covers {text}");
    }

    #[test]
    fn a_ceiling_covers_what_is_narrower() {
        check_covers("https://*:*", "https://a.test", true);
        check_covers("https://*:*", "https://*.a.test:444", true);
        check_covers("https://*", "https://a.test:444", false);
        check_covers("https://*", "http://a.test:443", false);
        check_covers("https://*.a.test", "https://b.a.test", true);
        check_covers("https://*.a.test", "https://*.a.test", true);
        check_covers("https://*.a.test", "https://a.test", false);
        check_covers("https://*.a.test", "https://*", false);
        check_covers("https://b.a.test", "https://*.a.test", false);
        check_covers("http://*", "http://a private", false);
        check_covers("http://* private", "http://a private", true);
        check_covers("http://10.0.0.0/8", "http://10.0.0.7", true);
        check_covers("http://10.0.0.7", "http://10.0.0.0/8", false);
        check_covers("http://*", "http://10.0.0.7", false);
        check_covers("http://0.0.0.0/0", "http://10.0.0.0/8", true);
        check_covers("http://0.0.0.0/0", "http://169.254.169.254", false);
        check_covers("http://[fd00::]/8", "http://[fd00:ec2::254]", false);
        check_covers("http://169.254.0.0/16", "http://169.254.169.254", true);
        check_covers("http://169.254.169.254", "http://169.254.169.254", true);
    }

    #[test]
    fn an_entry_reads_as_it_was_written() {
        for text in
            ["https://a.test", "http://*.a.test:8080", "https://*:*", "http://10.0.0.0/8:9000", "https://[fd00::1]"]
        {
            assert_eq!(entry(text).to_string(), text);
        }
        for text in ["a.test", "ftp://a", "http://", "http://a/b", "http://a:0", "http://u@a", "http://10.0.0.0/33"] {
            assert!(Destination::parse(text, false).is_err(), "{text}");
        }
        for text in ["http://a.*", "http://*a.test", "http://*.*.test", "http://10.0.0.0/+8", "http://a?b"] {
            assert!(Destination::parse(text, false).is_err(), "{text}");
        }
        assert!(Destination::parse("http://10.0.0.1", true).is_err());
    }
}
