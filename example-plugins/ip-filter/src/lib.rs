//! Lets callers in by their address.
//!
//! Hook: `pre`, function `filter`. Configuration:
//!
//! ```yaml
//! allow: [10.0.0.0/8, "2001:db8::/32"]  # empty: everyone who is not denied
//! deny: [10.6.6.6]                      # wins over `allow`
//! ```
//!
//! Anyone else gets 403.

use std::net::IpAddr;

use stile_sdk::prelude::*;

#[config]
struct Config {
    /// Addresses and ranges that may call. Without any, everyone may who is not denied.
    #[serde(default)]
    allow: Vec<String>,
    /// Addresses and ranges that may not call, even if they are allowed.
    #[serde(default)]
    deny: Vec<String>,
}

struct Filter {
    allow: Vec<Range>,
    deny: Vec<Range>,
}

#[plugin]
impl Filter {
    fn new(config: Config) -> Result<Self, String> {
        let parse = |ranges: Vec<String>| ranges.iter().map(|range| Range::parse(range)).collect::<Result<_, _>>();
        Ok(Self { allow: parse(config.allow)?, deny: parse(config.deny)? })
    }

    #[pre]
    fn filter(&self, context: &Context) -> Action {
        let address = context.client_address.to_canonical();
        let among = |ranges: &[Range]| ranges.iter().any(|range| range.contains(address));
        match !among(&self.deny) && (self.allow.is_empty() || among(&self.allow)) {
            true => Action::Continue,
            false => reject(403, "your address may not call this API"),
        }
    }
}

/// All addresses that begin with the same bits.
struct Range {
    start: IpAddr,
    bits: u32,
}

impl Range {
    fn parse(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is neither an address nor a range like 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let start: IpAddr = address.parse().map_err(|_| invalid())?;
        let all = if start.is_ipv4() { 32 } else { 128 };
        match bits.unwrap_or(all) {
            bits if bits <= all => Ok(Self { start, bits }),
            _ => Err(invalid()),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.start, address) {
            (IpAddr::V4(start), IpAddr::V4(address)) => {
                (start.to_bits() ^ address.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(start), IpAddr::V6(address)) => {
                (start.to_bits() ^ address.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stile_sdk::testing::{Call, Host};

    use super::Filter;

    fn check(allow: &[&str], deny: &[&str], address: &str, status: Option<u16>) {
        let filter = Host::new().load_with::<Filter>(json!({ "allow": allow, "deny": deny }));
        assert_eq!(filter.pre("filter", Call::get("/").from_address(address)).status(), status, "{address}");
    }

    #[test]
    fn only_allowed_ranges_get_in() {
        check(&[], &[], "192.0.2.1", None);
        check(&["10.0.0.0/8"], &[], "10.255.0.1", None);
        check(&["10.0.0.0/8"], &[], "11.0.0.1", Some(403));
        check(&["10.0.0.0/8"], &[], "2001:db8::1", Some(403));
        check(&["2001:db8::/32"], &[], "2001:db8:ffff::1", None);
        check(&["2001:db8::/32"], &[], "2001:db9::1", Some(403));
        check(&["0.0.0.0/0"], &[], "203.0.113.9", None);
    }

    #[test]
    fn a_denied_address_stays_out_even_if_it_is_allowed() {
        check(&["10.0.0.0/8"], &["10.6.6.6"], "10.6.6.6", Some(403));
        check(&[], &["10.6.6.6"], "::ffff:10.6.6.6", Some(403));
    }

    #[test]
    fn a_broken_range_is_a_load_error() {
        for range in ["10.0.0.0/33", "10.0.0/8", "somewhere", "::/129", "10.0.0.0/-1"] {
            let error = Host::new().try_load_with::<Filter>(json!({ "allow": [range] })).err();
            assert!(error.is_some_and(|error| error.contains(range)), "{range}");
        }
    }
}
