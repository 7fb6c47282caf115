//! The gateway's own settings: addresses, limits, logs, the memory that plugins share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::account::Account;
use super::api::Api;
use super::id::ApiId;
use super::outgoing::Destination;
use super::plugin::{Capability, PluginSpec};
use super::policy::Policy;
use super::store::StoreSettings;

/// The whole configuration, read and checked.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// The files that it was read from, the main one first, and the folders that patterns of files name.
    pub sources: Vec<PathBuf>,
    /// How changed files are taken up.
    pub reload: Reload,
    /// Where callers connect.
    pub listeners: Vec<Listener>,
    /// The control port.
    pub control: Control,
    /// Where keys, policies and counters are kept.
    pub store: StoreSettings,
    /// Whether nobody named the store's file: where it cannot be written, start-up takes another one.
    pub store_is_unnamed: bool,
    /// Threads that serve requests; one for each core by default.
    pub workers: usize,
    /// Proxies whose `X-Forwarded-*` and `X-Request-Id` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What callers may use.
    pub limits: ServerLimits,
    /// What all plugins together may use.
    pub runtime: Runtime,
    /// How plugins are fetched that are elsewhere.
    pub fetch: FetchSettings,
    /// Who it is to the servers that have them, each once.
    pub accounts: Vec<Account>,
    /// What is logged.
    pub log: Log,
    /// Where analytics records go.
    pub analytics: AnalyticsSink,
    /// The plugins that APIs may use.
    pub plugins: Vec<PluginSpec>,
    /// The APIs.
    pub apis: Vec<Api>,
    /// Policies of files, each id once. They are read-only, and rule where the store has one of the same id: what is under
    /// version control is not changed beside it.
    pub policies: Vec<Policy>,
}

/// The control port: health, metrics, keys and policies.
#[derive(Clone, PartialEq, Eq)]
pub struct Control {
    /// Address and port; port 0 takes any.
    pub address: SocketAddr,
    /// What a request for keys and policies must carry; `None` has start-up make one.
    pub secret: Option<String>,
    /// Whether a key without rights and policies may be made, which may call every API.
    pub allow_master_keys: bool,
    /// Bytes of a request's body.
    pub body_bytes_max: usize,
    /// Connections at one time.
    pub connections_max: usize,
}

impl Control {
    /// The defaults for an address.
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, secret: None, allow_master_keys: false, body_bytes_max: 256 << 10, connections_max: 64 }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out.
        f.debug_struct("Control")
            .field("address", &self.address)
            .field("allow_master_keys", &self.allow_master_keys)
            .field("body_bytes_max", &self.body_bytes_max)
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

/// One address on which callers connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address and port; port 0 takes any.
    pub address: SocketAddr,
    /// Certificate and key; cleartext where there is none.
    pub tls: Option<ListenerTls>,
}

/// Files of a listener's certificate. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// The chain, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

/// How changed definitions and plugin files are taken up while the gateway runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// Whether files are watched. The control port and SIGHUP reload in any case.
    pub watch: bool,
    /// How long files must be left alone before they are read: who writes several wants them read together.
    pub settle: Duration,
    /// How often files are looked at where the system tells of no changes.
    pub poll: Duration,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: true, settle: Duration::from_millis(20), poll: Duration::from_secs(2) }
    }
}

/// What callers may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerLimits {
    /// Connections at one time, over all listeners and cores.
    pub connections_max: usize,
    /// Bytes of a request's head, or of a header list in HTTP/2.
    pub header_bytes_max: usize,
    /// Header fields of a request.
    pub header_count_max: usize,
    /// Time to send a request's head, from the first byte or, on a fresh connection, from its opening.
    pub header_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub idle_timeout: Duration,
    /// TLS handshake.
    pub tls_handshake_timeout: Duration,
    /// Streams at one time on an HTTP/2 connection.
    pub http2_streams_max: u32,
    /// Age at which an HTTP/2 connection is asked to end (`GOAWAY`).
    pub http2_connection_age_max: Duration,
    /// After an answer that left before its request had come as a whole: how long the caller may be silent while what
    /// it still sends is read and dropped.
    pub linger_timeout: Duration,
    /// How long that may take in all.
    pub linger_time_max: Duration,
    /// How much may come.
    pub linger_bytes_max: u64,
    /// How long requests in flight may take after SIGTERM.
    pub drain_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            header_bytes_max: 32 << 10,
            // More than 100 cost hyper an allocation for each request.
            header_count_max: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            tls_handshake_timeout: Duration::from_secs(10),
            http2_streams_max: 128,
            http2_connection_age_max: Duration::from_secs(3600),
            linger_timeout: Duration::from_secs(5),
            linger_time_max: Duration::from_secs(30),
            linger_bytes_max: 64 << 20,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// What all plugins together may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Instances at one time; `None` lets start-up choose by the machine.
    pub instances_max: Option<u32>,
    /// Linear memory of all instances, in bytes; `None` takes half of what the machine or its cgroup has.
    pub memory_bytes_max: Option<u64>,
    /// Of instances and of memory: the part that one plugin may take of all there are, in per cent.
    pub plugin_share_percent: u32,
    /// The largest linear memory that any plugin's limit may name.
    pub instance_memory_bytes_max: u64,
    /// Bytes of linear memory that stay resident in a slot between calls.
    pub keep_resident_bytes: usize,
    /// Where compiled plugins are kept; `None` takes `stile` in the user's cache folder.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of that folder.
    pub cache_bytes_max: u64,
    /// The time between two looks at running guests.
    pub tick: Duration,
    /// Plugins that may be compiled at one time.
    pub compile_slots: usize,
    /// Threads that compile one plugin.
    pub compile_threads: usize,
    /// What any plugin may be granted; `None` for all that there is.
    pub grants_max: Option<Vec<Capability>>,
    /// Where any plugin may be allowed to send requests; `None` for anywhere.
    pub outgoing_http_max: Option<Vec<Destination>>,
    /// Where any plugin may be allowed to send callers' requests on; `None` for anywhere.
    pub upstream_max: Option<Vec<Destination>>,
    /// APIs that any plugin may be allowed to call, or to send requests on to; `None` for all of them.
    pub apis_max: Option<Vec<ApiId>>,
    /// How deep requests may come from requests, by calls of plugins to APIs and by being sent on to them.
    pub api_depth_max: u32,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            instances_max: None,
            memory_bytes_max: None,
            plugin_share_percent: 75,
            instance_memory_bytes_max: 256 << 20,
            keep_resident_bytes: 256 << 10,
            cache_dir: None,
            cache_bytes_max: 1 << 30,
            tick: Duration::from_micros(500),
            compile_slots: 1,
            // Compiling is not urgent, and requests need the cores.
            compile_threads: 1,
            grants_max: None,
            outgoing_http_max: None,
            upstream_max: None,
            apis_max: None,
            api_depth_max: 3,
        }
    }
}

/// How plugins are fetched that are elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSettings {
    /// Time for one of them, with all that is asked on the way.
    pub time_max: Duration,
    /// How often an answer may lead on to another place.
    pub redirects_max: u32,
    /// Bytes of the files that are kept.
    pub cache_bytes_max: u64,
    /// How long a file is kept that nobody uses.
    pub cache_age_max: Duration,
    /// Certificate authorities in PEM; the system's where there is none.
    pub ca_file: Option<PathBuf>,
    /// After a fetch that failed: how long until it is tried again. Twice as long after each that fails too.
    pub retry_pause_min: Duration,
    /// The longest of these pauses.
    pub retry_pause_max: Duration,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            time_max: Duration::from_secs(60),
            redirects_max: 5,
            cache_bytes_max: 1 << 30,
            cache_age_max: Duration::from_secs(30 * 86_400),
            ca_file: None,
            retry_pause_min: Duration::from_secs(1),
            retry_pause_max: Duration::from_secs(300),
        }
    }
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Text, JSON, or text on a terminal and JSON otherwise.
    pub format: LogFormat,
    /// A filter such as `info` or `info,stile::plugin=debug`.
    pub filter: String,
    /// Which requests get a line.
    pub access: AccessLog,
}

/// The shape of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Text.
    Text,
    /// JSON, one object a line.
    Json,
}

/// Which requests get a line in the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessLog {
    /// None.
    Off,
    /// Those that ended with a status of 500 or above.
    #[default]
    Errors,
    /// All.
    All,
}

/// Where analytics records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnalyticsSink {
    /// The target.
    pub target: AnalyticsTarget,
    /// Records that may wait; more are dropped and counted.
    pub queue_max: usize,
    /// Records handed to an analytics plugin at once, at most.
    pub batch_max: usize,
}

/// The kind of sink.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AnalyticsTarget {
    /// Nowhere.
    Off,
    /// The gateway's log.
    #[default]
    Log,
    /// A file, one JSON object a line, appended.
    File(PathBuf),
}
