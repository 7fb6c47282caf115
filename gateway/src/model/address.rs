//! What kind of address an address is: whom a plugin must not reach unless it was told that it may.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kinds of addresses, from the one that anybody may reach to the one that nobody may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressKind {
    /// On the Internet.
    Public,
    /// Loopback, private networks, shared and unique-local addresses: the operator's own machines.
    Private,
    /// Link-local, the metadata services of clouds, documentation, benchmarks, reserved: nobody's who serves plugins, and
    /// reached only where it is listed as an address.
    Special,
    /// Unspecified, multicast, broadcast: no single machine.
    Never,
}

impl AddressKind {
    /// The kind of an address. IPv6 addresses that hold an IPv4 address are of its kind: that is where packets end up.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }
}

fn of_v4(address: Ipv4Addr) -> AddressKind {
    let [a, b, c, _] = address.octets();
    if METADATA_V4.contains(&address) {
        return AddressKind::Special;
    }
    if address.is_broadcast() {
        return AddressKind::Never;
    }
    match (a, b, c) {
        (0 | 224..=239, ..) => AddressKind::Never,
        (10 | 127, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => AddressKind::Private,
        // Link-local; protocol assignments; documentation; the old 6to4 relays; benchmarks; reserved.
        (169, 254, _)
        | (192, 0, 0 | 2)
        | (198, 51, 100)
        | (203, 0, 113)
        | (192, 88, 99)
        | (198, 18..=19, _)
        | (240..=255, ..) => AddressKind::Special,
        _ => AddressKind::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> AddressKind {
    if METADATA_V6.contains(&address) {
        return AddressKind::Special;
    }
    if let Some(inner) = inner_v4(address) {
        return of_v4(inner);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] | [0xff00..=0xffff, ..] => AddressKind::Never,
        [0, 0, 0, 0, 0, 0, 0, 1] | [0xfc00..=0xfdff, ..] => AddressKind::Private,
        // Protocol assignments, Teredo and benchmarks among them; documentation.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => AddressKind::Special,
        [0x2000..=0x3fff, ..] => AddressKind::Public,
        _ => AddressKind::Special,
    }
}

/// The IPv4 address inside: mapped, compatible, by a translator with the well-known prefix (RFC 6052), or 6to4.
fn inner_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Where clouds tell machines their credentials, beside 169.254.0.0/16: Alibaba, Azure.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
/// Amazon, Google, Scaleway.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x42),
];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[track_caller]
    fn check(kind: AddressKind, addresses: &[&str]) {
        for address in addresses {
            assert_eq!(AddressKind::of(address.parse().unwrap()), kind, "{address}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        check(
            AddressKind::Public,
            &["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1"],
        );
        check(AddressKind::Public, &["192.0.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.255", "169.253.0.1"]);
        check(AddressKind::Public, &["2606:4700::1111", "2001:4860::8888", "2a00::1"]);
    }

    #[test]
    fn addresses_of_the_operator_are_private() {
        check(AddressKind::Private, &["127.0.0.1", "127.255.255.254", "10.0.0.7", "172.16.0.1", "172.31.255.255"]);
        check(AddressKind::Private, &["192.168.1.1", "100.64.0.1", "::1", "fc00::1", "fdff::1"]);
    }

    #[test]
    fn metadata_and_what_nobody_serves_plugins_from_is_special() {
        check(AddressKind::Special, &["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16"]);
        check(AddressKind::Special, &["fd00:ec2::254", "fd20:ce::254", "fe80::1", "fec0::1", "100::1"]);
        check(AddressKind::Special, &["192.0.0.192", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1"]);
        check(AddressKind::Special, &["198.19.255.255", "192.88.99.1", "240.0.0.1", "255.255.255.254"]);
        check(AddressKind::Special, &["2001::1", "2001:2::1", "2001:db8::1", "3fff::1", "64:ff9b:1::a00:1"]);
    }

    #[test]
    fn no_single_machine_is_never_reached() {
        check(AddressKind::Never, &["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "255.255.255.255"]);
        check(AddressKind::Never, &["::", "ff02::1"]);
    }

    #[test]
    fn an_address_inside_another_counts() {
        check(AddressKind::Private, &["::ffff:127.0.0.1", "::127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1"]);
        check(AddressKind::Private, &["2002:7f00:1::", "2002:a00:1::1", "::ffff:0:127.0.0.1"]);
        check(AddressKind::Special, &["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::"]);
        check(AddressKind::Never, &["::ffff:0.0.0.0", "::ffff:255.255.255.255"]);
        check(AddressKind::Public, &["::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]);
    }
}
