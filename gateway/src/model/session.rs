//! What a caller may do: rate, quota, rights, metadata.
//!
//! Names and meanings follow Tyk's session object; secrets of other authentication schemes have no place here.

use std::collections::BTreeMap;

/// A caller's session.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Session {
    /// The key that names the session.
    pub key_id: String,
    /// The organisation that the key belongs to.
    pub organisation: String,
    /// A name for people.
    pub alias: String,
    /// Tags, copied into analytics.
    pub tags: Vec<String>,
    /// Free values of the auth plugin and the operator.
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// The session's rate, where an access right has none of its own.
    pub rate: Rate,
    /// The session's quota, where an access right has none of its own.
    pub quota: Quota,
    /// Rights by API; an empty list allows every API.
    pub access_rights: Vec<AccessRight>,
    /// Ids of the policies applied to it.
    pub policies: Vec<String>,
    /// Seconds since 1970; zero or less never expires.
    pub expires: i64,
    /// Switched off by an operator.
    pub inactive: bool,
    /// How long the stored session is kept, in seconds; zero leaves it to the API.
    pub lifetime_seconds: i64,
    /// Until when the ID extractor may answer from the store, in seconds since 1970.
    pub id_extractor_deadline: i64,
    /// What happens to the stored session after it expired.
    pub post_expiry_action: PostExpiryAction,
    /// Seconds; -1 never deletes.
    pub post_expiry_grace_period: i64,
    /// How long analytics records are kept, in seconds; zero leaves it to the gateway.
    pub data_expires: i64,
    /// Whether messages are recorded in detail.
    pub detailed_recording: bool,
    /// Shares of the quota, in percent, at which the operator is told.
    pub monitor_trigger_limits: Vec<f64>,
    /// Depth of GraphQL queries.
    pub max_query_depth: i64,
    /// The OAuth client that the key was made for.
    pub oauth_client_id: String,
    /// Fingerprint of the caller's certificate.
    pub certificate: String,
    /// Certificates that the key is bound to.
    pub mtls_certificate_bindings: Vec<String>,
    /// Whether requests are signed with HMAC.
    pub hmac_enabled: bool,
    /// Whether request signatures are checked.
    pub http_signature_validation: bool,
    /// The key that checks RSA signatures.
    pub rsa_certificate_id: String,
    /// Milliseconds since 1970; zero when not known.
    pub created_ms: i64,
    /// As the store holds it.
    pub last_updated: String,
    /// Which plugin made it of an ID, under which configuration; empty otherwise. No plugin sees it or says it.
    pub maker: String,
    /// What this version has no field for.
    pub extra: Vec<(String, Vec<u8>)>,
}

/// So many requests in so many seconds; no limit where `requests` is zero or less.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rate {
    /// Requests in the period.
    pub requests: f64,
    /// The period in seconds.
    pub per_seconds: f64,
    /// Seconds to wait before another try; zero or less refuses at once.
    pub throttle_interval: f64,
    /// How many tries.
    pub throttle_retries: i32,
    /// A rate that moves in steps.
    pub smoothing: Option<RateSmoothing>,
}

/// The rate moves between a threshold and the allowance in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateSmoothing {
    /// Where it begins.
    pub threshold: i64,
    /// The share at which a step is taken.
    pub trigger: f64,
    /// The size of a step, in requests.
    pub step: i64,
    /// Seconds between steps.
    pub delay_seconds: i64,
}

/// So many requests until renewal; no quota where `max` is zero or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Requests between renewals.
    pub max: i64,
    /// Requests left.
    pub remaining: i64,
    /// When it renews, in seconds since 1970.
    pub renews: i64,
    /// Seconds from one renewal to the next; zero never renews.
    pub renewal_rate: i64,
}

/// What a session may do on one API.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccessRight {
    /// The API.
    pub api_id: String,
    /// Its name.
    pub api_name: String,
    /// Versions of it; empty allows all.
    pub versions: Vec<String>,
    /// Paths of it; empty allows all.
    pub allowed_urls: Vec<AllowedUrl>,
    /// A rate of its own.
    pub rate: Option<Rate>,
    /// A quota of its own.
    pub quota: Option<Quota>,
    /// A depth of its own.
    pub max_query_depth: Option<i64>,
    /// Rights with the same scope share one counter.
    pub allowance_scope: String,
    /// Limits of single endpoints.
    pub endpoints: Vec<EndpointLimit>,
    /// What this version has no field for.
    pub extra: Vec<(String, Vec<u8>)>,
}

/// A path that a session may call, with the methods that it may use there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedUrl {
    /// A regular expression.
    pub url: String,
    /// Methods, in upper case.
    pub methods: Vec<String>,
}

/// The rate of one method of one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointLimit {
    /// The endpoint's path.
    pub path: String,
    /// The method, in upper case.
    pub method: String,
    /// Its rate.
    pub rate: Rate,
}

/// What happens to a stored session after it expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PostExpiryAction {
    /// It stays.
    #[default]
    Retain,
    /// It goes after the grace period.
    Delete,
}

/// One change of a session, checked. See [`SessionEdit::needs_grant`].
#[derive(Debug, Clone, PartialEq)]
pub enum SessionEdit {
    /// Sets one value of the metadata.
    SetMetadata(String, serde_json::Value),
    /// Removes one value of the metadata.
    RemoveMetadata(String),
    /// Adds a tag, once.
    AddTag(String),
    /// Removes a tag.
    RemoveTag(String),
    /// Sets the alias.
    SetAlias(String),
    /// Sets the rate.
    SetRate(Rate),
    /// Sets the quota.
    SetQuota(Quota),
    /// Replaces the rights.
    SetAccessRights(Vec<AccessRight>),
    /// Replaces the policies.
    SetPolicies(Vec<String>),
    /// Sets the expiry.
    SetExpires(i64),
    /// Switches the session off or on.
    SetInactive(bool),
}

impl SessionEdit {
    /// Whether a plugin needs the grant `session-limits` for it: all but metadata, tags and alias.
    pub const fn needs_grant(&self) -> bool {
        !matches!(
            self,
            Self::SetMetadata(..) | Self::RemoveMetadata(_) | Self::AddTag(_) | Self::RemoveTag(_) | Self::SetAlias(_)
        )
    }
}

impl Session {
    /// Applies one change.
    pub fn apply(&mut self, edit: SessionEdit) {
        match edit {
            SessionEdit::SetMetadata(name, value) => {
                self.metadata.insert(name, value);
            }
            SessionEdit::RemoveMetadata(name) => {
                self.metadata.remove(&name);
            }
            SessionEdit::AddTag(tag) => {
                if !self.tags.contains(&tag) {
                    self.tags.push(tag);
                }
            }
            SessionEdit::RemoveTag(tag) => self.tags.retain(|t| *t != tag),
            SessionEdit::SetAlias(alias) => self.alias = alias,
            SessionEdit::SetRate(rate) => self.rate = rate,
            SessionEdit::SetQuota(quota) => self.quota = quota,
            SessionEdit::SetAccessRights(rights) => self.access_rights = rights,
            SessionEdit::SetPolicies(policies) => self.policies = policies,
            SessionEdit::SetExpires(expires) => self.expires = expires,
            SessionEdit::SetInactive(inactive) => self.inactive = inactive,
        }
    }
}
