//! Policies as the configuration file has them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Templates for sessions: a list of them, or a table that names their files. A policy of a file wins over a stored one of
/// the same id, and the control port does not change it.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Policies {
    /// The policies.
    List(Vec<Policy>),
    /// Their files.
    Files(PolicyFiles),
}

impl Default for Policies {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// Files with policies.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PolicyFiles {
    /// A file with `policies` only. `*` in its name stands for any text: `policies/*.yaml`. Relative to this file.
    pub(super) file: Option<String>,
    /// Tyk's `policies.json` (a map by id), or a folder of JSON files with one policy of Tyk each.
    pub(super) tyk_file: Option<String>,
}

/// A file named by `policies.file`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PolicyFile {
    /// The policies of the file.
    pub(super) policies: Vec<Policy>,
}

/// A template for sessions, which name it by its id.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    /// Its id, unique in the gateway: 1 to 256 bytes without control characters.
    pub(super) id: String,
    /// Its name, for people. Default: the id.
    pub(super) name: Option<String>,
    /// The organisation that it belongs to: only APIs of the same one apply it.
    #[serde(default)]
    pub(super) organisation: String,
    /// A policy that is not active is as one that is not there.
    #[serde(default = "active")]
    pub(super) active: bool,
    /// Makes every session inactive that names it.
    #[serde(default)]
    pub(super) inactive: bool,
    /// Which parts of a session it sets. Default: all of them. `per_api` stands alone.
    #[serde(default)]
    pub(super) partitions: Vec<Partition>,
    /// The rate. Where it sets the rate and has none, there is none.
    pub(super) rate: Option<Rate>,
    /// The quota. Where it sets the quota and has none, there is none.
    pub(super) quota: Option<Quota>,
    /// Depth of GraphQL queries; -1 for any.
    #[schemars(range(min = -1, max = 10_000))]
    pub(super) max_query_depth: Option<i64>,
    /// What sessions may call, by the id of the API.
    #[serde(default)]
    pub(super) access: BTreeMap<String, Access>,
    /// Tags that sessions get.
    #[serde(default)]
    pub(super) tags: Vec<String>,
    /// Metadata that sessions get: any values.
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, Value>,
    /// Seconds after which a key made with it expires. 0 never.
    #[serde(default)]
    #[schemars(range(max = 3_153_600_000_u64))]
    pub(super) key_expires_in_seconds: u32,
}

const fn active() -> bool {
    true
}

/// A part of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Partition {
    /// The rate.
    Rate,
    /// The quota.
    Quota,
    /// What it may call.
    Access,
    /// The depth of queries.
    QueryDepth,
    /// All of them, and each API is limited and counted by itself.
    PerApi,
}

/// So many requests in so many seconds.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rate {
    /// Requests in the period; -1 for any number, which beats every other policy.
    #[schemars(range(min = -1, max = 1_000_000_000))]
    pub(super) requests: i64,
    /// The period, in seconds.
    #[schemars(range(min = 0.001, max = 31_536_000.0))]
    pub(super) per_seconds: f64,
    /// Seconds to wait before another try where the rate is used up. 0 refuses at once.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 60.0))]
    pub(super) throttle_interval_seconds: f64,
    /// How many further tries there are.
    #[serde(default)]
    #[schemars(range(max = 100))]
    pub(super) throttle_retries: u16,
}

/// So many requests until renewal.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Quota {
    /// Requests between renewals; -1 for any number, which beats every other policy.
    #[schemars(range(min = -1, max = 1_000_000_000_000_i64))]
    pub(super) requests: i64,
    /// Seconds from one renewal to the next. 0 never renews.
    #[serde(default)]
    #[schemars(range(max = 3_153_600_000_u64))]
    pub(super) renewal_seconds: u32,
}

/// What a session may call of an API.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Access {
    /// Versions of it. Default: all.
    pub(super) versions: Vec<String>,
    /// Paths of it. Default: all.
    pub(super) paths: Vec<AccessPath>,
    /// A rate of its own.
    pub(super) rate: Option<Rate>,
    /// A quota of its own.
    pub(super) quota: Option<Quota>,
    /// A depth of its own.
    #[schemars(range(min = -1, max = 10_000))]
    pub(super) max_query_depth: Option<i64>,
    /// APIs with the same scope share one counter of a session.
    pub(super) scope: String,
    /// Rates of single endpoints, which count instead of the API's.
    pub(super) endpoints: Vec<AccessEndpoint>,
}

/// A path that may be called.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessPath {
    /// A regular expression that begins where the path begins, with or without the listen path. `{id}` is a segment.
    pub(super) path: String,
    /// Methods, in upper case; `GET` does not imply `HEAD`.
    pub(super) methods: Vec<String>,
}

/// The rate of one endpoint.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessEndpoint {
    /// The endpoint's method, in upper case.
    pub(super) method: String,
    /// A regular expression, as under `paths`.
    pub(super) path: String,
    /// The rate of this endpoint.
    pub(super) rate: Rate,
}
