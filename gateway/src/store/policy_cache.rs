//! Policies in memory: those of files, and those of the store as long as every change of them is heard of.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;

use super::Store;
use super::error::StoreError;
use super::event::{Event, Listener};
use crate::model::policy::{Policy, PolicyId};

/// A cache of policies. Cheap to clone; clones are one cache, for all cores.
#[derive(Clone)]
pub struct PolicyCache(Arc<Shared>);

struct Shared {
    store: Store,
    of_files: ArcSwap<OfFiles>,
    known: Mutex<HashMap<PolicyId, Known>>,
    /// Goes up when changes may have been missed: what was read before is good only while the store is away.
    epoch: AtomicU64,
    /// Goes up with every change, so that what was made of policies can be told from what would be made now.
    generation: AtomicU64,
}

type OfFiles = BTreeMap<PolicyId, Arc<Policy>>;

/// What was read last.
struct Known {
    policy: Option<Arc<Policy>>,
    epoch: u64,
}

impl PolicyCache {
    /// Begins with the policies of files, which rule where the store has one of the same id.
    pub fn new(store: &Store, of_files: Vec<Policy>) -> Self {
        let of_files = ArcSwap::from_pointee(by_id(of_files));
        let (epoch, generation) = (AtomicU64::new(0), AtomicU64::new(0));
        let shared = Arc::new(Shared { store: store.clone(), of_files, known: Mutex::default(), epoch, generation });
        let listener: Weak<dyn Listener> = Arc::downgrade(&shared) as _;
        store.0.events.listen(listener);
        Self(shared)
    }

    /// A policy; from memory where it is known to be as the store has it.
    ///
    /// # Errors
    /// As for [`Store::policy`]. Errors are not kept.
    pub async fn get(&self, id: &PolicyId) -> Result<Option<Arc<Policy>>, StoreError> {
        let shared = &*self.0;
        if let Some(policy) = shared.of_files.load().get(id) {
            return Ok(Some(policy.clone()));
        }
        let (epoch, generation) = (shared.epoch.load(Ordering::Acquire), self.generation());
        if self.is_heard()
            && let Some(known) = shared.known().get(id)
            && known.epoch == epoch
        {
            return Ok(known.policy.clone());
        }
        let policy = match shared.store.policy(id).await {
            Ok(policy) => policy.map(Arc::new),
            // What was known last is better than no caller being let in.
            Err(error) if error.is_away() => {
                return shared.known().get(id).map(|known| known.policy.clone()).ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let mut known = shared.known();
        if known.len() >= ENTRIES_MAX {
            known.clear();
        }
        // What changed meanwhile may be older than what was told.
        if generation == self.generation() {
            known.insert(id.clone(), Known { policy: policy.clone(), epoch });
        }
        Ok(policy)
    }

    /// Puts other policies of files in place of those that were, all at once. What was made of the old ones is made anew.
    /// Whether any of them differs.
    pub fn set_files(&self, of_files: &[Policy]) -> bool {
        let of_files = by_id(of_files.iter().cloned());
        if **self.0.of_files.load() == of_files {
            return false;
        }
        self.0.of_files.store(Arc::new(of_files));
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// The policies of files, which the store does not change.
    pub fn of_files(&self) -> Vec<Arc<Policy>> {
        self.0.of_files.load().values().cloned().collect()
    }

    /// Whether a policy is of a file.
    pub fn is_of_file(&self, id: &PolicyId) -> bool {
        self.0.of_files.load().contains_key(id)
    }

    /// Another number than before means that some policy may have changed.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Whether changes are heard, so that what was made of policies before still holds.
    pub fn is_heard(&self) -> bool {
        self.0.store.0.events.is_whole()
    }
}

fn by_id(policies: impl IntoIterator<Item = Policy>) -> OfFiles {
    policies.into_iter().map(|policy| (policy.id.clone(), Arc::new(policy))).collect()
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, HashMap<PolicyId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Shared {
    fn told(&self, event: &Event) {
        match event {
            Event::PolicyChanged(id) => drop(self.known().remove(id)),
            Event::Lost | Event::Reload => drop(self.epoch.fetch_add(1, Ordering::AcqRel)),
            Event::SessionChanged(_) | Event::SessionDeleted(_) => return,
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

/// Policies are few; names that sessions of plugins invent must not fill the memory.
const ENTRIES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[tokio::test]
    async fn a_changed_policy_is_read_again() {
        let store = Store::in_memory(Clock::manual(0));
        let cache = PolicyCache::new(&store, Vec::new());
        let id = PolicyId::parse("gold").expect("an id");
        assert_eq!(cache.get(&id).await.expect("memory answers"), None);

        let before = cache.generation();
        let policy = Policy { name: "Gold".to_owned(), ..Policy::new(id.clone()) };
        store.put_policy(&policy).await.expect("memory has room");

        assert_eq!(cache.get(&id).await.expect("memory answers").as_deref(), Some(&policy));
        assert_ne!(cache.generation(), before);
    }

    #[tokio::test]
    async fn a_policy_of_a_file_rules_over_the_stores() {
        let store = Store::in_memory(Clock::manual(0));
        let id = PolicyId::parse("gold").expect("an id");
        let policy = |name: &str| Policy { name: name.to_owned(), ..Policy::new(id.clone()) };
        store.put_policy(&policy("stored")).await.expect("memory has room");
        let cache = PolicyCache::new(&store, vec![policy("of a file")]);

        assert_eq!(cache.get(&id).await.expect("memory answers").map(|p| p.name.clone()), Some("of a file".to_owned()));
        assert!(cache.is_of_file(&id));
    }
}
