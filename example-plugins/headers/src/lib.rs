//! Sets, adds and removes request headers.
//!
//! Hook: `pre`, function `headers`. Configuration, every key optional:
//!
//! ```yaml
//! remove: [x-forwarded-user]        # first
//! set: { x-gateway: stile }         # replaces what the caller sent
//! add: { x-tag: external }          # beside what the caller sent
//! ```

use std::collections::BTreeMap;

use stile_sdk::prelude::*;

#[config]
struct Headers {
    /// Header fields to take away.
    #[serde(default)]
    remove: Vec<String>,
    /// Header fields to set; what the caller sent under these names is gone.
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Header fields to add; what the caller sent under these names stays.
    #[serde(default)]
    add: BTreeMap<String, String>,
}

#[plugin(config = Self)]
impl Headers {
    #[pre]
    fn headers(&self, request: &mut Request) {
        for name in &self.remove {
            request.headers.remove(name);
        }
        for (name, value) in &self.set {
            request.headers.set(name, value.as_str());
        }
        for (name, value) in &self.add {
            request.headers.append(name, value.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stile_sdk::testing::{Call, Host};

    use super::Headers;

    #[test]
    fn a_header_that_is_set_replaces_the_callers() {
        let config = json!({ "set": { "X-Gateway": "stile" }, "remove": ["x-forwarded-user"] });
        let headers = Host::new().load_with::<Headers>(config);

        let call = Call::get("/").with_header("x-gateway", "forged").with_header("x-forwarded-user", "root");
        let outcome = headers.pre("headers", call);

        assert_eq!(outcome.call.headers, [("x-gateway".to_owned(), b"stile".to_vec())]);
    }

    #[test]
    fn a_header_that_is_added_stands_beside_the_callers() {
        let headers = Host::new().load_with::<Headers>(json!({ "add": { "x-tag": "external" } }));

        let outcome = headers.pre("headers", Call::get("/").with_header("x-tag", "own"));

        let values: Vec<_> = outcome.call.headers.iter().map(|(_, value)| value.as_slice()).collect();
        assert_eq!(values, [b"own".as_slice(), b"external"]);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(Host::new().try_load_with::<Headers>(json!({ "delete": [] })).is_err());
    }
}
