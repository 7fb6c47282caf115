//! What upstream connections did, as plain numbers for the metrics.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::error::{KINDS, UpstreamError};

/// Counts over all cores and targets.
#[derive(Debug, Default)]
pub struct UpstreamCounters {
    /// Connections opened so far.
    pub opened: AtomicU64,
    /// Connections open now, idle ones included.
    pub open: AtomicUsize,
    /// Connections that wait for a request now.
    pub idle: AtomicUsize,
    /// Requests sent on a connection that had served one before.
    pub reused: AtomicU64,
    /// Requests sent a second time, because the connection closed under the first.
    pub retries: AtomicU64,
    failures: [AtomicU64; KINDS.len()],
}

impl UpstreamCounters {
    /// Failures so far with their [`UpstreamError::kind`].
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        KINDS.iter().zip(&self.failures).map(|(kind, count)| (*kind, count.load(Relaxed)))
    }

    pub(super) fn failed(&self, error: &UpstreamError) {
        if let Some(count) = self.failures.get(error.index()) {
            count.fetch_add(1, Relaxed);
        }
    }
}
