//! Who calls, once that is known: the session, where it is kept, and what the request changes of it.

use std::sync::Arc;

use super::exchange::Exchange;
use super::reject::Reject;
use super::rights::Rights;
use super::standing::{self, Standing, Standings};
use crate::model::key::KeyHash;
use crate::model::session::{Session, SessionEdit};
use crate::store::Stored;

/// The caller of one request.
#[derive(Debug)]
pub struct Caller {
    /// The session, as the request sees it.
    pub session: Arc<Session>,
    /// Its rights, ready to be asked.
    pub rights: Arc<Rights>,
    /// The key that it is counted under.
    pub key: KeyHash,
    /// What was read from the store; nothing where it is not kept there.
    stored: Option<Stored>,
    /// What plugins changed, to be written back at the request's end.
    edits: Vec<SessionEdit>,
}

impl Caller {
    /// A caller whose session is kept in the store.
    pub async fn kept(exchange: &Exchange, key: KeyHash, stored: Stored) -> Result<Box<Self>, Reject> {
        let Standing { session, rights } = standing::of(exchange, &key, &stored.session).await?;
        Ok(Box::new(Self { session, rights, key, stored: Some(stored), edits: Vec::new() }))
    }

    /// A caller whose session is for this request alone.
    pub async fn unkept(exchange: &Exchange, key: KeyHash, session: Session) -> Result<Box<Self>, Reject> {
        let Standing { session, rights } = standing::of(exchange, &key, &Arc::new(session)).await?;
        Ok(Box::new(Self { session, rights, key, stored: None, edits: Vec::new() }))
    }

    /// Refuses a session that is inactive, or expired at this time.
    pub fn check_expiry(&self, now_ms: u64) -> Result<(), Reject> {
        if self.session.inactive {
            return Err(Reject::SessionInactive);
        }
        let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
        if self.session.expires > 0 && self.session.expires <= now {
            return Err(Reject::SessionExpired);
        }
        Ok(())
    }

    /// Applies changes, which are written back at the request's end.
    pub fn edit(&mut self, edits: Vec<SessionEdit>, standings: &Standings) {
        if edits.is_empty() {
            return;
        }
        let changes_limits = edits.iter().any(SessionEdit::needs_grant);
        let session = Arc::make_mut(&mut self.session);
        for edit in edits {
            session.apply(edit.clone());
            self.edits.push(edit);
        }
        if changes_limits {
            self.rights = standings.rights(session);
        }
    }
}

impl Exchange {
    /// The session of the caller.
    pub fn session(&self) -> Option<&Session> {
        self.caller.as_deref().map(|caller| &*caller.session)
    }

    /// Writes back what plugins changed of the session, once, into the session that was read: what policies made of it is
    /// not its own. A session that was deleted meanwhile stays deleted.
    pub async fn write_session_back(&mut self) {
        let Some(caller) = self.caller.as_deref_mut().filter(|caller| !caller.edits.is_empty()) else { return };
        let edits = std::mem::take(&mut caller.edits);
        let Some(stored) = caller.stored.take() else { return };
        if let Err(error) = self.core.store.edit_session(&caller.key, stored, &edits).await {
            tracing::warn!(
                api = %self.plan.api.id, request_id = self.id.as_str(), reason = %error, "session was not written back"
            );
        }
    }
}
