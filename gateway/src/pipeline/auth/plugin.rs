//! Authentication by a plugin, and how the session that it makes is kept.

use std::time::Duration;

use crate::model::api::CredentialSource;
use crate::model::key::KeyHash;
use crate::model::session::Session;
use crate::model::store::Away;
use crate::pipeline::caller::{Caller, Made};
use crate::pipeline::exchange::{Answer, Exchange};
use crate::pipeline::extract::Deadline;
use crate::pipeline::hooks;
use crate::pipeline::plan::{AuthStep, HookStep};
use crate::pipeline::reject::Reject;
use crate::plugin::verdict::{AuthVerdict, CredentialPlace, CredentialView};
use crate::store::{Life, StoreError};
use crate::telemetry::flood::Flood;

/// What became of the question who calls.
pub(super) enum Answered {
    /// The plugin knows.
    Caller(Box<Caller>),
    /// It answers the request itself.
    Reply(Box<Answer>),
}

/// Asks the plugin who calls.
///
/// With an ID its session is kept under that, and good for so long at most.
pub(super) async fn caller(
    step: &AuthStep,
    hook: &HookStep,
    exchange: &mut Exchange,
    credential: Option<&[u8]>,
    id: Option<(&KeyHash, Duration)>,
) -> Result<Answered, Reject> {
    hooks::read_body(hook, exchange).await?;
    let (place, name) = match &step.credential {
        CredentialSource::Header(name) => (CredentialPlace::Header, name.as_str()),
        CredentialSource::Query(name) => (CredentialPlace::Query, name.as_str()),
        CredentialSource::Cookie(name) => (CredentialPlace::Cookie, name.as_str()),
    };
    let view = credential.map(|value| CredentialView { place, name, value });
    let (facts, request) = exchange.seen_by(hook);
    let outcome = hook.function.auth(&exchange.core.worker, facts, request, view).await;
    // `continue` is refused for `auth` when a definition is read, so there always is a verdict or an error.
    let Some(verdict) = hooks::settle(hook, exchange, outcome)? else { return Err(Reject::CredentialUnknown) };
    match verdict {
        AuthVerdict::Authenticated { mut session, edits } => {
            hooks::edit_request(exchange, edits).map_err(|reason| hooks::invalid(hook, exchange, reason))?;
            // The organisation is not the plugin's to choose.
            session.organisation.clone_from(&exchange.plan.api.organisation);
            if session.policies.iter().any(|id| !step.plugin.policies.has(id)) {
                return Err(hooks::invalid(
                    hook,
                    exchange,
                    "a session names a policy that `auth.policies` does not grant",
                ));
            }
            let key = match id {
                Some((key, deadline_max)) => {
                    let deadline = Deadline::of(session.id_extractor_deadline);
                    let capped = deadline.map(|deadline| deadline.capped(exchange.core.clock.now_ms(), deadline_max));
                    session.id_extractor_deadline = capped.map_or(0, Deadline::seconds);
                    session.maker.clone_from(&step.plugin.maker);
                    key.clone()
                }
                None => {
                    if session.key_id.is_empty() {
                        return Err(Reject::Forbidden);
                    }
                    let plugin = &hook.function.generation.spec.name;
                    KeyHash::of_plugin(&exchange.plan.api.id, plugin, session.key_id.as_bytes())
                }
            };
            keep(step, exchange, key, *session).await.map(Answered::Caller)
        }
        AuthVerdict::Refuse(refusal) => {
            hook.metrics.rejected();
            Err(Reject::from(refusal))
        }
        AuthVerdict::Respond(reply) => {
            hook.metrics.responded();
            Ok(Answered::Reply(Box::new(Answer::from(reply))))
        }
        AuthVerdict::Reject(rejection) => {
            hook.metrics.rejected();
            Err(Reject::ByPlugin(Box::new(rejection)))
        }
    }
}

/// Keeps the session under its key. What was counted against the key's quota stays counted.
async fn keep(step: &AuthStep, exchange: &Exchange, key: KeyHash, session: Session) -> Result<Box<Caller>, Reject> {
    let (store, made) = (&exchange.core.store, step.plugin.made());
    let life = Life::of(&session, step.plugin.lifetime, exchange.core.clock.now_ms());
    for _ in 0..TRIES_MAX {
        let kept = match exchange.core.sessions.get(&key).await {
            Ok(kept) => kept,
            Err(error) => return unkept(exchange, key, session, made, error).await,
        };
        let written = match kept {
            Some(kept) if *kept.session == session => {
                if let Some(untold) = UNKEPT.end(|| exchange.core.clock.now_ms()) {
                    tracing::info!(untold, "sessions of plugins are kept again");
                }
                return Caller::kept(exchange, key, kept, Some(made)).await;
            }
            Some(kept) => store.keep_made_session(&key, &session, life, &made.share, Some(&kept.version)).await,
            None => store.keep_made_session(&key, &session, life, &made.share, None).await,
        };
        match written {
            // Read again, for its version, or because another request was faster.
            Ok(_) => {}
            Err(error) => return unkept(exchange, key, session, made, error).await,
        }
    }
    Caller::unkept(exchange, key, session, made).await
}

/// The plugin knows the caller, whatever becomes of the store: the request goes on with a session of its own, unless the operator
/// would rather refuse.
async fn unkept(
    exchange: &Exchange,
    key: KeyHash,
    session: Session,
    made: Made,
    error: StoreError,
) -> Result<Box<Caller>, Reject> {
    if error.is_away() && exchange.core.away == Away::Deny {
        return Err(Reject::Store(error));
    }
    if let Some(requests) = UNKEPT.begin(exchange.core.clock.now_ms()) {
        tracing::warn!(
            api = %exchange.plan.api.id, request_id = exchange.id.as_str(), requests, reason = %error,
            "session was not kept"
        );
    }
    Caller::unkept(exchange, key, session, made).await
}

static UNKEPT: Flood = Flood::new();

const TRIES_MAX: usize = 4;
