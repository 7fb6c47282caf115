//! No interleaving of requests lets more than a limit through, on any store: several tasks and two gateways take of several
//! keys at once, quotas are reset among them, and the test moves the clock.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;

use super::bench::Bench;
use super::limits::{ALGORITHMS, owner, quota, rate};
use crate::model::limit::Algorithm;
use crate::random::Random;
use crate::store::{Owner, Take, Verdict};

const ROUNDS: usize = 8;
const MOMENTS: usize = 24;
const KEYS: usize = 3;

/// What happened at one moment.
#[derive(Default)]
struct Moment {
    at_us: u64,
    /// By key: requests that passed, and resets of its quota that were asked for meanwhile.
    passed: HashMap<usize, u64>,
    resets: HashMap<usize, u64>,
    /// Requests that passed and counted in the rate of all.
    of_all: u64,
}

pub(super) async fn no_interleaving_lets_more_than_a_limit_through(bench: &Bench) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..ROUNDS {
        let algorithm = ALGORITHMS[round % ALGORITHMS.len()];
        let per = Duration::from_millis(200 + random.below(3_000));
        let (max, max_of_all) = (1 + random.below(8), 6 + random.below(10));
        let (quota_max, renewal) = (3 + random.below(60), if round % 3 == 0 { 0 } else { 3 + random.below(6) });
        let all = owner(&format!("{round}-all"));
        let keys: Vec<Owner> = (0..KEYS).map(|key| owner(&format!("{round}-{key}"))).collect();
        let takes: Vec<Take> = keys
            .iter()
            .map(|key| {
                let rates = [rate(&all, max_of_all, per, algorithm), rate(key, max, per, algorithm)];
                Take {
                    rates: rates.into_iter().collect(),
                    quota: Some(quota(key, quota_max, renewal)),
                    ..Take::default()
                }
            })
            .collect();

        let mut moments = Vec::new();
        for _ in 0..MOMENTS {
            let mut moment = Moment { at_us: bench.clock.now_ms() * 1_000, ..Moment::default() };
            let tasks: Vec<(usize, bool, bool)> = (0..random.index(20))
                .map(|_| (random.index(KEYS), random.below(2) == 0, random.below(60) == 0))
                .collect();
            let done = join_all(tasks.iter().map(|(key, is_other, is_reset)| {
                let store = if *is_other { bench.other.clone() } else { bench.store.clone() };
                let (take, key) = (takes[*key].clone(), keys[*key].clone());
                let is_reset = *is_reset;
                // Tasks of their own: they run as they like.
                let task = tokio::spawn(async move {
                    if is_reset {
                        store.reset_quota(&key).await.expect("it is there");
                        return false;
                    }
                    matches!(store.take(&take).await.expect("it is there"), Verdict::Allowed(_))
                });
                async move { task.await.expect("it does not panic") }
            }));
            for ((key, _, is_reset), passed) in tasks.iter().zip(done.await) {
                *moment.resets.entry(*key).or_default() += u64::from(*is_reset);
                *moment.passed.entry(*key).or_default() += u64::from(passed);
                moment.of_all += u64::from(passed);
            }
            moments.push(moment);
            let by = [0, 1, random.below(200), random.below(2_000)][random.index(4)];
            bench.advance(Duration::from_millis(by)).await;
        }

        let what =
            format!("round {round}: {algorithm:?}, {max} and {max_of_all} in {per:?}, {quota_max} in {renewal} s");
        let per_us = u64::try_from(per.as_micros()).expect("short");
        keeps(&moments, |moment| moment.of_all, max_of_all, per_us, algorithm, &what);
        for key in 0..KEYS {
            let passed = |moment: &Moment| moment.passed.get(&key).copied().unwrap_or(0);
            keeps(&moments, passed, max, per_us, algorithm, &what);
            // In any stretch shorter than a period one renewal may fall, and each reset gives the quota once more.
            for (first, from) in moments.iter().enumerate() {
                let is_in = |moment: &&Moment| renewal == 0 || moment.at_us < from.at_us + renewal * 1_000_000;
                let stretch = || moments[first..].iter().take_while(is_in);
                let resets: u64 = stretch().map(|moment| moment.resets.get(&key).copied().unwrap_or(0)).sum();
                let most = quota_max * (1 + resets + u64::from(renewal > 0));
                let passed: u64 = stretch().map(passed).sum();
                assert!(passed <= most, "{what}: {passed} of a quota passed");
            }
        }
        assert!(moments.iter().any(|moment| moment.of_all > 0), "{what}");
    }
}

#[track_caller]
fn keeps(moments: &[Moment], passed: impl Fn(&Moment) -> u64, max: u64, per_us: u64, algorithm: Algorithm, what: &str) {
    for moment in moments {
        let (from, most) = match algorithm {
            Algorithm::Fixed => (moment.at_us - moment.at_us % per_us, max),
            Algorithm::Sliding => (moment.at_us, max),
            Algorithm::Smooth { burst } => (moment.at_us, max + u64::from(burst).clamp(1, max) - 1),
        };
        let within = moments.iter().filter(|other| (from..from + per_us).contains(&other.at_us));
        let passed: u64 = within.map(&passed).sum();
        assert!(passed <= most, "{what}: {passed} passed");
    }
}
