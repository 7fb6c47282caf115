//! What a session must be before it is kept.

use crate::admin::answer::Refusal;
use crate::admin::control::Control;
use crate::model::limit::RateLimit;
use crate::model::policy::PolicyId;
use crate::model::session::{AccessRight, PostExpiryAction, Rate, Session};
use crate::store::{Life, json};

/// The session of a body.
pub(super) fn session(control: &Control, body: &[u8]) -> Result<Session, Refusal> {
    let session = json::read_session(body).map_err(|error| Refusal::Malformed(error.to_string()))?;
    if session.organisation.len() > ORGANISATION_BYTES_MAX || session.organisation.chars().any(char::is_control) {
        return Err(invalid(format!("`org_id` is not up to {ORGANISATION_BYTES_MAX} bytes of text")));
    }
    // Tyk drops such an expiry, or keeps the old one, and says nothing.
    if session.expires > 0 && session.expires <= now(control.clock.now_ms()) {
        return Err(invalid("`expires` is in the past".to_owned()));
    }
    if session.policies.iter().any(|id| PolicyId::parse(id).is_err()) {
        return Err(invalid("`apply_policies` has what is not the id of a policy".to_owned()));
    }
    // With policies, a key has the rights that they give and no others.
    if session.access_rights.is_empty() && session.policies.is_empty() && !control.allow_master_keys {
        return Err(Refusal::NoRights);
    }
    rates("", &session.rate, &session.access_rights)?;
    Ok(session)
}

/// Refuses rates that cannot be counted, which would refuse every request of the key.
pub(crate) fn rates(place: &str, rate: &Rate, rights: &[AccessRight]) -> Result<(), Refusal> {
    check(place, rate)?;
    for right in rights {
        let place = format!("access_rights.{}.", right.api_id);
        if let Some(rate) = &right.rate {
            check(&format!("{place}limit."), rate)?;
        }
        for endpoint in &right.endpoints {
            check(&format!("{place}endpoints."), &endpoint.rate)?;
        }
    }
    Ok(())
}

fn check(place: &str, rate: &Rate) -> Result<(), Refusal> {
    RateLimit::of(rate).map(|_| ()).map_err(|error| invalid(format!("`{place}rate` with `per` is {error}")))
}

/// How long the store keeps a session: until the grace after its expiry is over, or for its lifetime, or for ever.
pub(super) fn life(session: &Session, now_ms: u64) -> Life {
    let is_deleted = session.post_expiry_action == PostExpiryAction::Delete;
    let seconds = if is_deleted && session.expires > 0 && session.post_expiry_grace_period >= 0 {
        session.expires.saturating_sub(now(now_ms)).saturating_add(session.post_expiry_grace_period).max(1)
    } else {
        session.lifetime_seconds
    };
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Life::Millis(seconds.saturating_mul(1_000)),
        _ => Life::Forever,
    }
}

fn now(now_ms: u64) -> i64 {
    i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX)
}

fn invalid(reason: String) -> Refusal {
    Refusal::Invalid(reason)
}

const ORGANISATION_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_life(session: &Session, expected: Life) {
        assert_eq!(life(session, 1_000_000), expected);
    }

    #[test]
    fn a_session_is_kept_for_its_lifetime_or_until_the_grace_is_over() {
        let plain = Session { expires: 1_100, ..Session::default() };
        check_life(&plain, Life::Forever);
        check_life(&Session { lifetime_seconds: 5, ..plain.clone() }, Life::Millis(5_000));
        check_life(&Session { lifetime_seconds: -5, ..plain.clone() }, Life::Forever);
        let deleted = Session { post_expiry_action: PostExpiryAction::Delete, post_expiry_grace_period: 20, ..plain };
        check_life(&deleted, Life::Millis(120_000));
        check_life(&Session { post_expiry_grace_period: -1, ..deleted.clone() }, Life::Forever);
        check_life(&Session { post_expiry_grace_period: i64::MAX, ..deleted }, Life::Millis(u64::MAX));
    }
}
