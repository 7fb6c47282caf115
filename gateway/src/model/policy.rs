//! A template for sessions. Names and meanings follow Tyk's policy; merging is the pipeline's matter.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::session::{AccessRight, Quota, Rate};

/// A policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its id, which sessions name.
    pub id: PolicyId,
    /// A name for people.
    pub name: String,
    /// The organisation that it belongs to.
    pub organisation: String,
    /// An inactive policy may be kept and is not applied.
    pub active: bool,
    /// Makes sessions inactive.
    pub inactive: bool,
    /// The rate, where the partition says so.
    pub rate: Rate,
    /// The quota, where the partition says so; what remains is not the policy's.
    pub quota: Quota,
    /// Depth of GraphQL queries.
    pub max_query_depth: i64,
    /// Rights, where the partition says so.
    pub access_rights: Vec<AccessRight>,
    /// Tags added to the session.
    pub tags: Vec<String>,
    /// Metadata added to the session.
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// Which parts of a session it sets; none set means all of them.
    pub partitions: Partitions,
    /// Seconds until a new key expires; zero or less never.
    pub key_expires_in: i64,
    /// What this version has no field for.
    pub extra: Vec<(String, Vec<u8>)>,
}

/// Which parts of a session a policy sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Partitions {
    /// The quota.
    pub quota: bool,
    /// The rate.
    pub rate_limit: bool,
    /// The access rights.
    pub acl: bool,
    /// The depth of queries.
    pub complexity: bool,
    /// Limits by API.
    pub per_api: bool,
}

/// Names a policy: 1 to 256 bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyId(Arc<str>);

/// A text is empty, too long, or holds control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a policy: 1 to {POLICY_ID_BYTES_MAX} bytes without control characters")]
pub struct PolicyIdInvalid;

impl PolicyId {
    /// Takes an id.
    pub fn parse(text: &str) -> Result<Self, PolicyIdInvalid> {
        if text.is_empty() || text.len() > POLICY_ID_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(PolicyIdInvalid);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Policy {
    /// A policy that sets nothing yet.
    pub fn new(id: PolicyId) -> Self {
        Self {
            id,
            name: String::new(),
            organisation: String::new(),
            active: true,
            inactive: false,
            rate: Rate::default(),
            quota: Quota::default(),
            max_query_depth: 0,
            access_rights: Vec::new(),
            tags: Vec::new(),
            metadata: BTreeMap::new(),
            partitions: Partitions::default(),
            key_expires_in: 0,
            extra: Vec::new(),
        }
    }
}

const POLICY_ID_BYTES_MAX: usize = 256;
