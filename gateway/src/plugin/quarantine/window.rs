//! Calls and failures of the last while, in slices of time; counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The last while. A slice is a number that tells its time, and two counts, in one atomic.
pub(super) struct Window {
    slices: [AtomicU64; SLICES],
    slice_ms: u64,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// A call went well.
    Went,
    /// A call failed.
    Failed,
    /// A call that was counted as good failed after all.
    Overruled,
}

/// What was counted in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) went: u32,
    pub(super) failed: u32,
}

#[derive(Clone, Copy)]
struct Slice {
    number: u32,
    went: u16,
    failed: u16,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let slices = u32::try_from(SLICES).unwrap_or(u32::MAX);
        let slice_ms = u64::try_from((length / slices).as_millis()).unwrap_or(u64::MAX).max(1);
        Self { slices: Default::default(), slice_ms }
    }

    /// How long a slice is.
    pub(super) fn slice_ms(&self) -> u64 {
        self.slice_ms
    }

    /// Counts one call at this time, and gives the sums with it.
    pub(super) fn note(&self, now_ms: u64, noted: Noted) -> Sums {
        let number = self.number(now_ms);
        let index = usize::try_from(number).unwrap_or(0) % SLICES;
        if let Some(slice) = self.slices.get(index) {
            let add = |packed| Some(u64::from(Slice::from(packed).of(number).with(noted)));
            // It never gives up.
            let _ = slice.try_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
        self.sums(number)
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.slices.iter().for_each(|slice| slice.store(0, Ordering::Relaxed));
    }

    fn sums(&self, number: u32) -> Sums {
        let slices = self.slices.iter().map(|slice| Slice::from(slice.load(Ordering::Relaxed)));
        let is_recent =
            |slice: &Slice| usize::try_from(number.wrapping_sub(slice.number)).is_ok_and(|age| age < SLICES);
        slices.filter(is_recent).fold(Sums::default(), |sums, slice| Sums {
            went: sums.went + u32::from(slice.went),
            failed: sums.failed + u32::from(slice.failed),
        })
    }

    /// The number of the slice. It begins anew after a long time, which no slice survives.
    fn number(&self, now_ms: u64) -> u32 {
        u32::try_from(now_ms / self.slice_ms % (1 << 32)).unwrap_or(0)
    }
}

impl Slice {
    /// The slice as it is at the time of this number: empty if it is of another.
    fn of(self, number: u32) -> Self {
        if self.number == number { self } else { Self { number, went: 0, failed: 0 } }
    }

    fn with(mut self, noted: Noted) -> Self {
        if self.went == u16::MAX || self.failed == u16::MAX {
            // The share is what counts.
            self.went /= 2;
            self.failed /= 2;
        }
        match noted {
            Noted::Went => self.went += 1,
            Noted::Failed => self.failed += 1,
            Noted::Overruled => {
                self.went = self.went.saturating_sub(1);
                self.failed += 1;
            }
        }
        self
    }
}

impl From<u64> for Slice {
    fn from(packed: u64) -> Self {
        let [a, b, c, d, e, f, g, h] = packed.to_be_bytes();
        Self {
            number: u32::from_be_bytes([a, b, c, d]),
            went: u16::from_be_bytes([e, f]),
            failed: u16::from_be_bytes([g, h]),
        }
    }
}

impl From<Slice> for u64 {
    fn from(slice: Slice) -> Self {
        Self::from(slice.number) << 32 | Self::from(slice.went) << 16 | Self::from(slice.failed)
    }
}

const SLICES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let window = Window::new(Duration::from_secs(10));
        for second in 0..10 {
            window.note(second * 1_000, Noted::Failed);
        }
        assert_eq!(window.note(9_999, Noted::Went), Sums { went: 1, failed: 10 });
        assert_eq!(window.note(10_000, Noted::Went), Sums { went: 2, failed: 9 });
        assert_eq!(window.note(18_999, Noted::Failed), Sums { went: 2, failed: 2 });
        assert_eq!(window.note(19_000, Noted::Failed), Sums { went: 1, failed: 2 });
        assert_eq!(window.note(1 << 40, Noted::Failed), Sums { went: 0, failed: 1 });
    }

    #[test]
    fn a_slice_that_is_full_keeps_the_share() {
        let window = Window::new(Duration::from_secs(10));
        let sums = (0..200_000).map(|n| window.note(0, if n % 4 == 0 { Noted::Failed } else { Noted::Went })).last();
        let Sums { went, failed } = sums.unwrap_or_default();
        let share = f64::from(failed) / f64::from(went + failed);
        assert!((share - 0.25).abs() < 0.01, "{went} {failed}");
    }

    #[test]
    fn a_verdict_that_is_overruled_moves_to_the_failures() {
        let window = Window::new(Duration::from_secs(10));
        window.note(0, Noted::Went);
        assert_eq!(window.note(0, Noted::Overruled), Sums { went: 0, failed: 1 });
        assert_eq!(window.note(0, Noted::Overruled), Sums { went: 0, failed: 2 });
    }

    #[test]
    fn cores_count_together() {
        let window = Window::new(Duration::from_secs(10));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|n| _ = window.note(n, Noted::Went)));
            }
        });
        assert_eq!(window.note(999, Noted::Failed), Sums { went: 4_000, failed: 1 });
    }
}
