//! Where plugins may send requests and what secrets they may send, as the configuration file has them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a plugin with the grant `outgoing-http` may send requests.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OutgoingHttp {
    /// Scheme and host with a port or without: `https://auth.example.com`, `http://*.svc.local:8080`, `http://10.0.0.7:9000`,
    /// `http://10.0.0.0/8:*`. `*.` stands for one label, `*` for every name, `:*` for every port.
    pub(super) allow: Vec<Allowed>,
    /// Certificate authorities in PEM. Default: the system's.
    pub(super) ca_file: Option<String>,
}

/// Where a plugin with the grant `upstream` may send the requests that it is called for.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    /// As under `outgoing_http.allow`.
    pub(super) allow: Vec<Allowed>,
}

/// A place, or a table with more to say of it.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Allowed {
    /// The place.
    Url(String),
    /// The place and more.
    Entry(AllowedEntry),
}

/// A place with more to say of it.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowedEntry {
    /// Scheme and host with a port or without.
    pub(super) url: String,
    /// Whether the name may have addresses of private networks and of this machine. Metadata services and link-local
    /// addresses must be listed as addresses all the same. Default: false.
    pub(super) private: Option<bool>,
}

/// The secrets of a plugin by name.
pub(super) type Secrets = BTreeMap<String, Secret>;

/// A secret that a plugin with the grant `secrets` may send and never sees: from `env` or `file`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Secret {
    /// The environment variable that has it.
    pub(super) env: Option<String>,
    /// The file that has it, without the line break at its end. Relative to the file that names it.
    pub(super) file: Option<String>,
    /// Where it may be sent, as under `outgoing_http.allow`. Default: everywhere that the plugin may send requests.
    pub(super) hosts: Vec<Allowed>,
}
