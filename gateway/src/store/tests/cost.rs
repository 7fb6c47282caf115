//! What a take costs, to compare before and after a change: `cargo test -p stile --lib store::tests::cost -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::bench::Bench;
use super::limits::{quota, rate};
use crate::model::key::KeyHash;
use crate::model::limit::Algorithm;
use crate::store::{Owner, Store, Take, Verdict};

const KEYS: usize = 1_000;
const TAKES: u32 = 200_000;

#[tokio::test]
#[ignore = "measures, and proves nothing"]
#[expect(clippy::print_stdout, reason = "numbers for people are what it is for")]
async fn a_take_costs() {
    for (name, bench) in [("memory", Bench::memory().await), ("file", Bench::embedded().await)] {
        let takes: Vec<Take> = (0..KEYS).map(take).collect();
        run(&bench.store, &takes, 20_000).await;
        let best = {
            let mut best = Duration::MAX;
            for _ in 0..5 {
                best = best.min(run(&bench.store, &takes, TAKES).await);
            }
            best
        };
        println!("{name}: {} ns a take, {TAKES} takes of {KEYS} keys with rate and quota", (best / TAKES).as_nanos());
    }
}

fn take(number: usize) -> Take {
    let owner = Owner::session(&KeyHash::of(&number.to_string()), None);
    let rates = [rate(&owner, 1_000_000, Duration::from_secs(60), Algorithm::Sliding)];
    Take { rates: rates.into_iter().collect(), quota: Some(quota(&owner, 1_000_000_000, 86_400)), ..Take::default() }
}

async fn run(store: &Store, takes: &[Take], count: u32) -> Duration {
    let begun = Instant::now();
    for (take, _) in takes.iter().cycle().zip(0..count) {
        assert!(matches!(store.take(take).await, Ok(Verdict::Allowed(_))));
    }
    begun.elapsed()
}
