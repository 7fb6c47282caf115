//! Who holds how many counters: each API whose plugin makes sessions, and all of these together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Hindrance;
use super::room::Whose;
use crate::model::id::ApiId;
use crate::store::error::StoreError;
use crate::store::share::Share;

/// The counters in shares.
pub(super) struct Places {
    of_api: Mutex<HashMap<ApiId, Arc<Held>>>,
    of_all: Arc<Held>,
    max: usize,
}

/// How many are held.
#[derive(Default)]
pub(super) struct Held {
    count: AtomicUsize,
    searched_us: AtomicU64,
}

/// The place of one counter. It is given back when the counter goes, whichever way.
pub(super) struct Place {
    of_api: Arc<Held>,
    of_all: Arc<Held>,
}

impl Places {
    /// So many for all shares together.
    pub(super) fn new(max: usize) -> Self {
        Self { of_api: Mutex::default(), of_all: Arc::default(), max: max.max(1) }
    }

    pub(super) fn held(&self) -> &Held {
        &self.of_all
    }

    /// Takes a place of a share; `room` has others leave, and says whether some did.
    pub(super) fn enter(
        &self,
        share: &Share,
        mut room: impl FnMut(Whose<'_>) -> Result<bool, Hindrance>,
    ) -> Result<Place, Hindrance> {
        let of_api = self.of(&share.api);
        loop {
            if !of_api.add(share.counters_max.max(1)) {
                if room(Whose::Of(&of_api))? {
                    continue;
                }
                return Err(Hindrance::Error(StoreError::Full("`auth.counters_max`")));
            }
            if self.of_all.add(self.max) {
                return Ok(Place { of_api, of_all: self.of_all.clone() });
            }
            of_api.remove();
            if !room(Whose::Shared(self))? {
                return Err(Hindrance::Error(StoreError::Full("`plugin_counters_max`")));
            }
        }
    }

    fn of(&self, api: &ApiId) -> Arc<Held> {
        let mut all = self.of_api.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get(api) {
            return held.clone();
        }
        // APIs that are no more leave nothing behind.
        all.retain(|_, held| held.count.load(Ordering::Relaxed) > 0 || Arc::strong_count(held) > 1);
        all.entry(api.clone()).or_default().clone()
    }
}

impl Held {
    /// Counts one more, unless there are so many.
    fn add(&self, max: usize) -> bool {
        let is_room = self.count.fetch_add(1, Ordering::Relaxed) < max;
        if !is_room {
            self.remove();
        }
        is_room
    }

    fn remove(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn searched_us(&self) -> u64 {
        self.searched_us.load(Ordering::Relaxed)
    }

    pub(super) fn searched_in_vain(&self, now_us: u64) {
        self.searched_us.store(now_us, Ordering::Relaxed);
    }
}

impl Place {
    pub(super) fn is_of(&self, held: &Arc<Held>) -> bool {
        Arc::ptr_eq(&self.of_api, held)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of_api.remove();
        self.of_all.remove();
    }
}
