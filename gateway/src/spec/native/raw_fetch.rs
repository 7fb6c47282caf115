//! How plugins are fetched that are elsewhere, as the configuration file has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::raw::millis;
use crate::model::gateway;

/// How plugins are fetched whose `file` is a URL, and how long what was fetched is kept: in `fetched` of `runtime.cache_dir`.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Fetch {
    /// Time for one plugin, with all that is asked on the way.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub(super) time_max_ms: u64,
    /// How often an answer may lead on to another place, of the same scheme.
    #[schemars(range(max = 20))]
    pub(super) redirects_max: u32,
    /// Bytes of the files that are kept.
    #[schemars(range(min = 1))]
    pub(super) cache_bytes_max: u64,
    /// How long a file is kept that nobody uses.
    #[schemars(range(min = 1, max = 315_360_000_000_u64))]
    pub(super) cache_age_max_ms: u64,
    /// Certificate authorities in PEM. Default: the system's.
    pub(super) ca_file: Option<String>,
    /// After a fetch that failed: how long until it is tried again, without anybody asking; twice as long after each that fails
    /// too.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) retry_pause_min_ms: u64,
    /// The longest of these pauses.
    #[schemars(range(min = 1, max = 86_400_000))]
    pub(super) retry_pause_max_ms: u64,
    /// Who the gateway is to servers and registries that want to know.
    pub(super) accounts: Vec<Account>,
}

impl Default for Fetch {
    fn default() -> Self {
        let fetch = gateway::FetchSettings::default();
        Self {
            time_max_ms: millis(fetch.time_max),
            redirects_max: fetch.redirects_max,
            cache_bytes_max: fetch.cache_bytes_max,
            cache_age_max_ms: millis(fetch.cache_age_max),
            ca_file: None,
            retry_pause_min_ms: millis(fetch.retry_pause_min),
            retry_pause_max_ms: millis(fetch.retry_pause_max),
            accounts: Vec::new(),
        }
    }
}

/// An account at a server or registry that has plugins.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Account {
    /// Scheme and host with a port or without: `https://registry.example.com`. `http://` for this machine only.
    pub(super) url: String,
    /// The server that gives out tokens for this registry, where that is another one. It is told the password too.
    pub(super) token_server: Option<String>,
    /// The account's name: 1 to 256 visible ASCII characters without a colon.
    pub(super) username: String,
    /// Where its password is: in `env` or in `file`.
    pub(super) password: Password,
}

/// Where a password is.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Password {
    /// The environment variable that has it.
    pub(super) env: Option<String>,
    /// The file that has it, without the line break at its end. Relative to the file that names it.
    pub(super) file: Option<String>,
}
