//! Keys: made, listed, shown, changed, deleted. Tokens go out once and are kept as their hash.

mod check;
mod name;

use std::collections::BTreeSet;
use std::time::Duration;

use http::request::Parts;
use serde_json::json;

use self::check::session;
pub(super) use self::check::{rates as check_rates, supported as check_supported};
use self::name::{KeyName, by_hash};
use super::answer::{Answer, Refusal, changed, listed, shown};
use super::audit::Audit;
use super::control::Control;
use super::request::Query;
use super::secret::random_hex;
use crate::model::key::{HashAlgorithm, KeyHash, full_token};
use crate::model::limit::QuotaLimit;
use crate::model::policy::{Policy, PolicyId};
use crate::model::session::{AccessRight, Quota, Session};
use crate::pipeline::policy::{self, own_scope};
use crate::store::{self, Life, Owner};

/// Has the audit log name the key that a path means, as far as the path tells: its organisation may stand elsewhere.
pub(super) fn note(parts: &Parts, name: &str, audit: &mut Audit) {
    let hash = if Query::of(&parts.uri).is_hashed() { by_hash(name) } else { Some(KeyHash::of(name)) };
    if let Some(hash) = hash {
        audit.key(&hash);
    }
}

/// Hashes of the keys that there are.
pub(super) async fn list(control: &Control, parts: &Parts) -> Result<Answer, Refusal> {
    let (cursor, limit) = Query::of(&parts.uri).part()?;
    let page = control.store.list_sessions(cursor.as_ref(), limit).await?;
    let keys: Vec<&str> = page.items.iter().map(KeyHash::as_str).collect();
    Ok(listed(&json!({ "keys": keys }), page.next.as_ref()))
}

/// The session of a key as requests have it, with its policies put onto it and what is left of its quotas; with `?stored=1`
/// without the policies, as it is kept.
pub(super) async fn show(control: &Control, parts: &Parts, name: &str) -> Result<Answer, Refusal> {
    let query = Query::of(&parts.uri);
    let name = KeyName::parse(control, &query, name, None);
    let (_, hash, stored) = name.find(&control.store).await?.ok_or(Refusal::NotFound("Key not found"))?;
    let merged = if query.is_of_stored() { None } else { with_policies(control, &hash, &stored.session).await? };
    let is_merged = merged.is_some();
    let mut session = merged.unwrap_or_else(|| Session::clone(&stored.session));
    // Policies give each right the scope that it has; without one it counts with the session.
    let scope_of = |right: &AccessRight| {
        if is_merged {
            Some(right.allowance_scope.as_str()).filter(|scope| !scope.is_empty())
        } else {
            own_scope(right)
        }
        .map(str::to_owned)
    };
    // Where rights count apart, the session's quota is counted once for each of their scopes: what is told is the least.
    let mut of_session: BTreeSet<Option<String>> =
        session.access_rights.iter().filter(|right| right.quota.is_none()).map(scope_of).take(QUOTAS_MAX).collect();
    if of_session.is_empty() {
        of_session.insert(None);
    }
    let whole = session.quota;
    for (index, scope) in of_session.iter().enumerate() {
        let mut quota = whole;
        left(control, &hash, scope.as_deref(), &mut quota).await?;
        if index == 0 || quota.remaining < session.quota.remaining {
            session.quota = quota;
        }
    }
    for right in session.access_rights.iter_mut().take(QUOTAS_MAX) {
        let scope = scope_of(right);
        if let Some(quota) = &mut right.quota {
            left(control, &hash, scope.as_deref(), quota).await?;
        }
    }
    Ok(shown(&store::json::session(&session)))
}

/// The session with its policies; nothing where it has none, or where they cannot be put onto it: its requests are refused.
async fn with_policies(control: &Control, hash: &KeyHash, session: &Session) -> Result<Option<Session>, Refusal> {
    if session.policies.is_empty() {
        return Ok(None);
    }
    let policies = policies(control, session).await?;
    let mut merged = Session::clone(session);
    match policy::apply(&mut merged, &policies, &session.organisation) {
        Ok(()) => Ok(Some(merged)),
        Err(error) => {
            tracing::info!(key = %hash, %error, "key is shown as it is kept: its policies cannot be applied");
            Ok(None)
        }
    }
}

/// The policies of a session that there are, those of files too.
async fn policies(control: &Control, session: &Session) -> Result<Vec<Policy>, Refusal> {
    let mut policies = Vec::new();
    for id in session.policies.iter().filter_map(|id| PolicyId::parse(id).ok()).take(QUOTAS_MAX) {
        policies.extend(control.policies.get(&id).await?.map(|policy| Policy::clone(&policy)));
    }
    Ok(policies)
}

/// Has a new key end when its policies say so (`key_expires_in`), or before, where it says so itself. In Tyk the last policy
/// rules, over the key too.
async fn expire_as_policies_say(control: &Control, session: &mut Session) -> Result<(), Refusal> {
    let now = i64::try_from(control.clock.now_ms() / 1_000).unwrap_or(i64::MAX);
    let policies = policies(control, session).await?;
    let lives = policies.iter().map(|policy| policy.key_expires_in).filter(|seconds| *seconds > 0);
    if let Some(seconds) = lives.min() {
        let ends = now.saturating_add(seconds);
        session.expires = if session.expires > 0 { session.expires.min(ends) } else { ends };
    }
    Ok(())
}

/// Makes a key with a random token, which is told this once.
pub(super) async fn create(control: &Control, body: &[u8], audit: &mut Audit) -> Result<Answer, Refusal> {
    let mut session = session(control, body)?;
    // Not `full_token`: random digits that happen to begin like the organisation stay.
    let token = format!("{}{}", session.organisation, random_hex()?);
    let hash = KeyHash::of(&token);
    audit.key(&hash);
    expire_as_policies_say(control, &mut session).await?;
    let life = begin(control, &mut session);
    if !control.store.create_session(&hash, &session, life).await? {
        return Err(Refusal::Collides("a key with this hash is there already"));
    }
    Ok(changed("added", &token, Some(hash.as_str())))
}

/// Makes a key of the caller's name, in place of one that is there.
pub(super) async fn add(
    control: &Control,
    parts: &Parts,
    name: &str,
    body: &[u8],
    audit: &mut Audit,
) -> Result<Answer, Refusal> {
    let query = Query::of(&parts.uri);
    let mut session = session(control, body)?;
    let (shown, hash) = if query.is_hashed() {
        let hash = by_hash(name).ok_or_else(|| Refusal::Invalid(NO_HASH.to_owned()))?;
        if hash.algorithm() != HashAlgorithm::Sha256 {
            return Err(Refusal::Invalid(NO_SHA256.to_owned()));
        }
        (name.to_owned(), hash)
    } else {
        let token = full_token(&session.organisation, name);
        if token.len() < TOKEN_BYTES_MIN {
            return Err(Refusal::Invalid(format!("a key has at least {TOKEN_BYTES_MIN} bytes")));
        }
        let hash = KeyHash::of(&token);
        audit.key(&hash);
        // What Tyk wrote under its short hash may be this key or another one: it is not hidden behind a new one.
        if control.store.session(&KeyHash::tyk_of(&token)).await?.is_some() {
            return Err(Refusal::Collides("a key of Tyk's with the same murmur32 hash is there: update or delete it"));
        }
        (token, hash)
    };
    audit.key(&hash);
    // As in Tyk, one that was there already has no trial to begin.
    if control.store.session(&hash).await?.is_none() {
        expire_as_policies_say(control, &mut session).await?;
    }
    let life = begin(control, &mut session);
    control.store.replace_session(&hash, &session, life).await?;
    if !query.keeps_quota() {
        reset_quotas(control, &hash, &session).await?;
    }
    Ok(changed("added", &shown, Some(hash.as_str())))
}

/// Replaces the session of a key that is there.
pub(super) async fn update(
    control: &Control,
    parts: &Parts,
    name: &str,
    body: &[u8],
    audit: &mut Audit,
) -> Result<Answer, Refusal> {
    let query = Query::of(&parts.uri);
    let mut session = session(control, body)?;
    let name = KeyName::parse(control, &query, name, Some(&session.organisation));
    let unknown = || Refusal::NotFound("Key is not found");
    for _ in 0..TRIES_MAX {
        let (shown, hash, stored) = name.find(&control.store).await?.ok_or_else(unknown)?;
        audit.key(&hash);
        let life = begin(control, &mut session);
        session.created_ms = stored.session.created_ms;
        if query.keeps_quota() {
            let Quota { remaining, renews, .. } = stored.session.quota;
            session.quota = Quota { remaining, renews, ..session.quota };
        }
        // Only in place of what was read: a key that is deleted meanwhile stays deleted.
        if control.store.update_session(&hash, &session, life, &stored.version).await?.is_some() {
            if !query.keeps_quota() {
                reset_quotas(control, &hash, &session).await?;
            }
            return Ok(changed("modified", &shown, None));
        }
    }
    Err(Refusal::Collides("the key is changed by others all the time: try again"))
}

pub(super) async fn delete(control: &Control, parts: &Parts, name: &str, audit: &mut Audit) -> Result<Answer, Refusal> {
    let name = KeyName::parse(control, &Query::of(&parts.uri), name, None);
    for (shown, hash) in name.hashes() {
        audit.key(&hash);
        let stored = control.store.session(&hash).await;
        if control.store.delete_session(&hash).await? {
            // As in Tyk, what it used goes with a key. Of one that cannot be read only its own quota is known.
            let session = stored.ok().flatten().map(|stored| stored.session).unwrap_or_default();
            if let Err(reason) = reset_quotas(control, &hash, &session).await {
                tracing::warn!(key_hash = %hash, %reason, "what a deleted key used of its quotas is still kept");
            }
            return Ok(changed("deleted", &shown, None));
        }
    }
    Err(Refusal::NotFound("There is no such key found"))
}

/// What the gateway says of a session that is written, whatever the caller said, and how long it is kept.
fn begin(control: &Control, session: &mut Session) -> Life {
    let now = control.clock.now_ms();
    let now_ms = i64::try_from(now).unwrap_or(i64::MAX);
    session.created_ms = now_ms;
    session.last_updated = (now_ms / 1000).to_string();
    session.quota.remaining = session.quota.max.max(0);
    session.quota.renews = (now_ms / 1000).saturating_add(session.quota.renewal_rate.max(0));
    Life::of(session, Duration::ZERO, now)
}

/// Writes into a quota what is left of it.
async fn left(control: &Control, hash: &KeyHash, scope: Option<&str>, quota: &mut Quota) -> Result<(), Refusal> {
    let Some(limit) = QuotaLimit::of(quota) else { return Ok(()) };
    let state = control.store.quota(&Owner::session(hash, scope), &limit).await?;
    quota.remaining = i64::try_from(state.remaining).unwrap_or(i64::MAX);
    if let Some(renews) = state.renews_ms.and_then(|ms| i64::try_from(ms / 1000).ok()) {
        quota.renews = renews;
    }
    Ok(())
}

/// Forgets what was used, under every name that the quotas of a session are counted by.
async fn reset_quotas(control: &Control, hash: &KeyHash, session: &Session) -> Result<(), Refusal> {
    let mut scopes = BTreeSet::new();
    let mut note = |api_id: &str, scope: &str| {
        scopes.extend([api_id, scope].into_iter().filter(|scope| !scope.is_empty()).map(str::to_owned));
    };
    for scope in session.access_rights.iter().filter_map(own_scope) {
        note("", scope);
    }
    // Also of one that is not there any more.
    for id in &session.policies {
        note("", id);
    }
    for policy in policies(control, session).await? {
        for right in &policy.access_rights {
            note(&right.api_id, &right.allowance_scope);
        }
    }
    control.store.reset_quota(&Owner::session(hash, None)).await?;
    for scope in scopes.iter().take(QUOTAS_MAX) {
        control.store.reset_quota(&Owner::session(hash, Some(scope))).await?;
    }
    Ok(())
}

/// Quotas of one key that are asked for and reset, at most.
const QUOTAS_MAX: usize = 256;
const TRIES_MAX: usize = 8;
/// As Tyk's `min_token_length`: shorter ones never authenticate.
const TOKEN_BYTES_MIN: usize = 3;
const NO_SHA256: &str = "the hash in the path is none of sha256: a key under another one would never be found";
const NO_HASH: &str = "the key in the path is no hash, but `hashed` says so";
