//! Stored sessions of the API's organisation, for guests that are told their tokens.
//!
//! Only tokens name a session here: the names under which sessions of plugins are kept are hashes of what no text spells.

use std::sync::Arc;

use super::{Host, HostLimit, imports};
use crate::model::edit_rules::{EditRefused, EditRules};
use crate::model::id::{ApiId, PluginName};
use crate::model::key::{KeyHash, Token};
use crate::model::session::SessionEdit;
use crate::plugin::v0_1::bindings::stile::plugin::types;
use crate::plugin::v0_1::{lift, stored};
use crate::store::{Edited, SessionCache, StoreError, Stored};
use crate::telemetry::metrics::SessionCallMetrics;
use crate::telemetry::text::escaped;
use imports::{sessions, sessions_read};

/// What one plugin of an API may do with sessions, where it was granted anything of it.
#[derive(Debug)]
pub struct Sessions {
    /// Where they are.
    pub cache: SessionCache,
    /// The API's: sessions of others are not there.
    pub organisation: String,
    /// Whether it may change more than metadata, tags and alias.
    pub may_change_limits: bool,
    /// What its changes may leave, these and those of its hooks.
    pub rules: Arc<EditRules>,
    /// What it does is counted here.
    pub metrics: SessionCallMetrics,
}

impl sessions_read::Host for Host {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<types::SessionResult, sessions_read::Error>> {
        self.charge_session(key.len())?;
        let identity = self.identity()?.clone();
        let answer = match identity.sessions.find(&key).await {
            Ok(Some((_, found))) => Ok(stored::session(&found.session)),
            Ok(None) => Err(sessions_read::Error::NotFound),
            Err(error) => {
                tracing::warn!(api = %identity.api, plugin = %identity.plugin, reason = %error, "no session was read");
                Err(sessions_read::Error::Unavailable)
            }
        };
        let outcome = match &answer {
            Ok(_) => "ok",
            Err(sessions_read::Error::NotFound) => "not_found",
            Err(sessions_read::Error::Unavailable) => "unavailable",
        };
        identity.sessions.metrics.called("get", outcome);
        Ok(answer)
    }
}

impl sessions::Host for Host {
    async fn update(
        &mut self,
        key: String,
        edits: Vec<types::SessionEdit>,
    ) -> wasmtime::Result<Result<(), sessions::Error>> {
        self.charge_session(key.len() + edits.iter().map(stored::edit_bytes).sum::<usize>())?;
        let identity = self.identity()?.clone();
        let mut hash = None;
        let answer = match lift::session_edits(edits) {
            Ok(edits) => identity.sessions.update(&key, &edits, &mut hash).await,
            Err(lift::Invalid(reason)) => Err(Refusal::EditInvalid(reason)),
        };
        identity.sessions.metrics.called("update", answer.as_ref().map_or_else(Refusal::name, |()| "ok"));
        audit(&identity.api, &identity.plugin, hash.as_ref(), &answer);
        Ok(answer.map_err(sessions::Error::from))
    }
}

impl Host {
    /// Counts one call that names a session.
    fn charge_session(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.charge(bytes)?;
        let left = self.session_calls_left.checked_sub(1);
        self.session_calls_left = left.ok_or(HostLimit("more calls about sessions than `session_calls_max`"))?;
        Ok(())
    }
}

/// Why a session was not changed.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("no session of the organisation has this token")]
    NotFound,
    #[error("it needs the capability `session-limits`, which is not granted")]
    Denied,
    #[error("an edit is not valid: {0}")]
    EditInvalid(String),
    #[error("an edit is not valid: {0}")]
    Refused(#[from] EditRefused),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refusal {
    const fn name(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Denied => "denied",
            Self::EditInvalid(_) | Self::Refused(_) => "edit_invalid",
            Self::Store(StoreError::TooLarge) => "too_large",
            Self::Store(_) => "unavailable",
        }
    }
}

impl From<Refusal> for sessions::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            Refusal::Denied => Self::Denied,
            Refusal::EditInvalid(reason) => Self::EditInvalid(reason),
            Refusal::Refused(reason) => Self::EditInvalid(reason.to_string()),
            Refusal::Store(StoreError::TooLarge) => Self::TooLarge,
            Refusal::Store(_) => Self::Unavailable,
        }
    }
}

impl Sessions {
    /// The session that a caller with this token would have at the API, if it is of the API's organisation.
    async fn find(&self, key: &str) -> Result<Option<(KeyHash, Stored)>, StoreError> {
        let Some(token) = Token::parse(key).filter(|_| key.len() <= KEY_BYTES_MAX) else { return Ok(None) };
        for hash in token.hashes(&self.organisation) {
            if let Some(found) = self.cache.get(&hash).await? {
                let is_ours = found.session.organisation == self.organisation;
                return Ok(is_ours.then_some((hash, found)));
            }
        }
        Ok(None)
    }

    async fn update(&self, key: &str, edits: &[SessionEdit], hash: &mut Option<KeyHash>) -> Result<(), Refusal> {
        let (found, read) = self.find(key).await?.ok_or(Refusal::NotFound)?;
        let found = &*hash.insert(found);
        if !self.may_change_limits && edits.iter().any(SessionEdit::needs_grant) {
            return Err(Refusal::Denied);
        }
        if edits.is_empty() {
            return Ok(());
        }
        match self.cache.store().edit_session(found, read, edits, &self.rules).await? {
            Edited::Done => Ok(()),
            Edited::Gone => Err(Refusal::NotFound),
            Edited::Refused(reason) => Err(reason.into()),
        }
    }
}

/// Writes the line of the audit log, whatever came of the change. Tokens are in none.
fn audit(api: &ApiId, plugin: &PluginName, hash: Option<&KeyHash>, answer: &Result<(), Refusal>) {
    let (action, key_hash) = ("key.edit", hash.map(KeyHash::as_str));
    match answer {
        Ok(()) => tracing::info!(target: "stile::audit", %api, %plugin, action, key_hash, "changed"),
        Err(refusal) => {
            let reason = refusal.to_string();
            let reason = escaped(&reason, REASON_BYTES_MAX);
            tracing::warn!(target: "stile::audit", %api, %plugin, action, key_hash, %reason, "not changed");
        }
    }
}

/// No key of an operator has a longer token; to hash megabytes would be work that no fuel pays for.
const KEY_BYTES_MAX: usize = 8 << 10;
const REASON_BYTES_MAX: usize = 512;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::clock::Clock;
    use crate::model::api::PolicyGrant;
    use crate::model::session::Session;
    use crate::model::store::CacheSettings;
    use crate::store::{Life, Store};
    use crate::telemetry::metrics::Metrics;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The line of a change of the session with this token, where the store has one of `ana-token`.
    async fn line(token: &str, edit: SessionEdit) -> String {
        let (api, plugin) = (ApiId::parse("orders").unwrap(), PluginName::parse("stranger").unwrap());
        let store = Store::in_memory(Clock::system());
        store.create_session(&KeyHash::of("ana-token"), &Session::default(), Life::Forever).await.unwrap();
        let sessions = Sessions {
            cache: SessionCache::new(&store, &CacheSettings::default()),
            organisation: String::new(),
            may_change_limits: false,
            rules: Arc::new(EditRules { policies: PolicyGrant::All, allow_master_keys: false }),
            metrics: Metrics::new().session_calls(&api, &plugin),
        };
        let mut hash = None;
        let answer = sessions.update(token, &[edit], &mut hash).await;
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || audit(&api, &plugin, hash.as_ref(), &answer));
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[tokio::test]
    async fn each_change_that_is_asked_for_is_a_line_of_the_audit_log_and_tokens_are_in_none() {
        let alias = SessionEdit::SetAlias("Ana".to_owned());
        let (of, hash) = ("api=orders plugin=stranger action=\"key.edit\"", KeyHash::of("ana-token"));
        let changed = line("ana-token", alias.clone()).await;
        assert_eq!(changed, format!(" INFO stile::audit: changed {of} key_hash=\"{hash}\"\n"));
        let denied = line("ana-token", SessionEdit::SetInactive(false)).await;
        assert!(
            denied.starts_with(&format!(" WARN stile::audit: not changed {of} key_hash=\"{hash}\" reason=it needs"))
        );
        let unknown = line("ben-token", alias).await;
        assert!(unknown.starts_with(&format!(" WARN stile::audit: not changed {of} reason=no session")), "{unknown}");
        assert!(!unknown.contains("ben-token"));
    }
}
