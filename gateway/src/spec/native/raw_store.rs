//! The store as the configuration file writes it. Every comment here is also the description in the JSON Schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw::millis;
use crate::model::store::{CacheSettings, EmbeddedSettings, RedisSettings, StoreLimits};

/// Where keys, policies and what was used of rates and quotas are kept.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    /// The kind of store.
    pub(super) kind: StoreKind,
    /// With `kind: embedded`: the file.
    pub(super) embedded: Option<Embedded>,
    /// With `kind: redis`: the server or cluster.
    pub(super) redis: Option<Redis>,
    /// Sessions, and as many policies. On Redis the server's own memory limit rules.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(super) records_max: usize,
    /// Of these the sessions that plugins made, of all APIs together. Default: half of `records_max`. On Redis `sessions_max` of
    /// each API rules.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(super) plugin_sessions_max: Option<usize>,
    /// Bytes of one session or policy as JSON.
    #[schemars(range(min = 1_024, max = 16_777_216))]
    pub(super) record_bytes_max: usize,
    /// Counters of rates and quotas held in this process.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub(super) counters_max: usize,
    /// Of these the counters of sessions that plugins made, of all APIs together. Default: half of `counters_max`.
    #[schemars(range(min = 9, max = 1_000_000_000))]
    pub(super) plugin_counters_max: Option<usize>,
    /// Sessions remembered in this process.
    pub(super) cache: Cache,
    /// What happens to a request that has limits while the store that counts them is away.
    pub(super) away: Away,
}

impl Default for Store {
    fn default() -> Self {
        let limits = StoreLimits::default();
        Self {
            kind: StoreKind::default(),
            embedded: None,
            redis: None,
            records_max: limits.records_max,
            plugin_sessions_max: None,
            record_bytes_max: limits.record_bytes_max,
            counters_max: limits.counters_max,
            plugin_counters_max: None,
            cache: Cache::default(),
            away: Away::Local,
        }
    }
}

/// What happens to a request that has limits while the store that counts them is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Away {
    /// It is counted by this gateway alone.
    Local,
    /// It is not counted.
    Allow,
    /// It is refused with 503.
    Deny,
}

/// The kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StoreKind {
    /// In memory: gone with the process.
    Memory,
    /// In a file of this gateway alone.
    #[default]
    Embedded,
    /// In Redis, which gateways share.
    Redis,
}

/// A store in a file.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Embedded {
    /// The file. One gateway at a time has it open. Default: `stile-data/NAME.redb` beside the configuration file
    /// `NAME.yaml`; where that cannot be written, below `stile` in `$XDG_STATE_HOME`, or in `~/.local/state`.
    pub(super) path: Option<String>,
    /// Writes that are committed together, at most.
    #[schemars(range(min = 1, max = 100_000))]
    pub(super) batch_max: usize,
    /// Calls that may wait for the file; more are refused as busy.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) queue_max: usize,
    /// Units of quota written down ahead of use, at most. After a crash a caller's quota counts at most so many too high.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) quota_block: u64,
    /// How long changes of plugins' values (`kv`) wait to be written together. A crash costs them as much at most.
    #[schemars(range(min = 1, max = 60_000))]
    pub(super) kv_write_interval_ms: u64,
    /// Bytes of the file's pages in memory.
    #[schemars(range(min = 1_048_576))]
    pub(super) cache_bytes: usize,
    /// The longest that a call may take.
    #[schemars(range(min = 1, max = 600_000))]
    pub(super) deadline_ms: u64,
}

impl Default for Embedded {
    fn default() -> Self {
        let embedded = EmbeddedSettings::new(std::path::PathBuf::new());
        Self {
            path: None,
            batch_max: embedded.batch_max,
            queue_max: embedded.queue_max,
            quota_block: embedded.quota_block,
            kv_write_interval_ms: millis(embedded.kv_write_interval),
            cache_bytes: embedded.cache_bytes,
            deadline_ms: millis(embedded.deadline),
        }
    }
}

/// A store on Redis 6 or later, alone or as a cluster.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Redis {
    /// Host and port, such as `redis.example.com:6379`; several for a cluster, of which one must be reached to begin with.
    #[schemars(length(min = 1, max = 64))]
    pub(super) addresses: Vec<String>,
    /// Whether it is a cluster.
    pub(super) cluster: bool,
    /// The database's number; a cluster has none but 0.
    #[schemars(range(max = 65_535))]
    pub(super) database: u32,
    /// The user of an ACL.
    pub(super) username: Option<String>,
    /// The password. Best taken from the environment.
    pub(super) password: Option<String>,
    /// TLS. Without it the connection is in cleartext.
    pub(super) tls: Option<RedisTls>,
    /// The longest that a call may take, connecting included.
    #[schemars(range(min = 1, max = 600_000))]
    pub(super) deadline_ms: u64,
    /// Failures in a row after which calls fail at once, until the server answers a probe.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) failures_max: u32,
    /// The time from a failure to the first probe. It doubles up to `backoff_max_ms`.
    #[schemars(range(min = 1, max = 600_000))]
    pub(super) backoff_min_ms: u64,
    /// The longest time between probes.
    #[schemars(range(min = 1, max = 600_000))]
    pub(super) backoff_max_ms: u64,
    /// How often the connection for news from other gateways is tried for life.
    #[schemars(range(min = 10, max = 600_000))]
    pub(super) ping_interval_ms: u64,
}

impl Default for Redis {
    fn default() -> Self {
        let redis = RedisSettings::default();
        Self {
            addresses: redis.addresses.iter().map(|(host, port)| format!("{host}:{port}")).collect(),
            cluster: redis.cluster,
            database: redis.database,
            username: redis.username,
            password: redis.password,
            tls: None,
            deadline_ms: millis(redis.deadline),
            failures_max: redis.failures_max,
            backoff_min_ms: millis(redis.backoff_min),
            backoff_max_ms: millis(redis.backoff_max),
            ping_interval_ms: millis(redis.ping_interval),
        }
    }
}

/// TLS to Redis.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RedisTls {
    /// The authority of the server's certificate, in PEM. Default: the system's.
    pub(super) ca_file: Option<String>,
    /// The gateway's own certificate chain, in PEM.
    pub(super) certificate: Option<String>,
    /// The private key of that certificate, in PEM.
    pub(super) key: Option<String>,
}

/// Sessions remembered in this process.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cache {
    /// Sessions in it.
    #[schemars(range(max = 100_000_000))]
    pub(super) entries_max: usize,
    /// Keys in it that are known to have no session.
    #[schemars(range(max = 100_000_000))]
    pub(super) negative_max: usize,
    /// The age at which a session is read again, even if no change was told.
    #[schemars(range(max = 86_400_000))]
    pub(super) age_max_ms: u64,
    /// The same, for keys without a session.
    #[schemars(range(max = 86_400_000))]
    pub(super) negative_age_max_ms: u64,
    /// How old an answer may be that is given while the store is away.
    #[schemars(range(max = 86_400_000))]
    pub(super) away_age_max_ms: u64,
}

impl Default for Cache {
    fn default() -> Self {
        let cache = CacheSettings::default();
        Self {
            entries_max: cache.entries_max,
            negative_max: cache.negative_max,
            age_max_ms: millis(cache.age_max),
            negative_age_max_ms: millis(cache.negative_age_max),
            away_age_max_ms: millis(cache.away_age_max),
        }
    }
}
