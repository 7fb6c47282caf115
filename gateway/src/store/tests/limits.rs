//! Rates and quotas.

use std::num::NonZeroU64;
use std::time::Duration;

use smallvec::smallvec;

use super::bench::Bench;
use crate::model::key::KeyHash;
use crate::model::limit::{Algorithm, QuotaLimit, RateLimit};
use crate::store::{Owner, QuotaState, QuotaUse, RateUse, Store, StoreError, Take, Verdict};

pub(super) const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::Fixed, Algorithm::Sliding, Algorithm::Smooth { burst: 1 }, Algorithm::Smooth { burst: u32::MAX }];

pub(super) fn owner(name: &str) -> Owner {
    Owner::session(&KeyHash::of(name), None)
}

pub(super) fn rate(owner: &Owner, max: u64, per: Duration, algorithm: Algorithm) -> RateUse {
    let limit = RateLimit::new(NonZeroU64::new(max).expect("given"), per).expect("given in range");
    RateUse { key: owner.rate(None), limit, algorithm }
}

pub(super) fn quota(owner: &Owner, max: u64, renewal_seconds: u64) -> QuotaUse {
    let limit = QuotaLimit::new(NonZeroU64::new(max).expect("given"), renewal_seconds);
    QuotaUse { owner: owner.clone(), limit }
}

fn rated(rate: RateUse) -> Take {
    Take { rates: smallvec![rate], quota: None, ..Take::default() }
}

fn only(quota: QuotaUse) -> Take {
    Take { rates: smallvec![], quota: Some(quota), ..Take::default() }
}

async fn passes(store: &Store, take: &Take) -> bool {
    matches!(store.take(take).await.expect("it is there"), Verdict::Allowed(_))
}

pub(super) async fn each_algorithm_lets_its_limit_through_and_no_more(bench: &Bench) {
    for algorithm in ALGORITHMS {
        let take = rated(rate(&owner(&format!("{algorithm:?}")), 10, Duration::from_secs(10), algorithm));
        // Fixed windows begin at multiples of their length.
        bench.advance(Duration::from_millis(10_000 - bench.clock.now_ms() % 10_000)).await;
        let mut passed = 0;
        // A request a second passes in each of them; one more at once where a burst may come.
        for _ in 0..10 {
            passed += usize::from(passes(&bench.store, &take).await) + usize::from(passes(&bench.other, &take).await);
            bench.advance(Duration::from_secs(1)).await;
        }
        let expected = if matches!(algorithm, Algorithm::Smooth { burst: u32::MAX }) { 19 } else { 10 };
        assert_eq!(passed, expected, "{algorithm:?}");
        bench.advance(Duration::from_secs(10)).await;
        assert!(passes(&bench.store, &take).await, "{algorithm:?}");
    }
}

pub(super) async fn what_is_refused_counts_nowhere(bench: &Bench) {
    for algorithm in ALGORITHMS {
        let (api, caller) = (owner("api"), owner(&format!("{algorithm:?}")));
        let wide = rate(&api, 3, Duration::from_secs(60), Algorithm::Sliding);
        let narrow = rate(&caller, 1, Duration::from_secs(60), algorithm);
        let take =
            Take { rates: smallvec![wide.clone(), narrow], quota: Some(quota(&caller, 5, 60)), ..Take::default() };
        assert!(passes(&bench.store, &take).await, "{algorithm:?}");
        for _ in 0..5 {
            let refused = bench.other.take(&take).await.expect("it is there");
            let Verdict::Limited { by: 1, limit: 1, retry_after } = refused else {
                panic!("{algorithm:?}: {refused:?}")
            };
            assert!(retry_after <= Duration::from_secs(60) && !retry_after.is_zero(), "{algorithm:?}: {retry_after:?}");
        }
        let limit = take.quota.clone().expect("given").limit;
        assert_eq!(bench.store.quota(&caller, &limit).await.map(|quota| quota.remaining), Ok(4));
        // Two of three are left to others.
        assert!(passes(&bench.store, &rated(wide.clone())).await, "{algorithm:?}");
        assert!(passes(&bench.store, &rated(wide.clone())).await, "{algorithm:?}");
        assert!(!passes(&bench.store, &rated(wide)).await, "{algorithm:?}");
        bench.advance(Duration::from_secs(60)).await;
    }
}

pub(super) async fn the_first_rate_that_refuses_is_named(bench: &Bench) {
    let (first, second) = (owner("1"), owner("2"));
    let rates = |take: &Take| Take { quota: Some(quota(&second, 1, 60)), ..take.clone() };
    let take = Take {
        rates: smallvec![
            rate(&first, 1, Duration::from_secs(60), Algorithm::Sliding),
            rate(&second, 1, Duration::from_secs(10), Algorithm::Sliding)
        ],
        quota: None,
        ..Take::default()
    };
    let allowed = bench.store.take(&rates(&take)).await.expect("it is there");
    let Verdict::Allowed(allowance) = allowed else { panic!("{allowed:?}") };
    assert_eq!(allowance.rates.iter().map(|rate| rate.remaining).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(allowance.rates.iter().map(|rate| rate.reset.as_secs()).collect::<Vec<_>>(), [60, 10]);
    assert_eq!(allowance.quota.map(|quota| quota.remaining), Some(0));
    let limited = bench.store.take(&rates(&take)).await.expect("it is there");
    assert_eq!(limited, Verdict::Limited { by: 0, limit: 1, retry_after: Duration::from_secs(60) });
    bench.store.reset_quota(&second).await.expect("it is there");
    let second_only = Take { rates: smallvec![take.rates[1].clone()], quota: None, ..Take::default() };
    let limited = bench.other.take(&second_only).await.expect("it is there");
    assert_eq!(limited, Verdict::Limited { by: 0, limit: 1, retry_after: Duration::from_secs(10) });
}

pub(super) async fn a_hundred_on_the_last_unit_let_one_through(bench: &Bench) {
    for max in [1, 40, 500] {
        let take = only(quota(&owner(&max.to_string()), max, 3600));
        for _ in 1..max {
            assert!(passes(&bench.store, &take).await);
        }
        assert_eq!(passed_of_a_hundred(bench, &take).await, 1, "of {max}");
    }
}

pub(super) async fn a_hundred_on_the_last_request_of_a_rate_let_one_through(bench: &Bench) {
    for algorithm in ALGORITHMS {
        let caller = owner(&format!("{algorithm:?}"));
        let take = Take {
            rates: smallvec![rate(&caller, 1, Duration::from_secs(600), algorithm)],
            quota: Some(quota(&caller, 1_000, 0)),
            ..Take::default()
        };
        assert_eq!(passed_of_a_hundred(bench, &take).await, 1, "{algorithm:?}");
    }
}

async fn passed_of_a_hundred(bench: &Bench, take: &Take) -> usize {
    let takes = (0..100).map(|number| {
        let store = if number % 2 == 0 { bench.store.clone() } else { bench.other.clone() };
        async move { passes(&store, take).await }
    });
    futures_util::future::join_all(takes).await.into_iter().filter(|passed| *passed).count()
}

pub(super) async fn a_quota_renews_and_is_reset_and_set(bench: &Bench) {
    let caller = owner("a");
    let take = only(quota(&caller, 2, 100));
    let limit = take.quota.clone().expect("given").limit;
    let fresh = QuotaState { max: 2, remaining: 2, renews_ms: None };
    assert_eq!(bench.store.quota(&caller, &limit).await, Ok(fresh));
    assert!(passes(&bench.store, &take).await && passes(&bench.other, &take).await);
    let Ok(Verdict::QuotaExceeded(state)) = bench.store.take(&take).await else { panic!("two of two were used") };
    let renews = state.renews_ms.expect("it renews");
    assert!(renews.abs_diff(bench.clock.now_ms() + 100_000) < 5_000, "{renews}");
    assert_eq!((state.max, state.remaining), (2, 0));

    bench.store.set_quota_remaining(&caller, &limit, 1).await.expect("it is there");
    let state = bench.other.quota(&caller, &limit).await.expect("it is there");
    assert_eq!(state.remaining, 1);
    assert!(state.renews_ms.expect("it renews").abs_diff(renews) < 5_000, "it goes on to its renewal");
    assert!(passes(&bench.other, &take).await && !passes(&bench.store, &take).await);

    bench.other.reset_quota(&caller).await.expect("it is there");
    assert!(passes(&bench.store, &take).await && passes(&bench.store, &take).await);
    assert!(!passes(&bench.store, &take).await);

    bench.advance(Duration::from_secs(110)).await;
    assert_eq!(bench.store.quota(&caller, &limit).await, Ok(fresh));
    assert!(passes(&bench.store, &take).await && passes(&bench.store, &take).await);
    assert!(!passes(&bench.store, &take).await);
}

pub(super) async fn a_quota_without_renewal_stays_used_up(bench: &Bench) {
    let (caller, other) = (owner("a"), owner("b"));
    let take = only(quota(&caller, 1, 0));
    assert!(passes(&bench.store, &take).await);
    bench.advance(Duration::from_secs(1_000_000)).await;
    let Ok(Verdict::QuotaExceeded(state)) = bench.other.take(&take).await else { panic!("it never renews") };
    assert_eq!(state.renews_ms, None);
    assert!(passes(&bench.store, &only(quota(&other, 1, 0))).await);
}

pub(super) async fn a_changed_limit_applies_at_once(bench: &Bench) {
    let caller = owner("a");
    for algorithm in [Algorithm::Fixed, Algorithm::Sliding] {
        let minute = Duration::from_secs(60);
        let (small, large) = (rated(rate(&caller, 1, minute, algorithm)), rated(rate(&caller, 3, minute, algorithm)));
        assert!(passes(&bench.store, &small).await && !passes(&bench.store, &small).await, "{algorithm:?}");
        assert!(passes(&bench.store, &large).await && passes(&bench.other, &large).await, "{algorithm:?}");
        assert!(!passes(&bench.store, &large).await && !passes(&bench.store, &small).await, "{algorithm:?}");
    }
    let (small, large) = (only(quota(&caller, 1, 60)), only(quota(&caller, 2, 60)));
    assert!(passes(&bench.store, &small).await && !passes(&bench.store, &small).await);
    assert!(passes(&bench.store, &large).await && !passes(&bench.store, &large).await);
}

pub(super) async fn wrong_takes_are_refused(bench: &Bench) {
    let one = rate(&owner("a"), 1, Duration::from_secs(1), Algorithm::Fixed);
    let twice = Take { rates: smallvec![one.clone(), one.clone()], quota: None, ..Take::default() };
    assert!(matches!(bench.store.take(&twice).await, Err(StoreError::Invalid(_))));
    let part = |number: u32| RateUse { key: owner("a").rate(Some(&number.to_string())), ..one.clone() };
    let many = Take { rates: (0..9).map(part).collect(), quota: None, ..Take::default() };
    assert!(matches!(bench.store.take(&many).await, Err(StoreError::Invalid(_))));
}

/// One arithmetic in two languages: what Redis says must be what this process says.
pub(super) async fn it_counts_as_memory_does(bench: &Bench) {
    let memory = Store::in_memory(bench.clock.clone());
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for round in 0..20 {
        let (one, two) = (owner(&format!("{round}-1")), owner(&format!("{round}-2")));
        let max = [1, 3, 7, 2_000][usize::try_from(next(4)).unwrap_or(0)];
        let per = Duration::from_millis(1 + next(20_000));
        let algorithm = [
            Algorithm::Fixed,
            Algorithm::Sliding,
            Algorithm::Smooth { burst: 1 },
            Algorithm::Smooth { burst: 2 },
            Algorithm::Smooth { burst: 5_000 },
        ][usize::try_from(next(5)).unwrap_or(0)];
        let take = Take {
            rates: smallvec![
                rate(&one, max, per, algorithm),
                rate(&two, 1 + next(20), Duration::from_secs(1 + next(10)), Algorithm::Sliding)
            ],
            quota: Some(quota(&two, 50, 0)),
            ..Take::default()
        };
        for step in 0..40 {
            let (is, expected) = (bench.store.take(&take).await, memory.take(&take).await);
            assert_eq!(is, expected, "round {round}, step {step}: {take:?}");
            let by = Duration::from_millis([0, 1, next(50), next(3_000)][usize::try_from(next(4)).unwrap_or(0)]);
            bench.advance(by).await;
        }
    }
}
