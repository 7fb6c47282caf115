//! Makes the session that the configuration says, for whatever credential there is, and counts how often it is asked.

use stile_sdk::{
    prelude::*,
    types::{AccessRight, AllowedUrl, PostExpiryAction, Quota, Rate},
};

#[config]
#[derive(Default)]
#[serde(default)]
struct Config {
    /// What it says of every caller instead: `missing`, `unknown`, `expired`, `inactive`, or `fail`.
    refuse: Option<String>,
    /// Rejects every caller with 418 and these words.
    reject: Option<String>,
    /// Names every caller alike; without it the credential does, and `""` names nobody.
    token: Option<String>,
    alias: String,
    rate: f64,
    per_seconds: f64,
    quota_max: i64,
    quota_renewal_rate: i64,
    expires: i64,
    inactive: bool,
    apis: Vec<String>,
    /// Of each of them; without any, all.
    versions: Vec<String>,
    /// What may be read of each of them; without any, all.
    urls: Vec<String>,
    policies: Vec<String>,
    id_extractor_deadline: i64,
    lifetime_seconds: i64,
    /// So many seconds after it expired the store deletes it.
    deleted_after_seconds: Option<i64>,
}

struct Made(Config);

#[plugin]
impl Made {
    fn new(config: Config) -> Result<Self, String> {
        Ok(Self(config))
    }

    #[auth(name = "session")]
    fn session(&self, credential: Option<&Credential>) -> Result<AuthAction, String> {
        let config = &self.0;
        if let Some(words) = &config.reject {
            return Ok(AuthAction::Reject(Rejection::new(418, words)));
        }
        match config.refuse.as_deref() {
            None => {}
            Some("missing") => return Ok(AuthAction::Refuse(Refusal::CredentialMissing)),
            Some("unknown") => return Ok(AuthAction::Refuse(Refusal::CredentialUnknown)),
            Some("expired") => return Ok(AuthAction::Refuse(Refusal::CredentialExpired)),
            Some("inactive") => return Ok(AuthAction::Refuse(Refusal::CredentialInactive)),
            Some(_) => return Err("told to fail".to_owned()),
        }
        let credential = credential.map(|given| String::from_utf8_lossy(&given.value).into_owned());
        let mut session = Session::new(config.token.clone().or(credential).unwrap_or_default());
        session.alias.clone_from(&config.alias);
        session.rate = Rate { requests: config.rate, per_seconds: config.per_seconds, ..Rate::unlimited() };
        if config.quota_max > 0 {
            session.quota =
                Quota { max: config.quota_max, renewal_rate: config.quota_renewal_rate, ..Quota::unlimited() };
        }
        session.expires = config.expires;
        session.inactive = config.inactive;
        session.access_rights = config.apis.iter().map(|id| right(id, config)).collect();
        session.policies.clone_from(&config.policies);
        session.id_extractor_deadline = config.id_extractor_deadline;
        session.lifetime_seconds = config.lifetime_seconds;
        if let Some(grace) = config.deleted_after_seconds {
            session.post_expiry_action = PostExpiryAction::Delete;
            session.post_expiry_grace_period = grace;
        }
        Ok(AuthAction::Authenticated(session))
    }
}

fn right(id: &str, config: &Config) -> AccessRight {
    let readable = |url: &String| AllowedUrl { url: url.clone(), methods: vec!["GET".to_owned()] };
    let allowed_urls = config.urls.iter().map(readable).collect();
    AccessRight { allowed_urls, versions: config.versions.clone(), ..AccessRight::to(id) }
}
