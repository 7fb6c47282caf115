//! The part of the store that the callers of one API may take up, where a plugin makes their sessions.
//!
//! Whoever gets credentials from such an API makes a session and counters with each. So these have bounds of their own, and
//! what operators made keeps its place.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::model::id::ApiId;

/// The share of one API, and what was counted of it.
#[derive(Debug)]
pub struct Share {
    /// The API.
    pub api: ApiId,
    /// Sessions that its plugin made. For one more, the one that would end first leaves.
    pub sessions_max: usize,
    /// Counters of their rates and quotas in this process. For one more, what can be read again leaves, or it is refused.
    pub counters_max: usize,
    /// What was counted.
    pub numbers: Arc<ShareNumbers>,
}

/// What a share has counted since its API loaded first.
#[derive(Debug, Default)]
pub struct ShareNumbers {
    /// Sessions that left before their time.
    pub evicted: AtomicU64,
    /// Requests whose session was not kept.
    pub unkept: AtomicU64,
    /// Requests for which there was no room for a counter.
    pub refused: AtomicU64,
}

impl Share {
    /// A share of which nothing is taken.
    pub fn new(api: ApiId, sessions_max: usize, counters_max: usize) -> Self {
        Self { api, sessions_max, counters_max, numbers: Arc::default() }
    }

    /// Counts on where the one before it is.
    #[must_use]
    pub fn counting_on(self, before: &Self) -> Self {
        Self { numbers: before.numbers.clone(), ..self }
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        let limits = |share: &Self| (share.sessions_max, share.counters_max);
        self.api == other.api && limits(self) == limits(other)
    }
}

impl Eq for Share {}

/// Which sessions plugins made, by API, in the order in which they end.
#[derive(Debug)]
pub(super) struct Made {
    by_api: HashMap<Arc<str>, BTreeSet<(u64, Arc<str>)>>,
    by_key: HashMap<Arc<str>, (Arc<str>, u64)>,
    /// Of all APIs together.
    max: usize,
}

/// A session that leaves to make room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) key: Arc<str>,
    /// Nobody misses it.
    pub(super) has_ended: bool,
}

impl Made {
    pub(super) fn new(max: usize) -> Self {
        Self { by_api: HashMap::new(), by_key: HashMap::new(), max: max.max(1) }
    }

    /// How many there are, those that have ended and are not looked for yet among them.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Takes out who must leave so that a session of this share fits. One that is there already has its place.
    ///
    /// What has ended goes first. Then the API itself gives up what would end first; where all APIs together have too many,
    /// the one that has most.
    pub(super) fn make_room(&mut self, share: &Share, key: &str, now_ms: u64) -> Vec<Leaving> {
        let mut leaving = Vec::new();
        let api = share.api.as_str();
        while self.first(api).is_some_and(|rank| rank <= now_ms) {
            leaving.extend(self.pop(api, now_ms));
        }
        if self.by_key.get(key).is_some_and(|(of, _)| &**of == api) {
            return leaving;
        }
        while self.by_api.get(api).is_some_and(|of| of.len() >= share.sessions_max.max(1)) {
            leaving.extend(self.pop(api, now_ms));
        }
        while self.len() >= self.max {
            let Some(largest) = self.by_api.iter().max_by_key(|(_, of)| of.len()).map(|(api, _)| api.clone()) else {
                break;
            };
            leaving.extend(self.pop(&largest, now_ms));
        }
        leaving
    }

    /// Enters a session, or moves it to its new place.
    pub(super) fn put(&mut self, api: &str, key: &str, rank: u64) {
        self.remove(key);
        let (api, key): (Arc<str>, Arc<str>) = match self.by_api.get_key_value(api) {
            Some((api, _)) => (api.clone(), key.into()),
            None => (api.into(), key.into()),
        };
        self.by_api.entry(api.clone()).or_default().insert((rank, key.clone()));
        self.by_key.insert(key, (api, rank));
    }

    /// Takes a session out; whether it was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        let Some((key, (api, rank))) = self.by_key.remove_entry(key) else { return false };
        self.take_out(&api, &(rank, key));
        true
    }

    fn first(&self, api: &str) -> Option<u64> {
        self.by_api.get(api)?.first().map(|(rank, _)| *rank)
    }

    fn pop(&mut self, api: &str, now_ms: u64) -> Option<Leaving> {
        let first = self.by_api.get(api)?.first()?.clone();
        self.take_out(api, &first);
        let (rank, key) = first;
        self.by_key.remove(&key);
        Some(Leaving { key, has_ended: rank <= now_ms })
    }

    fn take_out(&mut self, api: &str, place: &(u64, Arc<str>)) {
        let Some(of_api) = self.by_api.get_mut(api) else { return };
        of_api.remove(place);
        if of_api.is_empty() {
            self.by_api.remove(api);
        }
    }
}

/// A session's place in the order: when it ends, or for one that does not, after all those, when it was written.
pub(super) fn rank(expires_ms: Option<u64>, now_ms: u64) -> u64 {
    match expires_ms {
        Some(expires) => expires.min(NEVER - 1),
        None => NEVER.saturating_add(now_ms),
    }
}

/// Far beyond all times, and with a time added still exact as a floating-point number.
const NEVER: u64 = 4_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn share(api: &str, sessions_max: usize) -> Share {
        Share::new(ApiId::parse(api).expect("a name"), sessions_max, 1)
    }

    fn keep(made: &mut Made, share: &Share, key: &str, ends: u64) -> Vec<String> {
        let leaving = made.make_room(share, key, 10);
        made.put(share.api.as_str(), key, ends);
        let name = |leaving: &Leaving| format!("{}{}", leaving.key, if leaving.has_ended { " ended" } else { "" });
        leaving.iter().map(name).collect()
    }

    #[test]
    fn the_one_that_ends_first_leaves() {
        let (mut made, a) = (Made::new(100), share("a", 2));
        assert_eq!(keep(&mut made, &a, "1", 50), [""; 0]);
        assert_eq!(keep(&mut made, &a, "2", 40), [""; 0]);
        assert_eq!(keep(&mut made, &a, "2", 60), [""; 0], "it has its place");
        assert_eq!(keep(&mut made, &a, "3", 30), ["1"]);
        assert_eq!(keep(&mut made, &a, "4", rank(None, 1)), ["3"]);
        assert_eq!(keep(&mut made, &a, "5", rank(None, 0)), ["2"]);
        assert_eq!(keep(&mut made, &a, "6", 5), ["5"], "of those that never end the one written first");
        assert_eq!(keep(&mut made, &a, "7", 20), ["6 ended"]);
        assert_eq!(made.len(), 2);
    }

    #[test]
    fn where_all_have_too_many_the_one_with_most_gives_up() {
        let (mut made, large, small) = (Made::new(10), share("large", 100), share("small", 100));
        for number in 0..50 {
            keep(&mut made, &large, &format!("l{number}"), 100 + number);
        }
        assert_eq!(made.len(), 10);
        for number in 0..5 {
            let leaves = keep(&mut made, &small, &format!("s{number}"), 20 + number);
            assert_eq!(leaves, [format!("l{}", 40 + number)]);
        }
        assert!(made.remove("s1") && !made.remove("s1"));
        assert_eq!((made.len(), made.by_api.len()), (9, 2));
    }
}
