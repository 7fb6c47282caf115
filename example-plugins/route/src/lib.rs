//! Sends requests elsewhere by the metadata of their session: to another host, or to another API of the gateway.
//!
//! Hook: `post`, function `route`. Needs the capability `upstream`. In the gateway's configuration:
//!
//! ```yaml
//! plugins:
//!   route:
//!     file: plugins/route.wasm
//!     grants: [upstream]
//!     upstream: { allow: [ "https://orders.us.example.com" ] }    # the servers that requests may be sent to
//!     apis: { allow: [orders-beta] }                              # the APIs that requests may be sent on to
//! ```
//!
//! and of an API, where keys with `region: us` in their metadata go to a server of their own, and those with `region: beta`
//! through the hooks and limits of another API:
//!
//! ```yaml
//! hooks:
//!   post:
//!     - plugin: route
//!       config:
//!         by: region
//!         to:
//!           us: { host: "https://orders.us.example.com" }
//!           beta: { api: orders-beta }
//! ```
//!
//! All others go to the API's upstream. What is below the API's listen path is below that of `orders-beta`, which asks
//! the caller for its credential once more.

use std::collections::BTreeMap;

use stile_sdk::{prelude::*, types::Upstream};

#[config]
struct Routes {
    /// The name in the session's metadata that decides.
    by: String,
    /// Where requests go, by its value.
    to: BTreeMap<String, Target>,
}

/// Another place than the API's upstream.
#[config]
enum Target {
    /// A server: scheme and host, with a port if need be.
    Host(String),
    /// An API of the gateway, by its id.
    Api(String),
}

#[plugin(config = Self, capabilities(upstream = "sends callers to the servers of their region"))]
impl Routes {
    #[post]
    fn route(&self, request: &mut Request, session: Option<&Session>) {
        let value = session.and_then(|session| session.metadata_text(&self.by));
        let Some(target) = value.and_then(|value| self.to.get(value)) else { return };
        request.set_upstream(match target {
            Target::Host(origin) => Upstream::Origin(origin.clone()),
            Target::Api(id) => Upstream::Api(id.clone()),
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stile_sdk::{
        prelude::*,
        testing::{Call, Host},
        types::Upstream,
    };

    use super::Routes;

    fn check(region: Option<&str>, expected: Option<Upstream>) {
        let to = json!({ "us": { "host": "https://us.test" }, "beta": { "api": "orders-beta" } });
        let route = Host::new().load_with::<Routes>(json!({ "by": "region", "to": to }));
        let session = region.map(|region| Session::new("key").with_metadata("region", region));
        let outcome = route.post("route", Call { session, ..Call::get("/orders") });
        assert_eq!(outcome.call.upstream, expected, "{region:?}");
    }

    #[test]
    fn the_metadata_of_the_session_decide() {
        check(Some("us"), Some(Upstream::Origin("https://us.test".to_owned())));
        check(Some("beta"), Some(Upstream::Api("orders-beta".to_owned())));
        check(Some("eu"), None);
        check(None, None);
    }

    #[test]
    fn a_target_is_one_of_the_two() {
        let both = json!({ "by": "region", "to": { "us": { "host": "https://us.test", "api": "orders" } } });
        assert!(Host::new().try_load_with::<Routes>(both).is_err());
    }
}
