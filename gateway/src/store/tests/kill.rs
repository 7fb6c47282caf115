//! SIGKILL at any moment: a child keeps sessions and takes quota, and says so; what it said must be true afterwards.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::bench::Folder;
use super::child::{self, BEGIN, say};
use super::limits::quota;
use crate::clock::Clock;
use crate::model::key::KeyHash;
use crate::model::session::Session;
use crate::model::store::{EmbeddedSettings, StoreKind, StoreSettings};
use crate::store::{Life, Owner, Store, Take, Verdict};

const QUOTAS: [u64; 3] = [7, 400, 100_000];
const BLOCK: u64 = 50;
const KILLS: u64 = 100;

fn open(path: &Path) -> Store {
    let settings = EmbeddedSettings { quota_block: BLOCK, ..EmbeddedSettings::new(path.to_owned()) };
    let settings = StoreSettings { kind: StoreKind::Embedded(settings), ..StoreSettings::default() };
    Store::open(&settings, Clock::system()).expect("it opens after every kill")
}

fn take(max: u64) -> Take {
    let owner = Owner::session(&KeyHash::of(&max.to_string()), None);
    Take { rates: [].into_iter().collect(), quota: Some(quota(&owner, max, 86_400)), ..Take::default() }
}

/// Not a test by itself: it works until it is killed.
#[tokio::test]
#[ignore = "started by another test"]
async fn works() {
    let Some(file) = child::file() else { return };
    let store = open(Path::new(&file));
    say(BEGIN);
    let quotas = QUOTAS.map(|max| {
        let store = &store;
        async move {
            loop {
                match store.take(&take(max)).await {
                    Ok(Verdict::Allowed(_)) => say(&format!("took {max}")),
                    Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(error) => panic!("{error}"),
                }
                tokio::task::yield_now().await;
            }
        }
    });
    let sessions = (0..4).map(|task| {
        let store = &store;
        async move {
            for number in 0.. {
                let name = format!("{}-{task}-{number}", std::process::id());
                let session = Session { alias: name.clone(), ..Session::default() };
                if store.create_session(&KeyHash::of(&name), &session, Life::Forever).await == Ok(true) {
                    say(&format!("kept {name}"));
                }
                if number % 3 > 0 {
                    continue;
                }
                say(&format!("going {name}"));
                if store.delete_session(&KeyHash::of(&name)).await == Ok(true) {
                    say(&format!("gone {name}"));
                }
            }
        }
    });
    tokio::join!(futures_util::future::join_all(quotas), futures_util::future::join_all(sessions));
}

#[tokio::test]
async fn whatever_was_acknowledged_survives_a_kill() {
    let folder = Folder::new();
    let file = folder.path().join("store");
    let mut took: HashMap<u64, u64> = HashMap::new();
    // Nothing is known of one whose deletion was begun and not acknowledged.
    let mut sessions: HashMap<String, Option<bool>> = HashMap::new();
    for kill in 0..KILLS {
        // At another moment each time.
        let after = Duration::from_micros(500 + kill.wrapping_mul(7_919) % 40_000);
        for line in child::killed("store::tests::kill::works", &file, after) {
            match line.split_once(' ') {
                Some(("took", max)) => *took.entry(max.parse().expect("a number")).or_default() += 1,
                Some(("kept", name)) => drop(sessions.insert(name.to_owned(), Some(true))),
                Some(("going", name)) => drop(sessions.insert(name.to_owned(), None)),
                Some(("gone", name)) => drop(sessions.insert(name.to_owned(), Some(false))),
                _ => panic!("the child says: {line}"),
            }
        }
    }

    let store = open(&file);
    for (name, is_kept) in &sessions {
        let found = store.session(&KeyHash::of(name)).await.expect("it is there");
        assert!(is_kept.is_none_or(|is_kept| found.is_some() == is_kept), "{name}: {is_kept:?}");
    }
    assert!(sessions.len() > 100, "{}", sessions.len());
    for max in QUOTAS {
        let told = took.get(&max).copied().unwrap_or(0);
        assert!(told <= max, "{told} of {max} passed");
        let quota = take(max).quota.expect("given");
        let state = store.quota(&quota.owner, &quota.limit).await.expect("it is there");
        let counted = max - state.remaining;
        let block = BLOCK.min(max / 20).max(1);
        // One use of each run may have been counted, but not told.
        assert!((told..=told + KILLS * (block + 1)).contains(&counted), "{told} of {max} told, {counted} counted");
    }
    // A kill costs a block at most; an end costs nothing.
    let before = remaining(&store).await;
    drop(store);
    let store = open(&file);
    assert_eq!(remaining(&store).await, before);
    assert!(matches!(store.take(&take(100_000)).await, Ok(Verdict::Allowed(_))));
    drop(store);
    assert_eq!(remaining(&open(&file)).await, before - 1);
}

async fn remaining(store: &Store) -> u64 {
    let quota = take(100_000).quota.expect("given");
    store.quota(&quota.owner, &quota.limit).await.expect("it is there").remaining
}
