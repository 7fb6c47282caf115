//! Remembers that the server is away, so that callers need not wait to find out.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::store::{Numbers, StoreTrouble};

/// Opens after some failures in a row. Only a probe that succeeds closes it.
pub(super) struct Circuit {
    failures: AtomicU32,
    failures_max: u32,
    is_open: AtomicBool,
    /// When it opened, and why.
    why: Mutex<Option<(Instant, Arc<str>)>>,
    opened: Notify,
    numbers: Arc<Numbers>,
}

impl Circuit {
    pub(super) fn new(failures_max: u32, numbers: Arc<Numbers>) -> Self {
        let (failures, is_open, opened) = (AtomicU32::new(0), AtomicBool::new(false), Notify::new());
        Self { failures, failures_max: failures_max.max(1), is_open, why: Mutex::default(), opened, numbers }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// What is wrong while it is open.
    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        let (since, reason) = self.why().clone()?;
        Some(StoreTrouble::Away { elapsed: since.elapsed(), reason })
    }

    pub(super) fn answered(&self) {
        // Mostly nothing to write: the line stays shared between cores.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn failed(&self, reason: &dyn std::fmt::Display) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= self.failures_max && !self.is_open.swap(true, Ordering::AcqRel) {
            *self.why() = Some((Instant::now(), reason.to_string().into()));
            self.numbers.circuit_opened.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(failures, %reason, "redis is away: calls fail at once until it answers a probe");
            self.opened.notify_one();
        }
    }

    pub(super) fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
        if self.is_open.swap(false, Ordering::AcqRel) {
            *self.why() = None;
            tracing::info!("redis is back");
        }
    }

    fn why(&self) -> MutexGuard<'_, Option<(Instant, Arc<str>)>> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once the circuit is open.
    pub(super) async fn opened(&self) {
        while !self.is_open() {
            self.opened.notified().await;
        }
    }
}
