//! Plugins as the configuration file declares them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw_outgoing::{OutgoingHttp, Secrets, Upstream};
use crate::model::plugin::Capability;

/// One plugin: a component file with its grants and limits.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Plugin {
    /// The component file, relative to the file that names it; or where it is fetched from: `https://…`, `http://…` (with
    /// `sha256`, or from this machine), `oci://REGISTRY/REPOSITORY:TAG`, or `@sha256:…` at its end.
    pub(super) file: String,
    /// The sha256 that the file must have, in hexadecimal.
    pub(super) sha256: Option<String>,
    /// Names of `trusted_keys`, one of which must have signed the file.
    pub(super) signed_by: Option<Vec<String>>,
    /// With `signed_by`: the file with the signature. Default: `file` with `.sig` at its end, a URL too; in a registry, the
    /// annotation `stile.signature.ed25519`.
    pub(super) signature: Option<String>,
    /// What the plugin may do beyond computing. Default: nothing.
    #[serde(default)]
    pub(super) grants: Vec<Grant>,
    /// Where it may send requests, with the grant `outgoing-http`.
    pub(super) outgoing_http: Option<OutgoingHttp>,
    /// What it may send without knowing it, by name, with the grant `secrets`.
    #[serde(default)]
    pub(super) secrets: Secrets,
    /// Where it may send the requests that it is called for, instead of the API's upstream, with the grant `upstream`.
    pub(super) upstream: Option<Upstream>,
    /// The APIs that it may call, with the grant `apis`, and send requests on to, with the grant `upstream`.
    pub(super) apis: Option<Apis>,
    /// How many calls an instance serves.
    #[serde(default)]
    pub(super) isolation: Isolation,
    /// With `isolation: reuse`: calls after which an instance is retired. Default: 10000.
    #[schemars(range(min = 1))]
    pub(super) reuse_calls_max: Option<u64>,
    /// With `isolation: reuse`: bytes of memory above which an instance is retired after its call. Default: half of
    /// `memory_bytes_max`.
    #[schemars(range(min = 65_536))]
    pub(super) reuse_memory_high_water_bytes: Option<u64>,
    /// What one call may use. Default: what `plugin_limits` says.
    #[serde(default)]
    pub(super) limits: PluginLimits,
    /// When it is called no more for a while, because it does nothing but fail. Default: what `plugin_quarantine` says.
    #[serde(default)]
    pub(super) quarantine: PluginQuarantine,
}

/// APIs of the gateway.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Apis {
    /// Their ids, such as `orders`.
    pub(super) allow: Vec<String>,
}

/// When a plugin that does nothing but fail is called no more for a while, and when it is tried again.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PluginQuarantine {
    /// Whether it ever is. Default: true.
    pub(super) enabled: Option<bool>,
    /// Failures in the window that are borne. Default: 20.
    #[schemars(range(max = 10_000))]
    pub(super) failures_max: Option<u32>,
    /// The window. Default: 10000.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub(super) window_ms: Option<u64>,
    /// The share of calls in the window that must fail as well, so that no caller takes the plugin from others with requests
    /// of its own that make it fail. Default: 0.9.
    #[schemars(range(min = 0.1, max = 1.0))]
    pub(super) share_min: Option<f64>,
    /// From the beginning to the first probe; it doubles with each probe that fails. Default: 1000.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) pause_min_ms: Option<u64>,
    /// The longest pause. Default: 60000.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) pause_max_ms: Option<u64>,
}

/// Something that a plugin may do beyond computing.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("enum" = Capability::ALL.map(Capability::as_str)))]
pub(super) struct Grant(pub(super) String);

/// What every plugin must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PluginsRequire {
    /// Nothing.
    #[default]
    Nothing,
    /// `sha256`.
    Pinned,
    /// `signed_by`.
    Signed,
}

/// How many calls an instance serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Isolation {
    /// Every call gets a fresh instance: nothing leaks from one caller to the next.
    #[default]
    Request,
    /// Instances are kept, for the same API and configuration. Faster, and less safe.
    Reuse,
}

/// What one call of a plugin may use.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PluginLimits {
    /// Fuel for a call, about one a WebAssembly instruction. Default: 50000000.
    #[schemars(range(min = 1))]
    pub(super) fuel: Option<u64>,
    /// Wall time of a call, host calls included. Default: 100.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(super) deadline_ms: Option<u64>,
    /// Memory of an instance, in bytes. Default: 67108864.
    #[schemars(range(min = 65_536, max = 4_294_967_296_u64))]
    pub(super) memory_bytes_max: Option<u64>,
    /// Elements of the instance's tables. Default: 20000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) table_elements_max: Option<u64>,
    /// Bytes that the host calls of one call may carry. Default: 4194304.
    pub(super) host_call_bytes_max: Option<u64>,
    /// Host calls (`kv`, `metrics`, `sessions`) of one call. Default: 1000.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub(super) host_calls_max: Option<u32>,
    /// Those among them that ask for a session by its token, or change one: each may be a guess. Default: 20.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub(super) session_calls_max: Option<u32>,
    /// What each call into the gateway costs of the fuel, those of WASI included. Default: 500.
    #[schemars(range(max = 1_000_000_000_000_u64))]
    pub(super) host_call_fuel: Option<u64>,
    /// What each byte costs that such a call carries. Default: 1.
    #[schemars(range(max = 1_000_000_000_000_u64))]
    pub(super) host_call_fuel_per_byte: Option<u64>,
    /// Log lines of one call; more are dropped and counted. Default: 20.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub(super) log_lines_max: Option<u32>,
    /// Log bytes of one call; more are dropped and counted. Default: 8192.
    pub(super) log_bytes_max: Option<u64>,
    /// Random bytes of one call. Default: 65536.
    pub(super) random_bytes_max: Option<u64>,
    /// Microseconds to which the plugin's clocks are rounded down, and its pauses up: what one plugin can time of another.
    /// Default: 1000.
    #[schemars(range(min = 1, max = 60_000_000))]
    pub(super) clock_grain_us: Option<u64>,
    /// The largest body handed to the plugin, whatever it declares. Default: 1048576.
    pub(super) body_in_bytes_max: Option<u64>,
    /// The largest body taken from the plugin. Default: 4194304.
    pub(super) body_out_bytes_max: Option<u64>,
    /// Header fields in what the plugin returns. Default: 128.
    #[schemars(range(max = 100_000))]
    pub(super) header_count_max: Option<u32>,
    /// Bytes of header fields in what the plugin returns. Default: 32768.
    pub(super) header_bytes_max: Option<u64>,
    /// Calls of the plugin at one time, over all APIs and cores. Default: 256.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) concurrency_max: Option<u32>,
    /// How long a call waits for an instance before it fails as busy. Default: 50.
    #[schemars(range(max = 3_600_000))]
    pub(super) instance_wait_ms: Option<u64>,
    /// The largest component file. Default: 33554432.
    #[schemars(range(min = 1))]
    pub(super) file_bytes_max: Option<u64>,
    /// Time for compiling, and again for checking configurations against the plugin's schema. Default: 60000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(super) compile_time_max_ms: Option<u64>,
    /// Memory of the process that compiles the plugin, or checks a configuration of it, in bytes. Default: 1073741824.
    #[schemars(range(min = 16_777_216))]
    pub(super) compile_memory_bytes_max: Option<u64>,
    /// What the plugin may be compiled to, in bytes. Default: 268435456.
    #[schemars(range(min = 1))]
    pub(super) compiled_bytes_max: Option<u64>,
    /// Functions of all core modules of the component. Default: 100000.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub(super) functions_max: Option<u32>,
    /// Core modules and components within the component. Default: 100.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub(super) modules_max: Option<u32>,
    /// Types of the component and all within it. Default: 100000.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub(super) types_max: Option<u32>,
    /// How deep components and modules may lie within one another. Default: 8.
    #[schemars(range(min = 1, max = 1_000))]
    pub(super) nesting_max: Option<u32>,
    /// Keys that the plugin may hold in `kv`, for each API. Default: 10000.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub(super) kv_keys_max: Option<u32>,
    /// Bytes of a key in `kv`. Default: 256.
    #[schemars(range(min = 1, max = 4_294_967_295_u64))]
    pub(super) kv_key_bytes_max: Option<u32>,
    /// Bytes of a value in `kv`. Default: 65536.
    #[schemars(range(max = 4_294_967_295_u64))]
    pub(super) kv_value_bytes_max: Option<u32>,
    /// Bytes of all keys and values that the plugin may hold in `kv`, with 128 for each, for each API. Default: 8388608.
    pub(super) kv_bytes_max: Option<u64>,
    /// Requests that one call may send. Default: 8.
    #[schemars(range(max = 100_000))]
    pub(super) outgoing_calls_max: Option<u32>,
    /// Time of one such request with its answer; the call's `deadline_ms` ends it too. Default: 5000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(super) outgoing_time_max_ms: Option<u64>,
    /// Bytes of its body. Default: 1048576.
    pub(super) outgoing_request_bytes_max: Option<u64>,
    /// Bytes of the body of its answer. Default: 1048576.
    pub(super) outgoing_response_bytes_max: Option<u64>,
    /// Bytes of its header fields, and of those of its answer. Default: 16384.
    #[schemars(range(min = 1_024, max = 65_536))]
    pub(super) outgoing_header_bytes_max: Option<u32>,
    /// Requests of the plugin at one time, over all APIs and cores. Default: 64.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) outgoing_concurrency_max: Option<u32>,
    /// How long a request waits for another one to end before it fails. Default: 50.
    #[schemars(range(max = 3_600_000))]
    pub(super) outgoing_wait_ms: Option<u64>,
    /// Idle connections kept, over all cores. Default: 16.
    #[schemars(range(max = 100_000))]
    pub(super) outgoing_idle_connections_max: Option<u32>,
    /// Calls to APIs of the gateway that one call may make. Default: 8.
    #[schemars(range(max = 100_000))]
    pub(super) api_calls_max: Option<u32>,
    /// Time of one such call with its answer; the `deadline_ms` of the plugin's call ends it too. Default: 5000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(super) api_time_max_ms: Option<u64>,
    /// Bytes of its body. Default: 1048576.
    pub(super) api_request_bytes_max: Option<u64>,
    /// Bytes of its answer, body and header fields. Default: 1048576.
    pub(super) api_response_bytes_max: Option<u64>,
    /// Such calls of the plugin at one time, over all APIs and cores. Default: 64.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) api_concurrency_max: Option<u32>,
    /// How long one waits for another one to end before it fails. Default: 50.
    #[schemars(range(max = 3_600_000))]
    pub(super) api_wait_ms: Option<u64>,
}
