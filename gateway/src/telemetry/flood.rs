//! Warnings that every request may cause: told when they begin, then once in a while with how many there were.

use std::sync::atomic::{AtomicU64, Ordering};

/// One kind of warning. Metrics count all; the log is told that it goes on.
#[derive(Debug)]
pub struct Flood {
    /// When the last line was written, and 1 above it; 0 while it is quiet.
    told_ms: AtomicU64,
    /// When the last one was.
    last_ms: AtomicU64,
    untold: AtomicU64,
}

impl Flood {
    /// Nothing to warn of.
    pub const fn new() -> Self {
        Self { told_ms: AtomicU64::new(0), last_ms: AtomicU64::new(0), untold: AtomicU64::new(0) }
    }

    /// Another one. How many there were since the last line, where it is time for a line.
    pub fn begin(&self, now_ms: u64) -> Option<u64> {
        self.untold.fetch_add(1, Ordering::Relaxed);
        self.last_ms.store(now_ms, Ordering::Relaxed);
        let told = self.told_ms.load(Ordering::Relaxed);
        // A clock that was set back must not silence it.
        let is_time = told == 0 || now_ms.abs_diff(told - 1) >= INTERVAL_MS;
        let tells = is_time
            && self
                .told_ms
                .compare_exchange(told, now_ms.saturating_add(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        tells.then(|| self.untold.swap(0, Ordering::Relaxed).max(1))
    }

    /// It went well. Once it has done so for a while after a line said that it did not: how many were not told.
    pub fn end(&self, now_ms: impl FnOnce() -> u64) -> Option<u64> {
        // Mostly nothing to write: the line stays shared between cores.
        if self.told_ms.load(Ordering::Relaxed) == 0 {
            return None;
        }
        // What comes and goes all the time has not ended.
        if now_ms().abs_diff(self.last_ms.load(Ordering::Relaxed)) < INTERVAL_MS {
            return None;
        }
        let was_told = self.told_ms.swap(0, Ordering::Relaxed) > 0;
        was_told.then(|| self.untold.swap(0, Ordering::Relaxed))
    }
}

impl Default for Flood {
    fn default() -> Self {
        Self::new()
    }
}

const INTERVAL_MS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_when_it_begins_and_once_in_a_while() {
        let flood = Flood::new();
        assert_eq!(flood.end(|| 0), None);
        assert_eq!(flood.begin(0), Some(1));
        let told: Vec<(u64, u64)> = (1..=15_000).filter_map(|now| Some((now, flood.begin(now)?))).collect();
        assert_eq!(told, [(5_000, 5_000), (10_000, 5_000), (15_000, 5_000)]);
        assert_eq!(flood.begin(15_001), None);
        assert_eq!(flood.end(|| 20_000), None, "it may go on");
        assert_eq!(flood.end(|| 20_001), Some(1));
        assert_eq!(flood.end(|| 30_000), None);
        assert_eq!(flood.begin(30_000), Some(1), "it begins anew");
    }

    #[test]
    fn many_threads_write_one_line() {
        let flood = Flood::new();
        let lines: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..1_000).filter(|_| flood.begin(7).is_some()).count())).collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).sum()
        });
        assert_eq!((lines, flood.end(|| 9_000)), (1, Some(3_999)));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_silence_it() {
        let flood = Flood::new();
        assert_eq!(flood.begin(100_000), Some(1));
        assert_eq!(flood.begin(50_000), Some(1));
    }
}
