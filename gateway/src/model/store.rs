//! Settings of the store: where sessions, policies and counters are kept, and how much of them.

use std::path::PathBuf;
use std::time::Duration;

/// Where what outlives a request is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreSettings {
    /// The kind of store.
    pub kind: StoreKind,
    /// How much may be kept.
    pub limits: StoreLimits,
    /// The cache of sessions.
    pub cache: CacheSettings,
    /// What happens to requests with limits while the store is away.
    pub away: Away,
}

/// What happens to a request that has limits while the store that counts them is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Away {
    /// It is counted by this gateway alone.
    #[default]
    Local,
    /// It is not counted.
    Allow,
    /// It is refused with 503.
    Deny,
}

impl Away {
    /// As the configuration writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// The kind of store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum StoreKind {
    /// In memory: gone with the process.
    #[default]
    Memory,
    /// In a file of this gateway alone.
    Embedded(EmbeddedSettings),
    /// In Redis, which gateways share.
    Redis(RedisSettings),
}

/// How much may be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreLimits {
    /// Sessions, and as many policies. On Redis the server's own memory limit rules.
    pub records_max: usize,
    /// Of these the sessions that plugins made, of all APIs together. On Redis each API's own limit rules.
    pub plugin_sessions_max: usize,
    /// Bytes of one session or policy as JSON.
    pub record_bytes_max: usize,
    /// Counters of rates and quotas held in this process.
    pub counters_max: usize,
    /// Of these the counters of sessions that plugins made, of all APIs together.
    pub plugin_counters_max: usize,
    /// Bytes of the values of all plugins, keys and overhead included. On Redis the server's own memory limit rules.
    pub kv_bytes_max: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            records_max: 1_000_000,
            plugin_sessions_max: 500_000,
            record_bytes_max: 64 << 10,
            counters_max: 1_000_000,
            plugin_counters_max: 500_000,
            kv_bytes_max: 64 << 20,
        }
    }
}

/// A store in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedSettings {
    /// The file. One process at a time has it open.
    pub path: PathBuf,
    /// Writes that are committed together, at most.
    pub batch_max: usize,
    /// Calls that may wait for the file; more are refused as busy.
    pub queue_max: usize,
    /// Units of quota written down ahead of use, at most; never more than a twentieth of the quota. After a crash a caller's
    /// quota counts at most so many too high.
    pub quota_block: u64,
    /// How long changes of plugins' values may wait to be written together: what a crash costs of them.
    pub kv_write_interval: Duration,
    /// Bytes of the file's pages in memory.
    pub cache_bytes: usize,
    /// The longest that a call may take.
    pub deadline: Duration,
}

impl EmbeddedSettings {
    /// The defaults for a file.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            batch_max: 256,
            queue_max: 4_096,
            quota_block: 100,
            kv_write_interval: Duration::from_millis(100),
            cache_bytes: 32 << 20,
            deadline: Duration::from_secs(5),
        }
    }
}

/// A store on Redis 6.2 or later, alone or as a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisSettings {
    /// Host and port; several for a cluster, of which one must be reached to begin with.
    pub addresses: Vec<(String, u16)>,
    /// Whether it is a cluster.
    pub cluster: bool,
    /// The database's number; a cluster has none but 0.
    pub database: u32,
    /// The user of an ACL.
    pub username: Option<String>,
    /// The password.
    pub password: Option<String>,
    /// TLS; cleartext where there is none.
    pub tls: Option<RedisTls>,
    /// The longest that a call may take, connecting included.
    pub deadline: Duration,
    /// Failures in a row after which calls fail at once, until the server answers a probe.
    pub failures_max: u32,
    /// The time from a failure to the first probe. It doubles up to `backoff_max`.
    pub backoff_min: Duration,
    /// The longest time between probes and between attempts to subscribe.
    pub backoff_max: Duration,
    /// How often the subscription is tried for life. It counts as broken when no answer comes within `deadline`.
    pub ping_interval: Duration,
    /// Whose time rates are counted by.
    pub clock: RedisClock,
}

/// TLS to Redis.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedisTls {
    /// The authority of the server's certificate, in PEM; the system's where there is none.
    pub authority: Option<PathBuf>,
    /// The gateway's own certificate and key, in PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Whose time rates are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RedisClock {
    /// The server's: gateways whose clocks differ count alike.
    #[default]
    Server,
    /// The gateway's, which a test can move.
    Gateway,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            addresses: vec![("127.0.0.1".to_owned(), 6379)],
            cluster: false,
            database: 0,
            username: None,
            password: None,
            tls: None,
            deadline: Duration::from_millis(500),
            failures_max: 5,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            ping_interval: Duration::from_secs(1),
            clock: RedisClock::Server,
        }
    }
}

impl std::fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password stays out.
        f.debug_struct("RedisSettings")
            .field("addresses", &self.addresses)
            .field("cluster", &self.cluster)
            .field("database", &self.database)
            .field("username", &self.username)
            .field("tls", &self.tls)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// The cache of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// Sessions in it.
    pub entries_max: usize,
    /// Keys in it that are known to have no session.
    pub negative_max: usize,
    /// The age at which a session is read again, even if no change was told.
    pub age_max: Duration,
    /// The same, for keys without a session.
    pub negative_age_max: Duration,
    /// How old an answer may be that is given while the store is away.
    pub away_age_max: Duration,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            entries_max: 100_000,
            negative_max: 10_000,
            age_max: Duration::from_secs(10),
            negative_age_max: Duration::from_secs(2),
            away_age_max: Duration::from_secs(300),
        }
    }
}
