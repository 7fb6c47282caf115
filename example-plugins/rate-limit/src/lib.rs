//! Limits how often one address may call.
//!
//! Hook: `pre`, function `limit`. Needs the capabilities `kv` and `metrics`. Configuration:
//!
//! ```yaml
//! requests: 100
//! seconds: 60
//! on_store_failure: refuse    # or `allow`: what happens when requests cannot be counted
//! ```
//!
//! Requests are counted in windows of `seconds`, shared by all gateways on the same store. One over the limit gets 429
//! and is told in `retry-after` when the next window begins.

use std::{net::IpAddr, num::NonZeroU64, time::Duration};

use stile_sdk::prelude::*;

#[config]
struct Config {
    /// How many requests one address may make in each window.
    requests: u32,
    /// How long a window is.
    seconds: NonZeroU64,
    /// What happens to a request that cannot be counted.
    #[serde(default)]
    on_store_failure: OnStoreFailure,
}

#[config]
#[derive(Default)]
enum OnStoreFailure {
    /// It gets 503.
    #[default]
    Refuse,
    /// It goes on.
    Allow,
}

struct Limit(Config);

#[plugin(
    config = Config,
    capabilities(kv = "counts requests", metrics = "counts refusals"),
    counters(limited_total = "requests over the limit")
)]
impl Limit {
    #[pre]
    fn limit(&self, context: &Context) -> Action {
        let Config { requests, seconds, on_store_failure } = &self.0;
        let now = context.time_ms / 1000;
        let key = format!("{}/{}", caller(context.client_address), now / seconds.get());

        match (kv::increment(&key, 1, Some(Duration::from_secs(seconds.get()))), on_store_failure) {
            (Ok(count), _) if count <= i64::from(*requests) => Action::Continue,
            (Ok(_), _) => {
                // A counter that cannot be written is no reason to let the request through.
                let _ = metrics::add("limited_total", 1);
                let wait = seconds.get() - now % seconds.get();
                Rejection::new(429, "too many requests").header("retry-after", wait.to_string()).into()
            }
            (Err(_), OnStoreFailure::Allow) => Action::Continue,
            (Err(_), OnStoreFailure::Refuse) => reject(503, "requests cannot be counted at the moment"),
        }
    }
}

/// Whoever has one IPv6 address has a /64 of them.
fn caller(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{:x}", address.to_bits() >> 64),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stile_sdk::{
        kv,
        testing::{Call, Host, Loaded},
    };

    use super::Limit;

    fn status(limit: &Loaded<Limit>, address: &str) -> Option<u16> {
        limit.pre("limit", Call::get("/").from_address(address)).status()
    }

    #[test]
    fn the_request_over_the_limit_is_told_when_to_come_back() {
        let host = Host::new();
        let limit = host.load_with::<Limit>(json!({ "requests": 2, "seconds": 60 }));
        assert_eq!(status(&limit, "192.0.2.1"), None);
        assert_eq!(status(&limit, "192.0.2.1"), None);

        let outcome = limit.pre("limit", Call::get("/").from_address("192.0.2.1"));
        assert_eq!(outcome.status(), Some(429));
        let wait: u64 = outcome.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a number of seconds");
        assert_eq!(host.counter("limited_total"), 1);
        assert_eq!(status(&limit, "192.0.2.2"), None, "others are counted apart");

        host.advance_ms(wait * 1000);
        assert_eq!(status(&limit, "192.0.2.1"), None);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_caller() {
        let limit = Host::new().load_with::<Limit>(json!({ "requests": 1, "seconds": 60 }));
        assert_eq!(status(&limit, "2001:db8::1"), None);
        assert_eq!(status(&limit, "2001:db8::2"), Some(429));
        assert_eq!(status(&limit, "2001:db8:0:1::1"), None);
    }

    #[test]
    fn without_the_store_the_configuration_decides() {
        let host = Host::new();
        let careful = host.load_with::<Limit>(json!({ "requests": 1, "seconds": 60 }));
        host.fail_kv(Some(kv::Error::Unavailable));
        assert_eq!(status(&careful, "192.0.2.1"), Some(503));

        let easy = host.load_with::<Limit>(json!({ "requests": 1, "seconds": 60, "on_store_failure": "allow" }));
        assert_eq!(status(&easy, "192.0.2.1"), None);
    }
}
