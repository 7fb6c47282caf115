//! Times as coarse as a plugin is told them.

use std::time::Duration;

/// Nanoseconds of the system's monotonic clock.
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let nanoseconds = now.tv_sec.saturating_mul(NANOSECONDS).saturating_add(now.tv_nsec);
    u64::try_from(nanoseconds).unwrap_or(0)
}

/// A duration as a guest's clocks count it.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The begin of the grain that a time is in.
pub fn begin(time: u64, grain: Duration) -> u64 {
    time - time % nanoseconds(grain).max(1)
}

/// The same of a time in milliseconds.
pub fn begin_ms(time_ms: u64, grain: Duration) -> u64 {
    begin(time_ms.saturating_mul(NANOSECONDS_OF_MS), grain) / NANOSECONDS_OF_MS
}

/// The begin of the first grain that is not before a time.
pub fn end(time: u64, grain: Duration) -> u64 {
    time.div_ceil(nanoseconds(grain).max(1)).saturating_mul(nanoseconds(grain).max(1))
}

/// Such a time from now on, in nanoseconds, lengthened to where a grain begins.
pub fn until_end(duration: u64, grain: Duration) -> u64 {
    let now = monotonic();
    end(now.saturating_add(duration), grain).saturating_sub(now)
}

const NANOSECONDS: i64 = 1_000_000_000;
const NANOSECONDS_OF_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_in_its_grain() {
        let grain = Duration::from_millis(1);
        for (time, begins, ends) in
            [(0, 0, 0), (1, 0, 1_000_000), (999_999, 0, 1_000_000), (1_000_000, 1_000_000, 1_000_000)]
        {
            assert_eq!((begin(time, grain), end(time, grain)), (begins, ends), "{time}");
        }
        assert_eq!(end(u64::MAX, grain), u64::MAX);
        for (time_ms, grain_us, begins) in [(1_234, 1_000, 1_234), (1_234, 100_000, 1_200), (1_234, 1, 1_234)] {
            assert_eq!(begin_ms(time_ms, Duration::from_micros(grain_us)), begins);
        }
    }
}
