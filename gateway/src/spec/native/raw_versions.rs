//! The versions of an API as the configuration file has them (`versions`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The versions of an API. A request has one of them, or is refused.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Versions {
    /// Where a request says which version it wants.
    pub(super) from: VersionFrom,
    /// The name of the header field or query parameter.
    pub(super) name: Option<String>,
    /// The version that a request gets which names none. Default: such a request is refused.
    pub(super) default: Option<String>,
    /// Whether the version is taken off before the upstream, which is told it otherwise, the default too.
    #[serde(default)]
    pub(super) strip: bool,
    /// All versions: their names, or tables.
    pub(super) list: Vec<Version>,
}

/// Where a request says which version it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum VersionFrom {
    /// In a header field.
    Header,
    /// In a query parameter.
    Query,
    /// In the first segment below the listen path.
    Path,
}

/// One version: its name alone, or a table.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Version {
    /// Its name.
    Name(String),
    /// Its name, and what is special about it.
    Full(FullVersion),
}

/// One version.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FullVersion {
    /// Its name: 1 to 128 letters, digits, `-`, `_`, `.`.
    pub(super) name: String,
    /// Where its requests go, instead of `upstream.url`. All else of `upstream` is as for the other versions.
    pub(super) url: Option<String>,
    /// When it begins to be refused, such as `2027-01-01T00:00:00Z`. Until then answers tell this time.
    pub(super) expires: Option<String>,
}
