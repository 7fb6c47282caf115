//! Whether a store that answers also writes: a full disk, a full or read-only server reads on and keeps nothing.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::error::StoreTrouble;

/// How the last writes went.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Those of a file, each of many changes perhaps.
    pub(super) commits: AtomicU64,
    are_refused: AtomicBool,
    /// Since when, and why.
    why: Mutex<Option<(Instant, Arc<str>)>>,
}

impl Writes {
    /// One was refused.
    pub(super) fn refused(&self, reason: &dyn Display) {
        if !self.are_refused.swap(true, Ordering::AcqRel) {
            *self.why.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((Instant::now(), reason.to_string().into()));
        }
    }

    /// One went well.
    pub(super) fn went_well(&self) {
        // Mostly nothing to write: the line stays shared between cores.
        if self.are_refused.load(Ordering::Relaxed) && self.are_refused.swap(false, Ordering::AcqRel) {
            *self.why.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// What is wrong until one goes well again.
    pub(super) fn trouble(&self) -> Option<StoreTrouble> {
        let (since, reason) = self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(StoreTrouble::Unwritten { elapsed: since.elapsed(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusal_is_told_until_a_write_goes_well() {
        let writes = Writes::default();
        assert_eq!(writes.trouble(), None);
        writes.refused(&"the disk is full");
        writes.refused(&"something else");
        assert!(writes.trouble().is_some_and(|trouble| trouble.to_string().ends_with("the disk is full")));
        writes.went_well();
        assert_eq!(writes.trouble(), None);
    }
}
