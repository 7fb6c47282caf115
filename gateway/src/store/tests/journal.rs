//! Counters whose quotas are written down: whatever leaves, comes back, fails or is lost in a crash, no more passes than the
//! quota, and a crash counts at most one block too much. The journal is a map that the test writes when it likes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;

use super::limits::{quota, rate};
use crate::model::id::ApiId;
use crate::model::key::KeyHash;
use crate::model::limit::Algorithm;
use crate::model::store::StoreLimits;
use crate::store::counters::{Counters, Kept, Reserve, Taken, Ticket};
use crate::store::limit::QuotaState;
use crate::store::{Owner, Share, StoreError, Take, Verdict};

const START_MS: u64 = 1_795_395_600_000;
const BLOCK: u64 = 5;
const MAX: u64 = 100;
const KEYS: usize = 7;

#[derive(Debug, Clone)]
enum Step {
    /// Some takes of a key.
    Take(usize, u8),
    /// The journal writes so many lines.
    Write(u8),
    /// It fails to write one.
    Fail,
    /// It answers what was asked of it.
    Read,
    /// A reader goes away without having read.
    Abandon,
    /// A quota is forgotten, or so much of it is left.
    Set(usize, Option<u64>),
    Advance(u64),
    /// What is in memory or on its way is gone.
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..KEYS;
    let step = prop_oneof![
        30 => (key.clone(), 1_u8..30).prop_map(|(key, takes)| Step::Take(key, takes)),
        12 => (1_u8..6).prop_map(Step::Write),
        2 => Just(Step::Fail),
        12 => Just(Step::Read),
        1 => Just(Step::Abandon),
        1 => (key, proptest::option::of(0..MAX)).prop_map(|(key, left)| Step::Set(key, left)),
        1 => (1_u64..90_000).prop_map(Step::Advance),
        2 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..400)
}

enum Line {
    Reserve(Reserve),
    Keep(Kept),
}

/// A process with its journal.
struct Process {
    counters: Counters,
    share: Arc<Share>,
    rows: HashMap<Box<str>, Kept>,
    queue: VecDeque<Line>,
    /// What is being read, with what the journal said when it was asked: others may write meanwhile.
    asked: Vec<(Ticket, Option<Kept>)>,
    now_ms: u64,
    crashes: u64,
}

impl Process {
    fn new() -> Self {
        let share = Arc::new(Share::new(ApiId::parse("a").expect("a name"), 10, 2));
        let (rows, queue, asked) = (HashMap::new(), VecDeque::new(), Vec::new());
        Self { counters: counters(), share, rows, queue, asked, now_ms: START_MS, crashes: 0 }
    }

    /// Whether it passed, and when the quota renews.
    fn take(&mut self, take: &Take) -> Option<Option<u64>> {
        let queue = std::cell::RefCell::new(&mut self.queue);
        let write = |reserve| {
            let mut queue = queue.borrow_mut();
            let has_room = queue.len() < 8;
            if has_room {
                queue.push_back(Line::Reserve(reserve));
            }
            has_room
        };
        match self.counters.take(take, self.now_ms * 1_000, &write) {
            Ok(Taken::Decided(Verdict::Allowed(allowance))) => {
                Some(allowance.quota.expect("it was asked for").renews_ms)
            }
            Ok(Taken::Load(ticket)) => {
                let said = self.rows.get(&ticket.owner).cloned();
                self.asked.push((ticket, said));
                None
            }
            Ok(Taken::Decided(_) | Taken::Wait(_)) | Err(StoreError::Full(_) | StoreError::Busy) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn write(&mut self, is_written: bool) {
        let Some(line) = self.queue.pop_front() else { return };
        let kept = match &line {
            Line::Reserve(reserve) => &reserve.kept,
            Line::Keep(kept) => kept,
        };
        if is_written {
            match kept.used {
                Some(_) => drop(self.rows.insert(kept.owner.clone(), kept.clone())),
                None => drop(self.rows.remove(&kept.owner)),
            }
        }
        match &line {
            Line::Reserve(reserve) => self.counters.reserved(reserve, is_written),
            Line::Keep(kept) => self.counters.kept(kept, is_written),
        }
    }

    fn read(&mut self) {
        for (ticket, said) in std::mem::take(&mut self.asked) {
            self.counters.loaded(&ticket, said.as_ref());
        }
    }

    fn crash(&mut self) {
        self.counters = counters();
        self.queue.clear();
        self.asked.clear();
        self.crashes += 1;
    }

    /// Everything that is under way comes to its end.
    fn rest(&mut self) {
        self.read();
        while !self.queue.is_empty() {
            self.write(true);
        }
    }

    /// Sets what is left of a quota, or forgets it; whether it could.
    fn set(&mut self, take: &Take, left: Option<u64>) -> bool {
        let used = take.quota.as_ref().expect("there is one");
        loop {
            let (queue, now_ms) = (&mut self.queue, self.now_ms);
            let set = left.map(|left| (MAX - left, &used.limit));
            let hindered = self.counters.set_quota(&used.owner, set, now_ms, |kept| {
                queue.push_back(Line::Keep(kept));
                Ok(())
            });
            match hindered {
                Ok(None) => return true,
                Ok(Some(Taken::Load(ticket))) => {
                    let said = self.rows.get(&ticket.owner).cloned();
                    self.asked.push((ticket, said));
                    self.read();
                }
                Ok(Some(_)) => self.rest(),
                Err(_) => return false,
            }
        }
    }
}

fn counters() -> Counters {
    Counters::new(&StoreLimits::default(), Some(BLOCK))
}

/// Some keys have quotas that renew, some that never do; some are in a share that holds two counters.
fn takes(share: &Arc<Share>) -> Vec<Take> {
    let take = |number: usize| {
        let owner = Owner::session(&KeyHash::of(&number.to_string()), None);
        let share = (number < KEYS - 1).then(|| share.clone());
        Take {
            quota: Some(quota(&owner, MAX, if number.is_multiple_of(2) { 0 } else { 60 })),
            share,
            ..Take::default()
        }
    };
    (0..KEYS).map(take).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_of_takes_leaving_coming_back_and_crashes_lets_more_through(steps in steps()) {
        let mut process = Process::new();
        let takes = takes(&process.share);
        // By key and period, since it was set; and how many of them were used up by an operator.
        let mut passed: HashMap<(usize, Option<u64>), u64> = HashMap::new();
        let mut is_set = [false; KEYS];
        for step in steps {
            match step {
                Step::Take(key, count) => {
                    for _ in 0..count {
                        if let Some(renews) = process.take(&takes[key]) {
                            let passed = passed.entry((key, renews)).or_default();
                            *passed += 1;
                            prop_assert!(*passed <= MAX, "{key}: {passed} of {MAX}");
                        }
                    }
                }
                Step::Write(lines) => (0..lines).for_each(|_| process.write(true)),
                Step::Fail => process.write(false),
                Step::Read => process.read(),
                Step::Abandon => {
                    if let Some((ticket, _)) = process.asked.pop() {
                        process.counters.not_loaded(&ticket);
                    }
                }
                Step::Set(key, left) => {
                    if process.set(&takes[key], left) {
                        is_set[key] = true;
                        passed.retain(|(of, _), _| *of != key);
                    }
                }
                Step::Advance(ms) => process.now_ms += ms,
                Step::Crash => process.crash(),
            }
            // What an operator sets has no place in the share.
            let beside = 1 + is_set.iter().filter(|is_set| **is_set).count();
            prop_assert!(process.counters.len() <= 2 + beside);
        }
        // Those that never renew: what is counted in the end is what passed, and a block for each crash at most.
        process.rest();
        for (key, take) in takes.iter().enumerate().filter(|(key, _)| key % 2 == 0 && !is_set[*key]) {
            let of_key = take.quota.as_ref().expect("there is one");
            let state = process.counters.quota_state(&of_key.owner, &of_key.limit, process.now_ms);
            let said = || process.rows.get(of_key.owner.as_str()).map(|kept| kept.state(&of_key.limit, process.now_ms));
            let counted = MAX - state.or_else(said).map_or(MAX, |state| state.remaining);
            let passed = passed.get(&(key, None)).copied().unwrap_or(0);
            let most = passed + BLOCK * process.crashes;
            prop_assert!((passed..=most).contains(&counted), "{key}: {passed} passed, {counted} counted");
        }
    }
}

/// A hundred keys take turns in a share of two counters: each goes on where it was.
#[test]
fn quotas_of_more_keys_than_there_is_room_for_are_exact() {
    let mut process = Process::new();
    let takes: Vec<Take> = (0..100)
        .map(|number: u32| {
            let owner = Owner::session(&KeyHash::of(&number.to_string()), None);
            Take { quota: Some(quota(&owner, 20, 0)), share: Some(process.share.clone()), ..Take::default() }
        })
        .collect();
    for round in 0..25 {
        for (key, take) in takes.iter().enumerate() {
            let mut has_passed = false;
            for _ in 0..8 {
                has_passed = process.take(take).is_some();
                if has_passed {
                    break;
                }
                process.rest();
            }
            assert_eq!(has_passed, round < 20, "{key} in round {round}");
        }
    }
    assert!(process.counters.len() <= 2);
    assert!(process.share.numbers.refused.load(std::sync::atomic::Ordering::Relaxed) == 0);
}

/// Rates are nowhere else: who has too many of them is refused, and nobody else is.
#[test]
fn rates_of_a_share_leave_the_counters_of_others_alone() {
    let counters =
        Counters::new(&StoreLimits { counters_max: 4_000, plugin_counters_max: 1_000, ..StoreLimits::default() }, None);
    let share = |api: &str| Arc::new(Share::new(ApiId::parse(api).expect("a name"), 10, 600));
    let rated = |name: String, share: Option<&Arc<Share>>| {
        let owner = Owner::session(&KeyHash::of(&name), None);
        let rates = [rate(&owner, 1, std::time::Duration::from_secs(1), Algorithm::Sliding)].into_iter().collect();
        Take { rates, share: share.cloned(), ..Take::default() }
    };
    let passes = |take: Take, now_ms: u64| match counters.take(&take, now_ms * 1_000, &|_| false) {
        Ok(Taken::Decided(Verdict::Allowed(_))) => true,
        Err(StoreError::Full(_)) => false,
        _ => panic!("it is the first of its key"),
    };
    let flood = |share: &Arc<Share>, now_ms| {
        (0..3_000).filter(|number| passes(rated(format!("{}-{number}", share.api), Some(share)), now_ms)).count()
    };
    let (one, two) = (share("one"), share("two"));
    assert_eq!(flood(&one, START_MS), 600, "its own share");
    assert_eq!(flood(&two, START_MS), 400, "what all plugins together may have");
    assert_eq!(one.numbers.refused.load(std::sync::atomic::Ordering::Relaxed), 2_400);
    let operators = (0..500).filter(|number| passes(rated(format!("key-{number}"), None), START_MS)).count();
    assert_eq!(operators, 500);
    assert_eq!(counters.len(), 1_500);
    // What is over gives its place back.
    assert_eq!(flood(&two, START_MS + 2_000), 600);
}

#[test]
fn what_cannot_be_written_down_is_counted_all_the_same() {
    let counters = counters();
    let owner = Owner::session(&KeyHash::of("one"), None);
    let take = Take { quota: Some(quota(&owner, 10, 60)), ..Take::default() };
    let Ok(Taken::Load(ticket)) = counters.take(&take, START_MS * 1_000, &|_| false) else {
        panic!("it is read first")
    };
    counters.loaded(&ticket, None);
    assert!(matches!(counters.take(&take, START_MS * 1_000, &|_| false), Err(StoreError::Busy)));

    for _ in 0..10 {
        let taken = counters.take_unwritten(&take, START_MS * 1_000);
        assert!(matches!(taken, Ok(Taken::Decided(Verdict::Allowed(_)))));
    }
    let taken = counters.take_unwritten(&take, START_MS * 1_000);
    assert!(matches!(taken, Ok(Taken::Decided(Verdict::QuotaExceeded(_)))));

    // And when it can be written again, it is not forgotten.
    let taken = counters.take(&take, START_MS * 1_000, &|_| true);
    assert!(matches!(taken, Ok(Taken::Decided(Verdict::QuotaExceeded(_)))));
    assert_eq!(counters.settled().first().and_then(|kept| kept.used), Some(10));
}

#[test]
fn a_quota_that_another_gateway_reset_is_not_held_against_its_caller() {
    let counters = Counters::new(&StoreLimits::default(), None);
    let owner = Owner::session(&KeyHash::of("one"), None);
    let never_renewing = quota(&owner, 3, 0);
    let take = Take { quota: Some(never_renewing.clone()), ..Take::default() };
    let told = |remaining| QuotaState { max: 3, remaining, renews_ms: None };
    counters.note_quota(&take, &told(0), START_MS);
    counters.note_quota(&take, &told(2), START_MS);
    assert_eq!(counters.quota_state(&owner, &never_renewing.limit, START_MS).map(|state| state.remaining), Some(2));

    // What was used here while the store was away stays used.
    assert!(matches!(counters.take(&take, START_MS * 1_000, &|_| false), Ok(Taken::Decided(Verdict::Allowed(_)))));
    counters.note_quota(&take, &told(2), START_MS);
    assert_eq!(counters.quota_state(&owner, &never_renewing.limit, START_MS).map(|state| state.remaining), Some(1));
}
