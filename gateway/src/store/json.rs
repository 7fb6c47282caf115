//! Sessions and policies as Tyk's JSON, for the control port: the same that every store keeps, but for the name of a key's
//! hash.

use serde_json::Value;

use crate::model::policy::{Policy, PolicyId};
use crate::model::session::Session;
use crate::tyk;
pub use crate::tyk::JsonInvalid;

/// Reads a session. What is not known survives in `extra`; `key_id` is not in the JSON and stays empty.
///
/// # Errors
/// It is not JSON, or a field has the wrong type. The text says which, and holds nothing of what was read.
pub fn read_session(bytes: &[u8]) -> Result<Session, JsonInvalid> {
    tyk::session::read(bytes)
}

/// Writes a session.
pub fn session(session: &Session) -> Value {
    tyk::session::value(session)
}

/// Reads a policy, whose `id` must be text.
///
/// # Errors
/// As for [`read_session`].
pub fn read_policy(id: PolicyId, bytes: &[u8]) -> Result<Policy, JsonInvalid> {
    tyk::policy::read(id, bytes)
}

/// The `id` that a policy's JSON names; nothing where it names none, or is no JSON.
pub fn policy_id(bytes: &[u8]) -> Option<String> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    value.get_mut("id").map(Value::take).and_then(|id| Some(id.as_str()?.to_owned())).filter(|id| !id.is_empty())
}

/// Writes a policy.
pub fn policy(policy: &Policy) -> Value {
    tyk::policy::value(policy)
}
