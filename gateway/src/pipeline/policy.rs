//! Policies put onto a session: which of them count, and what they say together.
//!
//! Pure: whoever calls reads the policies. The rules are Tyk's (`internal/policy/apply.go`), but for what the order of
//! policies may change there: here it changes no limit and no right.

mod merge;

use std::collections::BTreeMap;

use merge::Merged;

use crate::model::policy::{Partitions, Policy};
use crate::model::session::{AccessRight, Session};

/// Puts the policies that a session names onto it. `policies` are those that were found, in any order.
///
/// - A session that names no policy keeps its own rights; those with limits of their own get a counter of their own.
/// - Otherwise its rights are those that the policies grant and no other: never none, which would mean every API.
/// - A policy without partitions, or with `per_api`, sets rate, quota, rights and depth; others what their partitions say.
/// - Of several values for an API the highest wins: rates by requests in a second, quotas by requests, with a negative
///   one above all and zero as not set. So do the renewal of quotas, tries and waits of throttling, each on its own.
/// - Paths and versions of several policies are joined. A policy that allows all of them adds none, so what another one
///   lists stays the bound, as in Tyk.
/// - Tags are added. Metadata is set, by later policies over earlier ones and over the session's.
/// - An inactive policy (`is_inactive`) makes the session inactive; no policy makes an inactive session active again.
///
/// What remains of quotas, and when they renew, is not touched. Applied again, it changes nothing.
///
/// # Errors
/// See [`PolicyError`]. The session is as it was then.
pub fn apply(session: &mut Session, policies: &[Policy], organisation: &str) -> Result<(), PolicyError> {
    if session.policies.is_empty() {
        give_own_limits_a_scope(session);
        return Ok(());
    }
    let chosen = choose(session, policies, organisation)?;
    let merged = Merged::of(&chosen)?;
    if merged.grants_nothing() {
        return Err(PolicyError::NoneValid);
    }
    merged.write(session);
    for policy in chosen {
        session.inactive |= policy.inactive;
        session.metadata.extend(policy.metadata.iter().map(|(name, value)| (name.clone(), value.clone())));
        for tag in &policy.tags {
            if !session.tags.contains(tag) {
                session.tags.push(tag.clone());
            }
        }
    }
    Ok(())
}

/// Why the policies of a session cannot be applied. The caller of the gateway learns nothing of it but 403.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The only policy that the session names is not there, or is switched off. One of several is passed over.
    #[error("policy `{0}` is not known")]
    Unknown(String),
    /// A policy could otherwise be used to get at the APIs of others.
    #[error("policy `{0}` belongs to another organisation")]
    OtherOrganisation(String),
    /// `per_api` and a partition in one policy.
    #[error("policy `{0}` has both `per_api` and other partitions")]
    PerApiWithPartitions(String),
    /// `per_api` in one policy, partitions in another.
    #[error("some policies have `per_api` and some have other partitions")]
    PerApiBesidePartitions,
    /// A rate that cannot be counted, such as one in a period of zero seconds.
    #[error("policy `{0}` has a rate that cannot be counted")]
    RateInvalid(String),
    /// None of them grants an API.
    #[error("key has no valid policies to be applied")]
    NoneValid,
}

/// The policies that count, in the order in which the session names them.
fn choose<'p>(session: &Session, policies: &'p [Policy], organisation: &str) -> Result<Vec<&'p Policy>, PolicyError> {
    let known: BTreeMap<&str, &Policy> =
        policies.iter().filter(|policy| policy.active).map(|policy| (policy.id.as_str(), policy)).collect();
    let mut chosen: Vec<&Policy> = Vec::new();
    for id in &session.policies {
        let Some(policy) = known.get(id.as_str()) else {
            if session.policies.iter().all(|other| other == id) {
                return Err(PolicyError::Unknown(id.clone()));
            }
            continue;
        };
        if policy.organisation != organisation {
            return Err(PolicyError::OtherOrganisation(id.clone()));
        }
        if policy.partitions.per_api && is_partitioned(policy.partitions) {
            return Err(PolicyError::PerApiWithPartitions(id.clone()));
        }
        if !chosen.iter().any(|other| other.id == policy.id) {
            chosen.push(policy);
        }
    }
    let has_per_api = chosen.iter().any(|policy| policy.partitions.per_api);
    if has_per_api && chosen.iter().any(|policy| is_partitioned(policy.partitions)) {
        return Err(PolicyError::PerApiBesidePartitions);
    }
    Ok(chosen)
}

const fn is_partitioned(partitions: Partitions) -> bool {
    partitions.quota || partitions.rate_limit || partitions.acl || partitions.complexity
}

/// As in Tyk, an API with limits of its own is counted apart; a scope that is there already stays.
fn give_own_limits_a_scope(session: &mut Session) {
    for right in &mut session.access_rights {
        if let Some(scope) = own_scope(right) {
            right.allowance_scope = scope.to_owned();
        }
    }
}

/// The scope of a right of a session without policies: under which name its limits are counted. `None` where the session's
/// own limits count.
pub fn own_scope(right: &AccessRight) -> Option<&str> {
    let has_limit = right.rate.is_some() || right.quota.is_some() || right.max_query_depth.is_some();
    match right.allowance_scope.as_str() {
        "" => has_limit.then_some(&right.api_id),
        scope => Some(scope),
    }
}

#[cfg(test)]
mod tests;
