//! Making, reading and changing sessions.

use crate::types::{AccessRight, MetadataValue, PostExpiryAction, Quota, Rate, Session, SessionEdit};

impl Session {
    /// A session for an `#[auth]` function to return, kept by the gateway under `token`: whatever names this caller and
    /// no other. It has no limits, never expires and may call every version of this API.
    #[must_use]
    pub fn new(token: impl Into<String>) -> Self {
        Self {
            key_id: token.into(),
            organisation: String::new(),
            alias: String::new(),
            tags: Vec::new(),
            metadata: Vec::new(),
            rate: Rate::unlimited(),
            quota: Quota::unlimited(),
            access_rights: Vec::new(),
            policies: Vec::new(),
            expires: 0,
            inactive: false,
            lifetime_seconds: 0,
            id_extractor_deadline: 0,
            post_expiry_action: PostExpiryAction::Retain,
            post_expiry_grace_period: 0,
            data_expires: 0,
            detailed_recording: false,
            monitor_trigger_limits: Vec::new(),
            max_query_depth: 0,
            oauth_client_id: String::new(),
            certificate: String::new(),
            mtls_certificate_bindings: Vec::new(),
            hmac_enabled: false,
            http_signature_validation: false,
            rsa_certificate_id: String::new(),
            created_ms: 0,
            last_updated: String::new(),
            extra: Vec::new(),
        }
    }

    /// Names the caller for people.
    #[must_use]
    pub fn with_alias(mut self, alias: impl Into<String>) -> Self {
        self.alias = alias.into();
        self
    }

    /// Adds a tag.
    #[must_use]
    pub fn with_tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds a value that later plugins and transforms read.
    #[must_use]
    pub fn with_metadata(mut self, name: impl Into<String>, value: impl Into<MetadataValue>) -> Self {
        self.metadata.push((name.into(), value.into()));
        self
    }

    /// Limits the caller's rate.
    #[must_use]
    pub fn with_rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self
    }

    /// Limits the caller's quota.
    #[must_use]
    pub fn with_quota(mut self, quota: Quota) -> Self {
        self.quota = quota;
        self
    }

    /// Applies a policy, by its id.
    #[must_use]
    pub fn with_policy(mut self, id: impl Into<String>) -> Self {
        self.policies.push(id.into());
        self
    }

    /// Adds a right; the first one takes all others away.
    #[must_use]
    pub fn with_access_right(mut self, right: AccessRight) -> Self {
        self.access_rights.push(right);
        self
    }

    /// Lets the session expire, in seconds since 1970.
    #[must_use]
    pub fn with_expiry(mut self, expires: i64) -> Self {
        self.expires = expires;
        self
    }

    /// The value of the session's metadata, if it is a text.
    #[must_use]
    pub fn metadata_text(&self, name: &str) -> Option<&str> {
        match self.metadata_value(name)? {
            MetadataValue::Text(text) => Some(text),
            MetadataValue::Json(_) => None,
        }
    }

    /// The value of the session's metadata.
    #[must_use]
    pub fn metadata_value(&self, name: &str) -> Option<&MetadataValue> {
        self.metadata.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// Whether the session has the tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|found| found == tag)
    }
}

impl Rate {
    /// So many requests in so many seconds.
    #[must_use]
    pub fn new(requests: f64, per_seconds: f64) -> Self {
        Self { requests, per_seconds, throttle_interval: 0.0, throttle_retries: 0, smoothing: None }
    }

    /// No limit.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(0.0, 0.0)
    }
}

impl Quota {
    /// So many requests in so many seconds; zero seconds never renew.
    #[must_use]
    pub fn new(max: i64, renewal_rate: i64) -> Self {
        Self { max, remaining: max, renews: 0, renewal_rate }
    }

    /// No quota.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(0, 0)
    }
}

impl AccessRight {
    /// The right to call every version and path of an API.
    #[must_use]
    pub fn to(api_id: impl Into<String>) -> Self {
        Self {
            api_id: api_id.into(),
            api_name: String::new(),
            versions: Vec::new(),
            allowed_urls: Vec::new(),
            rate: None,
            quota: None,
            max_query_depth: None,
            allowance_scope: String::new(),
            endpoints: Vec::new(),
            extra: Vec::new(),
        }
    }
}

impl From<&str> for MetadataValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for MetadataValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Changes of the caller's session, kept for later requests. On an API without sessions they have no effect.
#[derive(Debug, Default)]
pub struct SessionEdits(Vec<SessionEdit>);

impl SessionEdits {
    /// Sets a value of the metadata.
    pub fn set_metadata(&mut self, name: impl Into<String>, value: impl Into<MetadataValue>) {
        self.push(SessionEdit::SetMetadata((name.into(), value.into())));
    }

    /// Takes a value of the metadata away.
    pub fn remove_metadata(&mut self, name: impl Into<String>) {
        self.push(SessionEdit::RemoveMetadata(name.into()));
    }

    /// Adds a tag.
    pub fn add_tag(&mut self, tag: impl Into<String>) {
        self.push(SessionEdit::AddTag(tag.into()));
    }

    /// Takes a tag away.
    pub fn remove_tag(&mut self, tag: impl Into<String>) {
        self.push(SessionEdit::RemoveTag(tag.into()));
    }

    /// Names the caller for people.
    pub fn set_alias(&mut self, alias: impl Into<String>) {
        self.push(SessionEdit::SetAlias(alias.into()));
    }

    /// Replaces the rate. Needs the capability `session_limits`, as do the changes below.
    pub fn set_rate(&mut self, rate: Rate) {
        self.push(SessionEdit::SetRate(rate));
    }

    /// Replaces the quota.
    pub fn set_quota(&mut self, quota: Quota) {
        self.push(SessionEdit::SetQuota(quota));
    }

    /// Replaces every right.
    pub fn set_access_rights(&mut self, rights: Vec<AccessRight>) {
        self.push(SessionEdit::SetAccessRights(rights));
    }

    /// Replaces the policies, by their ids.
    pub fn set_policies(&mut self, ids: Vec<String>) {
        self.push(SessionEdit::SetPolicies(ids));
    }

    /// Replaces when the session expires, in seconds since 1970; zero never.
    pub fn set_expires(&mut self, expires: i64) {
        self.push(SessionEdit::SetExpires(expires));
    }

    /// Switches the session off or on.
    pub fn set_inactive(&mut self, inactive: bool) {
        self.push(SessionEdit::SetInactive(inactive));
    }

    fn push(&mut self, edit: SessionEdit) {
        self.0.push(edit);
    }

    pub(crate) fn into_edits(self) -> Vec<SessionEdit> {
        self.0
    }
}
