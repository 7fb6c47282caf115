//! What a session must be before it is kept.

use crate::admin::answer::Refusal;
use crate::admin::control::Control;
use crate::model::limit::RateLimit;
use crate::model::policy::PolicyId;
use crate::model::session::{AccessRight, Rate, Session};
use crate::store::json;
use crate::tyk::unsupported::{self, Unsupported};

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
    supported(unsupported::of_rights(&session.access_rights))?;
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

/// Refuses what would allow more than somebody means who reads Tyk's documentation.
pub(crate) fn supported(unsupported: impl IntoIterator<Item = Unsupported>) -> Result<(), Refusal> {
    let found: Vec<String> = unsupported.into_iter().take(REASONS_MAX).map(|found| found.to_string()).collect();
    if found.is_empty() { Ok(()) } else { Err(invalid(found.join("; "))) }
}

fn check(place: &str, rate: &Rate) -> Result<(), Refusal> {
    RateLimit::of(rate).map(|_| ()).map_err(|error| invalid(format!("`{place}rate` with `per` is {error}")))
}

fn now(now_ms: u64) -> i64 {
    i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX)
}

fn invalid(reason: String) -> Refusal {
    Refusal::Invalid(reason)
}

const ORGANISATION_BYTES_MAX: usize = 256;
const REASONS_MAX: usize = 10;
