//! The configuration file as it is written. Every comment here is also the description in the JSON Schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw_api::Api;
use super::raw_fetch::Fetch;
use super::raw_outgoing::Allowed;
use super::raw_plugin::{Grant, Plugin, PluginLimits, PluginQuarantine, PluginsRequire};
use super::raw_policy::{Policies, Policy};
use super::raw_store::Store;
use crate::model::gateway;
use crate::model::store::StoreLimits;

/// Configuration of a Stile gateway.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// Addresses on which callers connect. Default: 127.0.0.1:8080, in cleartext.
    pub(super) listen: Vec<Listener>,
    /// The control port: health, metrics, keys and policies.
    pub(super) control: Control,
    /// Where keys, policies and what was used of rates and quotas are kept.
    pub(super) store: Store,
    /// How changed definitions and plugin files are taken up while the gateway runs.
    pub(super) reload: Reload,
    /// Threads that serve requests. Default: one for each core.
    #[schemars(range(min = 1, max = 1024))]
    pub(super) workers: Option<usize>,
    /// Networks of proxies whose `X-Forwarded-*` and `X-Request-Id` are believed, such as `10.0.0.0/8`.
    pub(super) trusted_proxies: Vec<String>,
    /// What callers may use.
    pub(super) limits: ServerLimits,
    /// What all plugins together may use.
    pub(super) runtime: Runtime,
    /// How plugins are fetched that are elsewhere.
    pub(super) fetch: Fetch,
    /// What is logged.
    pub(super) log: Log,
    /// Where analytics records go.
    pub(super) analytics: AnalyticsSink,
    /// Limits of plugins that do not set their own.
    pub(super) plugin_limits: PluginLimits,
    /// When plugins that do nothing but fail are called no more for a while, for those that do not say it themselves.
    pub(super) plugin_quarantine: PluginQuarantine,
    /// Public keys of ed25519 that plugins may be signed by, by name: in PEM, or their 32 bytes in base64 or hexadecimal.
    pub(super) trusted_keys: BTreeMap<String, String>,
    /// What every plugin must have, those of included files too.
    pub(super) plugins_require: PluginsRequire,
    /// The plugins that APIs may use, by name.
    pub(super) plugins: BTreeMap<String, Plugin>,
    /// Templates for the sessions of callers: a list, or a table that names files.
    pub(super) policies: Policies,
    /// More files, with `plugins`, `apis` and `policies` only. `*` in a file's name stands for any text. Relative to this file.
    pub(super) include: Vec<String>,
    /// The APIs that the gateway serves.
    pub(super) apis: Vec<Api>,
}

/// A file named under `include`.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct IncludedFile {
    /// The plugins that APIs may use, by name.
    pub(super) plugins: BTreeMap<String, Plugin>,
    /// The APIs that the gateway serves.
    pub(super) apis: Vec<Api>,
    /// Templates for the sessions of callers.
    pub(super) policies: Vec<Policy>,
}

/// One address on which callers connect.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    /// IP address and port, such as `0.0.0.0:8080` or `[::]:8080`. Port 0 takes any free port.
    pub(super) address: String,
    /// Certificate and key. Without them the address speaks cleartext.
    pub(super) tls: Option<ListenerTls>,
}

/// Files of a listener's certificate. They are read again when they change.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerTls {
    /// The certificate chain, in PEM.
    pub(super) certificate: String,
    /// The private key, in PEM.
    pub(super) key: String,
}

/// The control port: health, metrics, keys and policies.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Control {
    /// IP address and port. Keep it on an address that callers cannot reach.
    pub(super) address: String,
    /// What a request for keys and policies must carry in `X-Tyk-Authorization`: 8 to 256 visible ASCII characters, best
    /// taken from the environment. Default: made anew at each start and told once in the log.
    pub(super) secret: Option<String>,
    /// Whether a key without access rights and policies may be made; it may call every API.
    pub(super) allow_master_keys: bool,
    /// Bytes of a request's body.
    #[schemars(range(min = 1_024, max = 67_108_864))]
    pub(super) body_bytes_max: usize,
    /// Connections at one time; above it the oldest that waits for a request is closed.
    #[schemars(range(min = 1, max = 65_536))]
    pub(super) connections_max: usize,
}

impl Default for Control {
    fn default() -> Self {
        let control = gateway::Control::new(([127, 0, 0, 1], 8081).into());
        Self {
            address: control.address.to_string(),
            secret: control.secret,
            allow_master_keys: control.allow_master_keys,
            body_bytes_max: control.body_bytes_max,
            connections_max: control.connections_max,
        }
    }
}

/// How changed definitions and plugin files are taken up while the gateway runs. A bad change leaves what runs as it was.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Reload {
    /// Whether files are watched. `stile reload` and SIGHUP reload in any case.
    pub(super) watch: bool,
    /// How long files must be left alone before they are read, so that several that are written in a row are read together.
    #[schemars(range(min = 1, max = 60_000))]
    pub(super) settle_ms: u64,
    /// How often files are looked at where the system tells of no changes, as on some network file systems.
    #[schemars(range(min = 100, max = 86_400_000))]
    pub(super) poll_ms: u64,
}

impl Default for Reload {
    fn default() -> Self {
        let reload = gateway::Reload::default();
        Self { watch: reload.watch, settle_ms: millis(reload.settle), poll_ms: millis(reload.poll) }
    }
}

/// What callers may use.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServerLimits {
    /// Connections at one time, over all addresses and cores.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) connections_max: usize,
    /// Bytes of a request's head, or of a header list in HTTP/2.
    #[schemars(range(min = 8_192, max = 1_048_576))]
    pub(super) header_bytes_max: usize,
    /// Header fields of a request.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) header_count_max: usize,
    /// Time to send a request's head, from its first byte or, on a fresh connection, from its opening.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) header_timeout_ms: u64,
    /// How long a connection may be idle between requests.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) idle_timeout_ms: u64,
    /// Time for the TLS handshake.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) tls_handshake_timeout_ms: u64,
    /// Streams at one time on an HTTP/2 connection.
    #[schemars(range(min = 1, max = 65_536))]
    pub(super) http2_streams_max: u32,
    /// Age at which an HTTP/2 connection is asked to end, so that load can move.
    #[schemars(range(min = 1_000, max = 604_800_000))]
    pub(super) http2_connection_age_max_ms: u64,
    /// After an answer that left before its request had come as a whole: how long the caller may be silent while what it
    /// still sends is read and dropped.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) linger_timeout_ms: u64,
    /// How long that may take in all.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) linger_time_max_ms: u64,
    /// How many bytes may come. 0 reads none.
    #[schemars(range(max = 1_099_511_627_776_u64))]
    pub(super) linger_bytes_max: u64,
    /// How long requests in flight may take after the gateway was told to stop. 0 stops at once.
    #[schemars(range(max = 86_400_000))]
    pub(super) drain_timeout_ms: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        let limits = gateway::ServerLimits::default();
        Self {
            connections_max: limits.connections_max,
            header_bytes_max: limits.header_bytes_max,
            header_count_max: limits.header_count_max,
            header_timeout_ms: millis(limits.header_timeout),
            idle_timeout_ms: millis(limits.idle_timeout),
            tls_handshake_timeout_ms: millis(limits.tls_handshake_timeout),
            http2_streams_max: limits.http2_streams_max,
            http2_connection_age_max_ms: millis(limits.http2_connection_age_max),
            linger_timeout_ms: millis(limits.linger_timeout),
            linger_time_max_ms: millis(limits.linger_time_max),
            linger_bytes_max: limits.linger_bytes_max,
            drain_timeout_ms: millis(limits.drain_timeout),
        }
    }
}

/// What all plugins together may use.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Runtime {
    /// Plugin instances at one time. Default: what the machine allows.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) instances_max: Option<u32>,
    /// Memory of all plugin instances, in bytes. Default: half of what the machine or its cgroup has.
    #[schemars(range(min = 1_048_576))]
    pub(super) memory_bytes_max: Option<u64>,
    /// The part of all instances and of their memory that one plugin may take, in per cent: the rest is for others.
    #[schemars(range(min = 1, max = 100))]
    pub(super) plugin_share_percent: u32,
    /// The largest memory that any plugin's limit may name, in bytes.
    #[schemars(range(min = 65_536, max = 4_294_967_296_u64))]
    pub(super) instance_memory_bytes_max: u64,
    /// Bytes of memory that stay resident in a slot between calls. 0 gives all of it back.
    #[schemars(range(max = 1_073_741_824))]
    pub(super) keep_resident_bytes: usize,
    /// Folder for compiled plugins. Default: `stile` in `$XDG_CACHE_HOME`, or in `~/.cache`.
    pub(super) cache_dir: Option<String>,
    /// Bytes of that folder.
    #[schemars(range(min = 1_048_576))]
    pub(super) cache_bytes_max: u64,
    /// Microseconds between two looks at running plugins.
    #[schemars(range(min = 100, max = 100_000))]
    pub(super) tick_us: u64,
    /// Plugins that may be compiled at one time, each in a process of its own.
    #[schemars(range(min = 1, max = 64))]
    pub(super) compile_slots: usize,
    /// Threads of each of these processes, which run at low priority.
    #[schemars(range(min = 1, max = 64))]
    pub(super) compile_threads: usize,
    /// Bytes that all plugins together may hold in `kv`.
    #[schemars(range(min = 1))]
    pub(super) kv_bytes_max: u64,
    /// What any plugin may be granted. Default: all that there is.
    pub(super) grants_max: Option<Vec<Grant>>,
    /// Where any plugin may be allowed to send requests, as under `outgoing_http.allow` of a plugin. Default: anywhere.
    pub(super) outgoing_http_max: Option<Vec<Allowed>>,
    /// Where any plugin may be allowed to send callers' requests on, as under `upstream.allow` of a plugin. Default: anywhere.
    pub(super) upstream_max: Option<Vec<Allowed>>,
    /// APIs that any plugin may be allowed to call or to send requests on to, by id, as under `apis.allow` of a plugin.
    /// Default: all.
    pub(super) apis_max: Option<Vec<String>>,
    /// How deep requests may come from requests of callers: each call of a plugin to an API is one deeper than the request that
    /// the plugin is for, and so is a request that is sent on to another API. 0 allows neither.
    #[schemars(range(max = 16))]
    pub(super) api_depth_max: u32,
}

impl Default for Runtime {
    fn default() -> Self {
        let runtime = gateway::Runtime::default();
        Self {
            instances_max: runtime.instances_max,
            memory_bytes_max: runtime.memory_bytes_max,
            plugin_share_percent: runtime.plugin_share_percent,
            instance_memory_bytes_max: runtime.instance_memory_bytes_max,
            keep_resident_bytes: runtime.keep_resident_bytes,
            cache_dir: None,
            cache_bytes_max: runtime.cache_bytes_max,
            tick_us: u64::try_from(runtime.tick.as_micros()).unwrap_or(u64::MAX),
            compile_slots: runtime.compile_slots,
            compile_threads: runtime.compile_threads,
            kv_bytes_max: StoreLimits::default().kv_bytes_max,
            grants_max: None,
            outgoing_http_max: None,
            upstream_max: None,
            apis_max: None,
            api_depth_max: runtime.api_depth_max,
        }
    }
}

/// What is logged.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    /// The shape of log lines.
    pub(super) format: LogFormat,
    /// Which lines, such as `info` or `info,stile::plugin=debug`.
    pub(super) filter: String,
    /// Which requests get a line.
    pub(super) access: AccessLog,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: "info".to_owned(), access: AccessLog::default() }
    }
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// JSON, one object a line.
    Json,
}

/// Which requests get a line.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AccessLog {
    /// None.
    Off,
    /// Those that ended with a status of 500 or above.
    #[default]
    Errors,
    /// All.
    All,
}

/// Where analytics records go.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AnalyticsSink {
    /// The kind of target.
    pub(super) target: AnalyticsTarget,
    /// With `target: file`: the file, one JSON object a line, appended.
    pub(super) file: Option<String>,
    /// Records that may wait; more are dropped and counted.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) queue_max: usize,
    /// Records handed to an analytics plugin at once, at most.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) batch_max: usize,
}

impl Default for AnalyticsSink {
    fn default() -> Self {
        Self { target: AnalyticsTarget::default(), file: None, queue_max: 10_000, batch_max: 100 }
    }
}

/// The kind of target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AnalyticsTarget {
    /// Nowhere.
    Off,
    /// The gateway's log.
    #[default]
    Log,
    /// The file named by `file`.
    File,
}

/// A duration of the model as the file writes it.
pub(super) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
