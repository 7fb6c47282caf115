//! Policies: listed, shown, put, deleted.

use http::request::Parts;
use serde_json::Value;

use super::answer::{Answer, Refusal, changed, listed, shown};
use super::audit::Audit;
use super::control::Control;
use super::request::Query;
use super::{keys, secret};
use crate::model::policy::PolicyId;
use crate::store::{StoreError, json};
use crate::tyk::unsupported;

/// A bare list of whole policies, as in Tyk.
pub(super) async fn list(control: &Control, parts: &Parts) -> Result<Answer, Refusal> {
    let (cursor, limit) = Query::of(&parts.uri).part()?;
    let page = control.store.list_policies(cursor.as_ref(), limit).await?;
    // Those of files come first, on the first page.
    let of_files = control.policies.of_files().into_iter().filter(|_| cursor.is_none());
    let mut policies: Vec<Value> = of_files.map(|policy| json::policy(&policy)).collect();
    for id in &page.items {
        // What a file says rules.
        if control.policies.is_of_file(id) {
            continue;
        }
        match control.store.policy(id).await {
            // One that was deleted meanwhile is no longer one.
            Ok(policy) => policies.extend(policy.map(|policy| json::policy(&policy))),
            // The others can still be seen, and this one be replaced or deleted.
            Err(error @ StoreError::Corrupt { .. }) => tracing::error!(%error, "policy is not listed"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(listed(&Value::Array(policies), page.next.as_ref()))
}

pub(super) async fn show(control: &Control, id: &str) -> Result<Answer, Refusal> {
    let policy = control.policies.get(&parse(id)?).await?.ok_or(UNKNOWN)?;
    Ok(shown(&json::policy(&policy)))
}

/// Puts a policy, whatever there is. Its id is the path's, or else the body's, or else made.
pub(super) async fn put(
    control: &Control,
    id: Option<&str>,
    body: &[u8],
    is_put: bool,
    audit: &mut Audit,
) -> Result<Answer, Refusal> {
    let named = json::policy_id(body);
    if let (Some(id), Some(named)) = (id, &named)
        && id != named
    {
        let reason = "Request ID does not match that in policy! For Update operations these must match.";
        return Err(Refusal::Invalid(reason.to_owned()));
    }
    let id = match id.map(str::to_owned).or(named) {
        Some(id) => parse(&id)?,
        None => parse(&secret::random_hex()?)?,
    };
    audit.policy(id.as_str());
    changeable(control, &id)?;
    let policy = json::read_policy(id, body).map_err(|error| Refusal::Malformed(error.to_string()))?;
    keys::check_rates("", &policy.rate, &policy.access_rights)?;
    keys::check_supported(unsupported::of_policy(&policy))?;
    control.store.put_policy(&policy).await?;
    Ok(changed(if is_put { "modified" } else { "added" }, policy.id.as_str(), None))
}

pub(super) async fn delete(control: &Control, id: &str) -> Result<Answer, Refusal> {
    let id = parse(id)?;
    changeable(control, &id)?;
    if !control.store.delete_policy(&id).await? {
        return Err(UNKNOWN);
    }
    Ok(changed("deleted", id.as_str(), None))
}

/// What a file says is changed in the file.
fn changeable(control: &Control, id: &PolicyId) -> Result<(), Refusal> {
    if control.policies.is_of_file(id) { Err(OF_FILE) } else { Ok(()) }
}

fn parse(id: &str) -> Result<PolicyId, Refusal> {
    PolicyId::parse(id).map_err(|error| Refusal::Invalid(format!("`id` is {error}")))
}

const OF_FILE: Refusal = Refusal::Collides("Policy is of a configuration file and is changed there");
const UNKNOWN: Refusal = Refusal::NotFound("Policy not found");
