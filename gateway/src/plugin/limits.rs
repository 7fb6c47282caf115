//! How much memory guests may take, their own and what they hold of the gateway's: each its limit, and all together one budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

/// Memory of all guests of the process, or of those of one plugin.
#[derive(Debug)]
pub struct MemoryBudget {
    used: AtomicU64,
    bytes_max: u64,
    refused: AtomicU64,
    /// The budget that this one is a share of.
    whole: Option<Arc<MemoryBudget>>,
}

impl MemoryBudget {
    /// A budget of so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self { used: AtomicU64::new(0), bytes_max, refused: AtomicU64::new(0), whole: None }
    }

    /// A part of this budget: what is taken from it is taken from both.
    pub fn share(self: &Arc<Self>, percent: u32) -> Self {
        Self { whole: Some(self.clone()), ..Self::new(share(self.bytes_max, percent)) }
    }

    /// The budget in bytes.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes in use now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How often a guest was refused memory because the budget was used up, or its share of it.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        if self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            let counts = self.whole.as_deref().unwrap_or(self);
            counts.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let is_whole_fine = self.whole.as_ref().is_none_or(|whole| whole.take(bytes));
        if !is_whole_fine {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_whole_fine
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
    }
}

/// So many per cent of it.
pub fn share(of: u64, percent: u32) -> u64 {
    u64::try_from(u128::from(of) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// The limiter of one instance. What it took from the budget goes back when it is dropped.
#[derive(Debug)]
pub struct Limiter {
    memory_bytes_max: u64,
    table_elements_max: u64,
    taken: u64,
    /// Elements of all its tables.
    table_elements: u64,
    was_refused: bool,
    was_refused_by_budget: bool,
    budget: Arc<MemoryBudget>,
}

impl Limiter {
    /// A limiter for a fresh instance.
    pub fn new(memory_bytes_max: u64, table_elements_max: u64, budget: Arc<MemoryBudget>) -> Self {
        Self {
            memory_bytes_max,
            table_elements_max,
            taken: 0,
            table_elements: 0,
            was_refused: false,
            was_refused_by_budget: false,
            budget,
        }
    }

    /// Bytes that the instance has taken: its linear memory, and what it holds of the gateway's.
    pub fn memory_bytes(&self) -> u64 {
        self.taken
    }

    /// Takes so much memory, if the limit and the budget have it. It goes back with the instance.
    pub fn take(&mut self, bytes: u64) -> bool {
        let is_allowed = self.taken.saturating_add(bytes) <= self.memory_bytes_max;
        let fits = is_allowed && self.budget.take(bytes);
        if fits {
            self.taken += bytes;
        } else {
            self.was_refused = true;
            self.was_refused_by_budget |= is_allowed;
        }
        fits
    }

    /// Whether the guest was refused memory or table elements: if its call then fails, that is why.
    pub fn was_refused(&self) -> bool {
        self.was_refused
    }

    /// Whether that was because all guests together had used up their budget.
    pub fn was_refused_by_budget(&self) -> bool {
        self.was_refused_by_budget
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.take(desired.saturating_sub(current) as u64))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.table_elements.saturating_add(desired.saturating_sub(current) as u64);
        let fits = elements <= self.table_elements_max;
        if fits {
            self.table_elements = elements;
        } else {
            self.was_refused = true;
        }
        Ok(fits)
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.give_back(self.taken);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_taken_from_the_whole_and_is_not_all_of_it() {
        let whole = Arc::new(MemoryBudget::new(100));
        let (one, other) = (whole.share(75), whole.share(75));
        assert!(one.take(75));
        assert!(!one.take(1), "its share is used up");
        assert!(!other.take(26), "the whole is used up");
        assert!(other.take(25));
        assert_eq!((whole.used(), whole.refused(), other.used()), (100, 2, 25));
        one.give_back(75);
        assert_eq!((whole.used(), one.used()), (25, 0));
        assert!(other.take(50));
        assert_eq!(share(u64::MAX, 100), u64::MAX);
    }

    #[test]
    fn a_full_budget_is_told_from_a_limit_of_its_own() {
        let mut limiter = Limiter::new(100, 0, Arc::new(MemoryBudget::new(50)));
        assert!(!limiter.memory_growing(0, 101, None).unwrap());
        assert!(limiter.was_refused() && !limiter.was_refused_by_budget());
        assert!(!limiter.memory_growing(0, 51, None).unwrap());
        assert!(limiter.was_refused_by_budget());
    }

    #[test]
    fn tables_of_an_instance_share_their_elements() {
        let mut limiter = Limiter::new(0, 100, Arc::new(MemoryBudget::new(0)));
        assert!(limiter.table_growing(0, 60, None).unwrap());
        assert!(limiter.table_growing(60, 80, None).unwrap());
        assert!(!limiter.was_refused());
        assert!(!limiter.table_growing(0, 21, None).unwrap(), "another table");
        assert!(limiter.was_refused());
        assert!(limiter.table_growing(0, 20, None).unwrap());
        assert!(!limiter.table_growing(80, 81, None).unwrap());
    }
}
