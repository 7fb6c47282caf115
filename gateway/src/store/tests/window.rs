//! No interleaving lets more through than the limit, whatever the algorithm; time is a number that the test moves.

use std::num::NonZeroU64;
use std::time::Duration;

use proptest::prelude::*;

use super::limits::{quota, rate};
use crate::model::id::ApiId;
use crate::model::limit::{Algorithm, RateLimit};
use crate::model::store::{StoreLimits, StoreSettings};
use crate::store::counters::{Counters, Taken};
use crate::store::{Owner, Store, Take, Verdict};

/// At most so many, of which nothing is written down.
fn counters(counters_max: usize) -> Counters {
    Counters::new(&StoreLimits { counters_max, ..StoreLimits::default() }, None)
}

const START_US: u64 = 1_795_395_600_000_000;

fn algorithms() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        Just(Algorithm::Fixed),
        Just(Algorithm::Sliding),
        Just(Algorithm::Smooth { burst: 1 }),
        (2_u32..20).prop_map(|burst| Algorithm::Smooth { burst }),
    ]
}

/// Times between requests: many at once, some close, some far.
fn gaps() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(
        prop_oneof![3 => Just(0_u64), 3 => 1_u64..2_000, 2 => 1_u64..400_000, 1 => 1_u64..9_000_000],
        1..400,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_lets_more_through(
        algorithm in algorithms(),
        max in prop_oneof![4 => 1_u64..30, 1 => 1_001_u64..1_020],
        per_us in prop_oneof![1_000_u64..5_000_000, Just(1_000_000)],
        gaps in gaps(),
        threads in 1_usize..4,
    ) {
        let counters = counters(1_000);
        let owner = Owner::api(&ApiId::parse("a").expect("it is a name"));
        let limit = RateLimit::new(NonZeroU64::new(max).expect("given"), Duration::from_micros(per_us)).expect("in range");
        let take = Take { rates: [crate::store::RateUse { key: owner.rate(None), limit, algorithm }].into_iter().collect(), quota: None, ..Take::default() };
        let mut passed = Vec::new();
        let mut now = START_US;
        for gap in &gaps {
            now += gap;
            // Requests of one moment, from several threads.
            let allowed: usize = std::thread::scope(|scope| {
                let takes: Vec<_> = (0..threads).map(|_| scope.spawn(|| is_allowed(&counters, &take, now))).collect();
                takes.into_iter().map(|take| usize::from(take.join().expect("it does not panic"))).sum()
            });
            passed.extend(std::iter::repeat_n(now, allowed));
        }
        let most = |from: u64| passed.iter().filter(|time| (from..from + per_us).contains(time)).count();
        let max = usize::try_from(max).expect("small");
        match algorithm {
            Algorithm::Fixed => {
                for time in &passed {
                    prop_assert!(most(time - time % per_us) <= max);
                }
            }
            Algorithm::Sliding => {
                for time in &passed {
                    prop_assert!(most(*time) <= max);
                }
            }
            Algorithm::Smooth { burst } => {
                let burst = usize::try_from(burst).expect("small").clamp(1, max);
                for time in &passed {
                    prop_assert!(most(*time) < max + burst);
                }
            }
        }
        prop_assert!(!passed.is_empty());
    }

    /// Whoever waits as long as he is told gets through, and one microsecond earlier does not.
    #[test]
    fn the_wait_is_exact(
        algorithm in algorithms(),
        max in 1_u64..30,
        per_us in 1_000_u64..5_000_000,
        gaps in gaps(),
    ) {
        let counters = counters(1_000);
        let owner = Owner::api(&ApiId::parse("a").expect("it is a name"));
        let take = Take { rates: [rate(&owner, max, Duration::from_micros(per_us), algorithm)].into_iter().collect(), quota: None, ..Take::default() };
        let mut now = START_US;
        for gap in gaps {
            now += gap;
            if let Verdict::Limited { retry_after, .. } = verdict(&counters, &take, now) {
                let wait = u64::try_from(retry_after.as_micros()).expect("small");
                prop_assert!(wait > 0);
                prop_assert!(!is_allowed(&counters, &take, now + wait - 1));
                now += wait;
                prop_assert!(is_allowed(&counters, &take, now));
            }
        }
    }

    /// However takes with and without quota mix, no more than the quota passes until it renews.
    #[test]
    fn a_quota_is_never_exceeded(max in 1_u64..50, gaps in gaps()) {
        let counters = counters(1_000);
        let owner = Owner::api(&ApiId::parse("a").expect("it is a name"));
        let slow = rate(&owner, 20, Duration::from_secs(1), Algorithm::Sliding);
        let take = Take { rates: [slow].into_iter().collect(), quota: Some(quota(&owner, max, 2)), ..Take::default() };
        let (mut now, mut used, mut renews) = (START_US, 0, 0);
        for gap in gaps {
            now += gap;
            match verdict(&counters, &take, now) {
                Verdict::Allowed(allowance) => {
                    let state = allowance.quota.expect("it was asked for");
                    if now / 1_000 >= renews {
                        (used, renews) = (0, state.renews_ms.expect("it renews"));
                    }
                    used += 1;
                    prop_assert_eq!(state.remaining, max - used);
                }
                Verdict::QuotaExceeded(_) => prop_assert!(used == max && now / 1_000 < renews),
                Verdict::Limited { .. } => {}
            }
        }
    }
}

fn is_allowed(counters: &Counters, take: &Take, now_us: u64) -> bool {
    matches!(verdict(counters, take, now_us), Verdict::Allowed(_))
}

fn verdict(counters: &Counters, take: &Take, now_us: u64) -> Verdict {
    match counters.take(take, now_us, &|_| false).expect("there is room") {
        Taken::Decided(verdict) => verdict,
        Taken::Wait(_) | Taken::Load(_) => panic!("nothing is written down"),
    }
}

// limit: store.counters_max counts: counters_refused
#[tokio::test]
async fn a_full_table_refuses_another_counter_until_one_is_idle() {
    // Ten have room in each of its 64 parts.
    let limits = StoreLimits { counters_max: 640, ..StoreLimits::default() };
    let clock = super::bench::clock();
    let store = Store::open(&StoreSettings { limits, ..StoreSettings::default() }, clock.clone()).expect("it opens");
    let counted = async |numbers: std::ops::Range<u32>| {
        let mut counted = 0;
        for number in numbers {
            let owner = Owner::api(&ApiId::parse(&number.to_string()).expect("it is a name"));
            let slow = rate(&owner, 1, Duration::from_secs(1), Algorithm::Sliding);
            let take = Take { rates: [slow].into_iter().collect(), ..Take::default() };
            counted += usize::from(store.take(&take).await.is_ok());
        }
        (counted, store.counters_held(), store.counters_refused())
    };
    assert_eq!(counted(0..10).await, (10, 10, 0), "whichever part they come to");
    // All parts are full when so many names have come, and no part has more than is its own.
    assert_eq!(counted(10..20_000).await, (630, 640, 20_000 - 640));
    assert_eq!(counted(20_000..20_001).await, (0, 640, 20_001 - 640));

    clock.advance(Duration::from_secs(2));
    let (counted, held, refused) = counted(30_000..30_010).await;
    assert_eq!((counted, refused), (10, 20_001 - 640));
    assert!(held <= 640, "{held}");
}

#[test]
fn a_clock_that_was_set_back_does_not_block_for_ever() {
    for algorithm in super::limits::ALGORITHMS {
        let counters = counters(100);
        let owner = Owner::api(&ApiId::parse("a").expect("it is a name"));
        let take = Take {
            rates: [rate(&owner, 1, Duration::from_secs(1), algorithm)].into_iter().collect(),
            quota: None,
            ..Take::default()
        };
        assert!(is_allowed(&counters, &take, START_US + 3_600_000_000), "{algorithm:?}");
        assert!(is_allowed(&counters, &take, START_US), "{algorithm:?}");
        assert!(!is_allowed(&counters, &take, START_US), "{algorithm:?}");
    }
}
