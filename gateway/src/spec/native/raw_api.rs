//! APIs as the configuration file defines them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::raw_extractor::IdExtractor;
use super::raw_versions::Versions;

/// One API: where it listens, where it sends, which plugins it uses.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Api {
    /// Its id, unique in the gateway: 1 to 128 letters, digits, `-`, `_`, `.`.
    pub(super) id: String,
    /// Its name, for people. Default: the id.
    pub(super) name: Option<String>,
    /// The organisation that it belongs to.
    #[serde(default)]
    pub(super) organisation: String,
    /// Where it listens below the gateway's addresses.
    pub(super) listen: Listen,
    /// Which versions it has. Without it a request has no version.
    pub(super) versions: Option<Versions>,
    /// Where it sends requests.
    pub(super) upstream: Upstream,
    /// Context variables handed to plugins.
    #[serde(default)]
    pub(super) variables: BTreeMap<String, String>,
    /// The largest request body; longer ones end with 413. 0 allows no body.
    #[serde(default = "request_body_bytes_max")]
    pub(super) request_body_bytes_max: u64,
    /// How long a whole request may take, from its first byte to the last of the answer.
    #[serde(default = "request_timeout_ms")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) request_timeout_ms: u64,
    /// How callers authenticate. Without it nobody is asked.
    pub(super) auth: Option<Auth>,
    /// How many requests it takes, and how rates are counted.
    #[serde(default)]
    pub(super) rate_limit: RateLimit,
    /// Which plugins it uses, and where.
    #[serde(default)]
    pub(super) hooks: Hooks,
    /// What is recorded of its requests.
    #[serde(default)]
    pub(super) analytics: Analytics,
}

const fn request_body_bytes_max() -> u64 {
    10 << 20
}

const fn request_timeout_ms() -> u64 {
    60_000
}

/// Where an API listens.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listen {
    /// The beginning of the paths that are its own. The longest one of all APIs wins.
    pub(super) path: String,
    /// Hosts that it answers to, without port; `*.` in front stands for any one label. Default: every host.
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    /// Whether the listen path is taken off before the upstream.
    #[serde(default)]
    pub(super) strip: bool,
}

/// Where an API sends requests.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    /// Scheme, host, port and base path: `http://127.0.0.1:9000/base`.
    pub(super) url: String,
    /// The protocol spoken.
    #[serde(default)]
    pub(super) protocol: Protocol,
    /// A PEM file with certificate authorities. Default: the system's roots.
    pub(super) ca_file: Option<String>,
    /// The name to check in the upstream's certificate. Default: the URL's host.
    pub(super) server_name: Option<String>,
    /// Whether the caller's `Host` is passed on instead of the URL's.
    #[serde(default)]
    pub(super) preserve_host: bool,
    /// Time to connect, TLS handshake included.
    #[serde(default = "connect_timeout_ms")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) connect_timeout_ms: u64,
    /// Time from the request's last byte to the answer's head.
    #[serde(default = "reply_timeout_ms")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) reply_timeout_ms: u64,
    /// The longest pause within the answer's body.
    #[serde(default = "idle_timeout_ms")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) idle_timeout_ms: u64,
    /// Idle connections kept, over all cores. 0 keeps none.
    #[serde(default = "idle_connections_max")]
    #[schemars(range(max = 1_000_000))]
    pub(super) idle_connections_max: usize,
    /// How long an idle connection is kept. Keep it below the upstream's own limit.
    #[serde(default = "idle_connection_timeout_ms")]
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) idle_connection_timeout_ms: u64,
    /// Connections at one time, over all cores; above it the API answers 503.
    #[serde(default = "connections_max")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) connections_max: usize,
}

const fn connect_timeout_ms() -> u64 {
    5_000
}

const fn reply_timeout_ms() -> u64 {
    30_000
}

const fn idle_timeout_ms() -> u64 {
    30_000
}

const fn idle_connections_max() -> usize {
    256
}

const fn idle_connection_timeout_ms() -> u64 {
    30_000
}

const fn connections_max() -> usize {
    1_024
}

/// The protocol spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Protocol {
    /// HTTP/2 where TLS negotiates it, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only, in cleartext with prior knowledge.
    Http2,
}

/// How callers authenticate: by a token that the store knows, by a plugin, or both.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    /// Whether the credential is looked up as the token of a session in the store. Default: only where there is no plugin.
    pub(super) token: Option<bool>,
    /// The plugin that says who calls, as `plugins` names it.
    pub(super) plugin: Option<String>,
    /// The plugin's function. Default: the only one that it has for this hook.
    pub(super) function: Option<String>,
    /// The configuration of this use: whatever the plugin takes.
    #[serde(default)]
    pub(super) config: Value,
    /// What a failure of the plugin means. Only `reject` is allowed here.
    #[serde(default)]
    pub(super) on_failure: OnFailure,
    /// Where there are token and plugin: whether both must know the caller, or any, the token first.
    #[serde(default)]
    pub(super) require: Require,
    /// Where both know the caller: whose session it is.
    #[serde(default)]
    pub(super) session_from: SessionFrom,
    /// Where the plugin finds callers' IDs: it is not asked again while the session that it made for an ID is good.
    pub(super) id_extractor: Option<IdExtractor>,
    /// Ids of the policies that plugins may put a session under: the one named here, and with the grant `session-limits` those at
    /// other hooks; `*` stands for all. Default: none.
    #[serde(default)]
    pub(super) policies: Vec<String>,
    /// How long a session that the plugin made is kept, where it does not say itself. 0 keeps it until it is deleted.
    #[serde(default = "session_lifetime_seconds")]
    #[schemars(range(max = 3_153_600_000_u64))]
    pub(super) session_lifetime_seconds: u64,
    /// Sessions that the plugin made. For one more, the one that would end first leaves; its caller is not refused.
    #[serde(default = "sessions_max")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(super) sessions_max: usize,
    /// Counters of rates and quotas of these sessions, in this process. Above it requests that need another one are refused.
    #[serde(default = "counters_max")]
    #[schemars(range(min = 9, max = 1_000_000_000))]
    pub(super) counters_max: usize,
    /// How long what was used of a quota that never renews is remembered for a session that the plugin made. 0: for ever.
    #[serde(default = "quota_life_seconds")]
    #[schemars(range(max = 3_153_600_000_u64))]
    pub(super) quota_life_seconds: u64,
    /// Where callers put their credential. Default: the header `authorization`.
    pub(super) credential: Option<Credential>,
    /// Whether the credential is taken off before the upstream.
    #[serde(default)]
    pub(super) strip_credential: bool,
}

const fn session_lifetime_seconds() -> u64 {
    86_400
}

const fn sessions_max() -> usize {
    100_000
}

const fn counters_max() -> usize {
    200_000
}

const fn quota_life_seconds() -> u64 {
    31_536_000
}

/// How many of several ways to authenticate must succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Require {
    /// All of them.
    #[default]
    All,
    /// The first that does.
    Any,
}

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SessionFrom {
    /// The token's.
    #[default]
    Token,
    /// The plugin's.
    Plugin,
}

/// How many requests an API takes, and how rates are counted.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RateLimit {
    /// Requests of all callers together in the period. Default: no limit; the callers' own rates hold all the same.
    pub(super) requests: Option<f64>,
    /// The period in seconds.
    pub(super) per_seconds: f64,
    /// How this and the callers' own rates are counted.
    pub(super) algorithm: Algorithm,
    /// Requests at once, for `smooth`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) burst: u32,
    /// What the fields `X-RateLimit-*` of an answer tell.
    pub(super) headers: RateHeaders,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests: None, per_seconds: 1.0, algorithm: Algorithm::Sliding, burst: 1, headers: RateHeaders::Quota }
    }
}

/// How rates are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Algorithm {
    /// Windows one after the other: up to twice the rate across a border.
    Fixed,
    /// Never more than the rate in any period.
    Sliding,
    /// Evenly spaced, with `burst` at once.
    Smooth,
}

/// What the fields `X-RateLimit-*` of an answer tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum RateHeaders {
    /// The quota, on answers of the upstream.
    Quota,
    /// The rate, on every answer.
    Rate,
    /// Nothing; there is no standard `RateLimit` field either.
    Off,
}

/// Where callers put their credential: exactly one of the keys.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct Credential {
    /// In the header field of this name.
    pub(super) header: Option<String>,
    /// In the query parameter of this name.
    pub(super) query: Option<String>,
    /// In the cookie of this name.
    pub(super) cookie: Option<String>,
}

/// Which plugins an API uses, in the order in which they run.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Hooks {
    /// Before anything else.
    pub(super) pre: Vec<Use>,
    /// Right after authentication.
    pub(super) post_auth: Vec<Use>,
    /// On matching method and path.
    pub(super) endpoint: Vec<EndpointUse>,
    /// Last before the upstream.
    pub(super) post: Vec<Use>,
    /// On the way back.
    pub(super) response: Vec<ResponseUse>,
    /// After the response has left, before its record is stored.
    pub(super) analytics: Vec<Use>,
}

/// One use of a plugin: its name alone, or a table.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Use {
    /// The plugin, as `plugins` names it.
    Name(String),
    /// The plugin and how it is used.
    Full(FullUse),
}

/// One use of a plugin.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FullUse {
    /// The plugin, as `plugins` names it.
    pub(super) plugin: String,
    /// The plugin's function. Default: the only one that it has for this hook.
    pub(super) function: Option<String>,
    /// The configuration of this use: whatever the plugin takes.
    #[serde(default)]
    pub(super) config: Value,
    /// What a failure of the plugin means for the request.
    #[serde(default)]
    pub(super) on_failure: OnFailure,
}

/// One use of a plugin at an endpoint.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointUse {
    /// The method, in upper case. Default: all.
    pub(super) method: Option<String>,
    /// The path below the listen path, with parameters: `/users/{id}`, `/files/{*rest}`.
    pub(super) path: String,
    /// The operation id that plugins see.
    #[serde(default)]
    pub(super) operation_id: String,
    /// The plugin, as `plugins` names it.
    pub(super) plugin: String,
    /// The plugin's function. Default: the only one that it has for this hook.
    pub(super) function: Option<String>,
    /// The configuration of this use: whatever the plugin takes.
    #[serde(default)]
    pub(super) config: Value,
    /// What a failure of the plugin means for the request.
    #[serde(default)]
    pub(super) on_failure: OnFailure,
}

/// One use of a plugin on the way back: its name alone, or a table.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum ResponseUse {
    /// The plugin, as `plugins` names it.
    Name(String),
    /// The plugin and how it is used.
    Full(FullResponseUse),
}

/// One use of a plugin on the way back.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FullResponseUse {
    /// The plugin, as `plugins` names it.
    pub(super) plugin: String,
    /// The plugin's function. Default: the only one that it has for this hook.
    pub(super) function: Option<String>,
    /// The configuration of this use: whatever the plugin takes.
    #[serde(default)]
    pub(super) config: Value,
    /// What a failure of the plugin means for the request.
    #[serde(default)]
    pub(super) on_failure: OnFailure,
    /// Which answers it sees.
    #[serde(default)]
    pub(super) answers: Answers,
}

/// What a failure of a plugin means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnFailure {
    /// The request ends with an error.
    #[default]
    Reject,
    /// The request goes on as if the plugin were not there. Never for `auth` and `analytics`.
    Continue,
}

/// Which answers a response hook sees.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answers {
    /// The upstream's, the plugins' and the gateway's.
    #[default]
    All,
    /// The upstream's only.
    Upstream,
}

/// What is recorded of an API's requests.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Analytics {
    /// Whether requests are recorded at all; where it is not said, those of APIs with analytics hooks.
    pub(super) enabled: Option<bool>,
    /// Whether headers and bodies are recorded.
    pub(super) detailed: bool,
    /// The longest recorded body; longer ones are cut.
    #[schemars(range(max = 16_777_216))]
    pub(super) body_bytes_max: usize,
}

impl Default for Analytics {
    fn default() -> Self {
        Self { enabled: None, detailed: false, body_bytes_max: 4_096 }
    }
}
