//! What the operator says of plugins: where a hook is, what a plugin may do, how much it may use.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{ApiId, PluginName};
use super::outgoing::{Destination, OutgoingHttp};
use super::provenance::Provenance;
use super::secret::PluginSecret;
use super::source::Source;

/// A point in the life of a request at which plugins run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hook {
    /// Before anything else.
    Pre,
    /// Instead of, or beside, built-in authentication.
    Auth,
    /// Right after authentication.
    PostAuth,
    /// On matching method and path.
    Endpoint,
    /// Last before the upstream.
    Post,
    /// On the way back.
    Response,
    /// After the response has left.
    Analytics,
}

impl Hook {
    /// All hooks, in the order in which a request meets them.
    pub const ALL: [Self; 7] =
        [Self::Pre, Self::Auth, Self::PostAuth, Self::Endpoint, Self::Post, Self::Response, Self::Analytics];

    /// The name in definitions, metrics and logs. The contract writes `post-auth` where this is `post_auth`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pre => "pre",
            Self::Auth => "auth",
            Self::PostAuth => "post_auth",
            Self::Endpoint => "endpoint",
            Self::Post => "post",
            Self::Response => "response",
            Self::Analytics => "analytics",
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a failing plugin means for its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The request ends with an error.
    #[default]
    Reject,
    /// The request goes on as if the plugin were not there. Never for `auth` and `analytics`.
    Continue,
}

/// The ways in which a plugin can fail, each counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// An instance could not be made.
    Load,
    /// The guest stopped itself or broke a rule of WebAssembly: `panic!`, stack overflow, out of bounds.
    Trap,
    /// It used up its fuel.
    Fuel,
    /// Its time was over.
    Deadline,
    /// It asked for more memory than it may have, and ended over it.
    Memory,
    /// It went over a limit of host calls.
    HostCall,
    /// What it returned is not valid.
    BadOutput,
    /// No instance was free in time.
    Busy,
    /// It said so itself, with `err`.
    Plugin,
}

impl FailureKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Load,
        Self::Trap,
        Self::Fuel,
        Self::Deadline,
        Self::Memory,
        Self::HostCall,
        Self::BadOutput,
        Self::Busy,
        Self::Plugin,
    ];

    /// The name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Trap => "trap",
            Self::Fuel => "fuel",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::HostCall => "host_call",
            Self::BadOutput => "bad_output",
            Self::Busy => "busy",
            Self::Plugin => "plugin_error",
        }
    }
}

/// What an operator can grant to a plugin, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Capability {
    /// Lines in the gateway's log.
    Log,
    /// Values kept between requests.
    Kv,
    /// Metrics on the gateway's page.
    Metrics,
    /// Stored sessions by their tokens, to read.
    SessionsRead,
    /// The same, to change as well.
    Sessions,
    /// Secrets by name.
    Secrets,
    /// `wasi:http/outgoing-handler`.
    OutgoingHttp,
    /// Send a request to another host or API.
    Upstream,
    /// Call other APIs of the gateway.
    Apis,
    /// Edit rate, quota, rights, expiry of a session.
    SessionLimits,
}

impl Capability {
    /// All capabilities.
    pub const ALL: [Self; 10] = [
        Self::Log,
        Self::Kv,
        Self::Metrics,
        Self::SessionsRead,
        Self::Sessions,
        Self::Secrets,
        Self::OutgoingHttp,
        Self::Upstream,
        Self::Apis,
        Self::SessionLimits,
    ];

    /// The name in definitions and in `describe`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Kv => "kv",
            Self::Metrics => "metrics",
            Self::SessionsRead => "sessions-read",
            Self::Sessions => "sessions",
            Self::Secrets => "secrets",
            Self::OutgoingHttp => "outgoing-http",
            Self::Upstream => "upstream",
            Self::Apis => "apis",
            Self::SessionLimits => "session-limits",
        }
    }

    /// What an operator writes beside the grant, as the end of a sentence.
    pub const fn beside(self) -> &'static str {
        match self {
            Self::OutgoingHttp => " and where it may go to its `outgoing_http.allow`",
            Self::Secrets => " and where they come from to its `secrets`",
            Self::Apis => " and their ids to its `apis.allow`",
            Self::Upstream => " and where requests may go to its `upstream.allow`, or its `apis.allow`",
            _ => "",
        }
    }

    /// Finds a capability by its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.as_str() == name)
    }

    /// Whether who has this one has the other one too.
    pub fn includes(self, other: Self) -> bool {
        self != other && Self::granted([self]).contains(&other)
    }

    /// What a plugin has with these grants: each once, in order, with what it includes.
    pub fn granted(grants: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut all: Vec<Self> = grants.into_iter().collect();
        if all.contains(&Self::Sessions) {
            all.push(Self::SessionsRead);
        }
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// A plugin as the configuration declares it.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginSpec {
    /// The name by which APIs use it.
    pub name: PluginName,
    /// Where its component is.
    pub source: Source,
    /// Where that must come from.
    pub provenance: Provenance,
    /// What it may do beyond computing.
    pub grants: Vec<Capability>,
    /// Where it may send requests, with the capability `outgoing-http`.
    pub outgoing_http: OutgoingHttp,
    /// What it may send without knowing it, with the capability `secrets`.
    pub secrets: Vec<PluginSecret>,
    /// Where it may send the requests on that it is called for, instead of the API's upstream, with the capability `upstream`.
    pub upstream: Vec<Destination>,
    /// The APIs that it may call, with the capability `apis`, and send requests on to, with `upstream`.
    pub apis: Vec<ApiId>,
    /// How instances are used.
    pub isolation: Isolation,
    /// What one call may use.
    pub limits: Limits,
    /// When it is called no more for a while.
    pub quarantine: Quarantine,
}

/// When a plugin that fails is called no more for a while, and when it is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Quarantine {
    /// Whether it ever is.
    pub enabled: bool,
    /// Failures in the window that are borne.
    pub failures_max: u32,
    /// The window.
    pub window: Duration,
    /// The share of calls that must fail as well: a caller whose own requests fail is not to take the plugin from others.
    pub share_min: f64,
    /// The pause before the first probe; it doubles with each probe that fails.
    pub pause_min: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self {
            enabled: true,
            failures_max: 20,
            window: Duration::from_secs(10),
            share_min: 0.9,
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
        }
    }
}

/// How many calls an instance serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Every call gets a fresh instance: nothing leaks from one caller to the next.
    Request,
    /// Instances are kept, for the same API and configuration, and retired as told here, and after any failure.
    Reuse {
        /// Calls after which an instance is retired.
        calls_max: u64,
        /// Bytes of linear memory above which an instance is retired after its call.
        memory_high_water_bytes: u64,
    },
}

/// What one call of a plugin may use. Every key has a default that is safe for a stranger's plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Fuel for a call, about one a WebAssembly instruction.
    pub fuel: u64,
    /// Wall time of a call, host calls included.
    pub deadline: Duration,
    /// Linear memory of an instance, in bytes.
    pub memory_bytes_max: u64,
    /// Elements of its tables.
    pub table_elements_max: u64,
    /// Bytes that host calls of one call may carry from the guest.
    pub host_call_bytes_max: u64,
    /// Number of host calls (`kv`, `metrics`, `sessions`) of one call.
    pub host_calls_max: u32,
    /// Those among them that ask for a session by its token, or change one: each may be a guess.
    pub session_calls_max: u32,
    /// What each call into the gateway costs of the fuel, those of WASI included.
    pub host_call_fuel: u64,
    /// What each byte costs that such a call carries.
    pub host_call_fuel_per_byte: u64,
    /// Log lines of one call; more are dropped and counted.
    pub log_lines_max: u32,
    /// Log bytes of one call; more are dropped and counted.
    pub log_bytes_max: u64,
    /// Random bytes of one call.
    pub random_bytes_max: u64,
    /// What the clocks of the plugin are rounded down to.
    pub clock_grain: Duration,
    /// The largest body handed to the plugin, whatever it declares.
    pub body_in_bytes_max: u64,
    /// The largest body taken from the plugin.
    pub body_out_bytes_max: u64,
    /// Header fields in what the plugin returns.
    pub header_count_max: u32,
    /// Bytes of names and values of header fields in what the plugin returns.
    pub header_bytes_max: u64,
    /// Calls of the plugin at one time, over all APIs and cores.
    pub concurrency_max: u32,
    /// How long a call waits for an instance before it fails as busy.
    pub instance_wait: Duration,
    /// The largest component file.
    pub file_bytes_max: u64,
    /// Compile time.
    pub compile_time_max: Duration,
    /// Memory of the compiler.
    pub compile_memory_bytes_max: u64,
    /// What it may be compiled to, in bytes.
    pub compiled_bytes_max: u64,
    /// Functions of all core modules of the component.
    pub functions_max: u32,
    /// Core modules and components within the component.
    pub modules_max: u32,
    /// Types of the component and all within it.
    pub types_max: u32,
    /// How deep components and modules may lie within one another.
    pub nesting_max: u32,
    /// Keys that the plugin may hold in `kv`, for each API.
    pub kv_keys_max: u32,
    /// Bytes of a key.
    pub kv_key_bytes_max: u32,
    /// Bytes of a value.
    pub kv_value_bytes_max: u32,
    /// Bytes of all keys and values of the plugin in `kv`, with their overhead, for each API.
    pub kv_bytes_max: u64,
    /// Requests that one call may send.
    pub outgoing_calls_max: u32,
    /// Time of one such request, from its sending to the last byte of its answer. The call's deadline ends it too.
    pub outgoing_time_max: Duration,
    /// Bytes of its body.
    pub outgoing_request_bytes_max: u64,
    /// Bytes of the body of its answer.
    pub outgoing_response_bytes_max: u64,
    /// Bytes of its header fields, and of those of its answer.
    pub outgoing_header_bytes_max: u32,
    /// Requests of the plugin at one time, over all APIs and cores.
    pub outgoing_concurrency_max: u32,
    /// How long a request waits for another one to end before it fails.
    pub outgoing_wait: Duration,
    /// Idle connections kept, over all cores.
    pub outgoing_idle_connections_max: u32,
    /// Calls to APIs of the gateway that one call may make.
    pub api_calls_max: u32,
    /// Time of one such call, from its beginning to the last byte of its answer. The deadline of the plugin's call ends it too.
    pub api_time_max: Duration,
    /// Bytes of its body.
    pub api_request_bytes_max: u64,
    /// Bytes of its answer: of the body, and of names and values of header fields.
    pub api_response_bytes_max: u64,
    /// Such calls of the plugin at one time, over all APIs and cores.
    pub api_concurrency_max: u32,
    /// How long one waits for another one to end before it fails.
    pub api_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 50_000_000,
            deadline: Duration::from_millis(100),
            memory_bytes_max: 64 << 20,
            table_elements_max: 20_000,
            host_call_bytes_max: 4 << 20,
            host_calls_max: 1_000,
            session_calls_max: 20,
            // About what the work takes, measured in the guest's own instructions.
            host_call_fuel: 500,
            host_call_fuel_per_byte: 1,
            log_lines_max: 20,
            log_bytes_max: 8 << 10,
            random_bytes_max: 64 << 10,
            clock_grain: Duration::from_millis(1),
            body_in_bytes_max: 1 << 20,
            body_out_bytes_max: 4 << 20,
            header_count_max: 128,
            header_bytes_max: 32 << 10,
            concurrency_max: 256,
            instance_wait: Duration::from_millis(50),
            file_bytes_max: 32 << 20,
            compile_time_max: Duration::from_secs(60),
            compile_memory_bytes_max: 1 << 30,
            compiled_bytes_max: 256 << 20,
            functions_max: 100_000,
            modules_max: 100,
            types_max: 100_000,
            nesting_max: 8,
            kv_keys_max: 10_000,
            kv_key_bytes_max: 256,
            kv_value_bytes_max: 64 << 10,
            kv_bytes_max: 8 << 20,
            outgoing_calls_max: 8,
            outgoing_time_max: Duration::from_secs(5),
            outgoing_request_bytes_max: 1 << 20,
            outgoing_response_bytes_max: 1 << 20,
            outgoing_header_bytes_max: 16 << 10,
            outgoing_concurrency_max: 64,
            outgoing_wait: Duration::from_millis(50),
            outgoing_idle_connections_max: 16,
            api_calls_max: 8,
            api_time_max: Duration::from_secs(5),
            api_request_bytes_max: 1 << 20,
            api_response_bytes_max: 1 << 20,
            api_concurrency_max: 64,
            api_wait: Duration::from_millis(50),
        }
    }
}
