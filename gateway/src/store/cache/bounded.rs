//! A map of so many entries: who was used since last looked at gets a second chance, the others go, oldest first.

use std::collections::{HashMap, VecDeque};

use crate::model::key::KeyHash;

pub(super) struct Bounded<V> {
    max: usize,
    entries: HashMap<KeyHash, Held<V>>,
    /// In the order in which they came. Some may have gone since.
    order: VecDeque<(KeyHash, u64)>,
    next: u64,
}

struct Held<V> {
    value: V,
    is_used: bool,
    /// Tells it from an entry of the same key that went.
    number: u64,
}

impl<V> Bounded<V> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, entries: HashMap::new(), order: VecDeque::new(), next: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn get(&mut self, key: &KeyHash) -> Option<&V> {
        let held = self.entries.get_mut(key)?;
        held.is_used = true;
        Some(&held.value)
    }

    /// How many had to go.
    pub(super) fn insert(&mut self, key: &KeyHash, value: V) -> u64 {
        if let Some(held) = self.entries.get_mut(key) {
            held.value = value;
            return 0;
        }
        let mut evicted = 0;
        while self.entries.len() >= self.max {
            let Some((key, number)) = self.order.pop_front() else { break };
            match self.entries.get_mut(&key) {
                Some(held) if held.number == number && held.is_used => {
                    held.is_used = false;
                    self.order.push_back((key, number));
                }
                Some(held) if held.number == number => {
                    self.entries.remove(&key);
                    evicted += 1;
                }
                _ => {}
            }
        }
        self.next += 1;
        self.entries.insert(key.clone(), Held { value, is_used: false, number: self.next });
        self.order.push_back((key.clone(), self.next));
        if self.order.len() > self.max.saturating_mul(2).saturating_add(16) {
            let entries = &self.entries;
            self.order.retain(|(key, number)| entries.get(key).is_some_and(|held| held.number == *number));
        }
        evicted
    }

    pub(super) fn remove(&mut self, key: &KeyHash) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let key = |number: u32| KeyHash::of(&number.to_string());
        let mut bounded = Bounded::new(10);
        let mut evicted = 0;
        for number in 0..1_000 {
            evicted += bounded.insert(&key(number), number);
            assert_eq!(bounded.get(&key(0)), Some(&0), "after {number}");
        }
        assert_eq!((bounded.len(), evicted), (10, 990));
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing_behind() {
        let mut bounded = Bounded::new(10);
        for number in 0..1_000_u32 {
            let key = KeyHash::of(&(number % 3).to_string());
            bounded.insert(&key, number);
            bounded.remove(&key);
        }
        assert_eq!(bounded.len(), 0);
        assert!(bounded.order.len() <= 36, "{}", bounded.order.len());
    }
}
