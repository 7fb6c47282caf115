//! Versions of an API: which there are, and where a request says which one it wants.

use http::HeaderName;

use super::api::Origin;
use super::id::VersionName;

/// The versions of an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    /// Where a request says which one it wants.
    pub source: VersionSource,
    /// The one that a request gets which names none; `None` refuses it.
    pub default: Option<VersionName>,
    /// Whether the upstream is not told.
    pub strip: bool,
    /// At least one, each with a name of its own.
    pub list: Vec<Version>,
}

/// Where a request says which version it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionSource {
    /// In a header field.
    Header(HeaderName),
    /// In a query parameter.
    Query(String),
    /// In the first segment below the listen path.
    Path,
}

/// One version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its name, as requests and access rights have it.
    pub name: VersionName,
    /// Where its requests go, and what is put before every path; `None` leaves both to the API.
    pub upstream: Option<(Origin, String)>,
    /// When it begins to be refused, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
}

impl Versions {
    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.list.iter().any(|version| version.name.as_str() == name)
    }
}

impl Version {
    /// Whether it has an upstream of its own that is spoken to over TLS.
    pub fn speaks_tls(&self) -> bool {
        self.upstream.as_ref().is_some_and(|(origin, _)| origin.tls)
    }
}

impl std::fmt::Display for VersionSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Query(name) => write!(f, "query parameter `{name}`"),
            Self::Path => f.write_str("the first segment below the listen path"),
        }
    }
}
