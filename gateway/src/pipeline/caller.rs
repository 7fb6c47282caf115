//! Who calls, once that is known: the session, where it is kept, and what the request changes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::exchange::Exchange;
use super::reject::Reject;
use super::rights::Rights;
use super::standing::{self, Standing, Standings};
use crate::model::edit_rules::{EditRefused, EditRules};
use crate::model::key::KeyHash;
use crate::model::session::{Session, SessionEdit};
use crate::store::{Edited, Share, Stored};
use crate::telemetry::flood::Flood;

/// What holds for a session that a plugin made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The share of its API.
    pub share: Arc<Share>,
    /// How long what was used of a quota that never renews is remembered; zero for ever.
    pub quota_life: Duration,
}

/// The caller of one request.
#[derive(Debug)]
pub struct Caller {
    /// The session, as the request sees it.
    pub session: Arc<Session>,
    /// Its rights, ready to be asked.
    pub rights: Arc<Rights>,
    /// The key that it is counted under.
    pub key: KeyHash,
    /// Where a plugin made the session: whose share it and its counters take places of.
    pub made: Option<Made>,
    /// What was read from the store; nothing where it is not kept there.
    stored: Option<Stored>,
    /// What plugins changed, to be written back at the request's end.
    edits: Vec<SessionEdit>,
    /// What that may leave; nothing where nothing was changed.
    rules: Option<Arc<EditRules>>,
}

impl Caller {
    /// A caller whose session is kept in the store.
    pub async fn kept(
        exchange: &Exchange,
        key: KeyHash,
        stored: Stored,
        made: Option<Made>,
    ) -> Result<Box<Self>, Reject> {
        let Standing { session, rights } = standing::of(exchange, &key, &stored.session).await?;
        Ok(Box::new(Self { session, rights, key, made, stored: Some(stored), edits: Vec::new(), rules: None }))
    }

    /// A caller whose session is for this request alone.
    pub async fn unkept(exchange: &Exchange, key: KeyHash, session: Session, made: Made) -> Result<Box<Self>, Reject> {
        made.share.numbers.unkept.fetch_add(1, Ordering::Relaxed);
        let made = Some(made);
        let Standing { session, rights } = standing::of(exchange, &key, &Arc::new(session)).await?;
        Ok(Box::new(Self { session, rights, key, made, stored: None, edits: Vec::new(), rules: None }))
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

    /// Whether changes may be made to the session.
    ///
    /// # Errors
    /// What they would leave is not allowed, of the session as the request sees it or as it is kept.
    pub fn allows(&self, edits: &[SessionEdit], rules: &EditRules) -> Result<(), EditRefused> {
        if edits.is_empty() {
            return Ok(());
        }
        rules.check(&self.session, edits)?;
        // What its policies give is not its own: taking those away may leave nothing.
        match &self.stored {
            Some(stored) => rules.check(&stored.session, self.edits.iter().chain(edits)),
            None => Ok(()),
        }
    }

    /// Applies changes that are [allowed](Self::allows), which are written back at the request's end.
    pub fn edit(&mut self, edits: Vec<SessionEdit>, rules: &Arc<EditRules>, standings: &Standings) {
        if edits.is_empty() {
            return;
        }
        self.rules = Some(rules.clone());
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
        let (Some(stored), Some(rules)) = (caller.stored.take(), caller.rules.take()) else { return };
        let now_ms = || self.core.clock.now_ms();
        let not_written = match self.core.store.edit_session(&caller.key, stored, &edits, &rules).await {
            Ok(Edited::Done | Edited::Gone) => None,
            // Others changed it meanwhile, so that these would leave too much.
            Ok(Edited::Refused(reason)) => Some(reason.to_string()),
            Err(error) => Some(error.to_string()),
        };
        match not_written {
            None => {
                if let Some(untold) = NOT_WRITTEN.end(now_ms) {
                    tracing::info!(untold, "sessions are written back again");
                }
            }
            Some(reason) => {
                self.plan.metrics.session_not_written_back();
                if let Some(requests) = NOT_WRITTEN.begin(now_ms()) {
                    tracing::warn!(
                        api = %self.plan.api.id, request_id = self.id.as_str(), requests, reason,
                        "session was not written back"
                    );
                }
            }
        }
    }
}

static NOT_WRITTEN: Flood = Flood::new();
