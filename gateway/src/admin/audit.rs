//! The audit log: a line for each change that was asked for, whatever came of it. Tokens and secrets are in none.

use std::net::SocketAddr;

use http::StatusCode;

use super::answer::Refusal;
use crate::model::key::KeyHash;
use crate::telemetry::text::escaped;

/// Who asks for which change of what.
pub(super) struct Audit {
    remote: SocketAddr,
    action: &'static str,
    key_hash: Option<KeyHash>,
    policy: Option<String>,
    plugin: Option<String>,
    outcome: Option<&'static str>,
}

impl Audit {
    pub(super) fn new(remote: SocketAddr, action: &'static str) -> Self {
        Self { remote, action, key_hash: None, policy: None, plugin: None, outcome: None }
    }

    /// The key, once it is known.
    pub(super) fn key(&mut self, hash: &KeyHash) {
        self.key_hash = Some(hash.clone());
    }

    /// The policy, once it is known.
    pub(super) fn policy(&mut self, id: &str) {
        self.policy = Some(escaped(id, ID_BYTES_MAX).into_owned());
    }

    /// The plugin.
    pub(super) fn plugin(&mut self, name: &str) {
        self.plugin = Some(escaped(name, ID_BYTES_MAX).into_owned());
    }

    /// What came of it, where there is more to say than whether.
    pub(super) fn outcome(&mut self, outcome: &'static str) {
        self.outcome = Some(outcome);
    }

    /// Writes the line.
    pub(super) fn write<T>(self, result: &Result<T, Refusal>) {
        let (remote, action) = (self.remote, self.action);
        let key_hash = self.key_hash.as_ref().map(KeyHash::as_str);
        let (policy, plugin, outcome) = (self.policy.as_deref(), self.plugin.as_deref(), self.outcome);
        match result {
            Ok(_) => {
                let status = StatusCode::OK.as_u16();
                tracing::info!(
                    target: "stile::audit", %remote, action, key_hash, policy, plugin, outcome, status, "changed"
                );
            }
            Err(refusal) => {
                // The reason may quote names that the caller chose.
                let (status, reason) = (refusal.status().as_u16(), refusal.to_string());
                let reason = escaped(&reason, REASON_BYTES_MAX);
                tracing::warn!(
                    target: "stile::audit", %remote, action, key_hash, policy, plugin, outcome, status, %reason, "not changed"
                );
            }
        }
    }
}

/// A request without the secret.
pub(super) fn refused(remote: SocketAddr) {
    let status = Refusal::Secret.status().as_u16();
    tracing::warn!(target: "stile::audit", %remote, status, "control request without the secret");
}

const ID_BYTES_MAX: usize = 256;
const REASON_BYTES_MAX: usize = 512;
