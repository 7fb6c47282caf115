//! Sessions that plugins make have a share of their own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bench::Bench;
use super::limits::{owner, quota};
use crate::model::id::ApiId;
use crate::model::key::KeyHash;
use crate::model::session::Session;
use crate::store::{Event, Life, Owner, Share, Store, Take, Verdict};

fn share(api: &str, sessions_max: usize) -> Arc<Share> {
    Arc::new(Share::new(ApiId::parse(api).expect("a name"), sessions_max, 1_000))
}

async fn make(store: &Store, share: &Arc<Share>, name: &str, life: Life) {
    let session = Session { alias: name.to_owned(), ..Session::default() };
    let kept = store.keep_made_session(&KeyHash::of(name), &session, life, share, None).await;
    assert_eq!(kept, Ok(true), "{name}");
}

async fn names(store: &Store) -> Vec<String> {
    let mut names = Vec::new();
    for key in store.list_sessions(None, 1_000).await.expect("it is there").items {
        let stored = store.session(&key).await.expect("it is there").expect("it is listed");
        names.push(stored.session.alias.clone());
    }
    names.sort();
    names
}

const HOUR: Life = Life::Millis(3_600_000);

pub(super) async fn a_plugin_has_so_many_sessions_and_the_one_that_ends_first_leaves(bench: &Bench) {
    let (one, two) = (share("one", 3), share("two", 3));
    let key = Session { alias: "key".to_owned(), ..Session::default() };
    bench.store.create_session(&KeyHash::of("key"), &key, Life::Millis(1_000_000)).await.expect("it is there");
    for name in ["a", "b", "c"] {
        make(&bench.store, &one, name, HOUR).await;
        bench.advance(Duration::from_millis(10)).await;
    }
    // Whoever is there has a place: it is only moved.
    let read = bench.other.session(&KeyHash::of("a")).await.expect("it is there").expect("it was made").version;
    let again = Session { alias: "a again".to_owned(), ..Session::default() };
    let kept = bench.other.keep_made_session(&KeyHash::of("a"), &again, HOUR, &one, Some(&read)).await;
    assert_eq!(kept, Ok(true));
    assert_eq!(one.numbers.evicted.load(Ordering::Relaxed), 0);

    let mut subscription = bench.other.subscribe();
    make(&bench.store, &one, "d", HOUR).await;
    make(&bench.other, &two, "e", HOUR).await;
    let mut event = subscription.next().await;
    while event != Some(Event::SessionDeleted(KeyHash::of("b"))) {
        event = tokio::time::timeout(Duration::from_secs(10), subscription.next()).await.expect("it comes soon");
    }
    assert_eq!(names(&bench.store).await, ["a again", "c", "d", "e", "key"]);
    assert_eq!(one.numbers.evicted.load(Ordering::Relaxed), 1);
    assert_eq!(two.numbers.evicted.load(Ordering::Relaxed), 0);
}

pub(super) async fn sessions_that_ended_leave_their_place_and_those_that_never_end_leave_last(bench: &Bench) {
    let one = share("one", 2);
    make(&bench.store, &one, "short", Life::Millis(1_000)).await;
    make(&bench.store, &one, "never", Life::Forever).await;
    bench.advance(Duration::from_secs(2)).await;
    make(&bench.store, &one, "a", HOUR).await;
    assert_eq!(one.numbers.evicted.load(Ordering::Relaxed), 0, "nobody misses what has ended");
    make(&bench.other, &one, "b", HOUR).await;
    assert_eq!(names(&bench.store).await, ["b", "never"]);
    assert_eq!(one.numbers.evicted.load(Ordering::Relaxed), 1);
}

pub(super) async fn a_session_that_is_deleted_or_that_an_operator_writes_takes_no_place(bench: &Bench) {
    let one = share("one", 2);
    make(&bench.store, &one, "a", HOUR).await;
    make(&bench.store, &one, "b", HOUR).await;
    assert_eq!(bench.other.delete_session(&KeyHash::of("a")).await, Ok(true));
    bench.advance(Duration::from_millis(10)).await;
    make(&bench.store, &one, "c", HOUR).await;
    assert_eq!(one.numbers.evicted.load(Ordering::Relaxed), 0, "there was a place");

    // It would end first.
    let own = Session { alias: "b of the operator".to_owned(), ..Session::default() };
    bench.other.replace_session(&KeyHash::of("b"), &own, Life::Millis(1_000_000)).await.expect("it is there");
    bench.advance(Duration::from_millis(10)).await;
    make(&bench.store, &one, "d", HOUR).await;
    assert_eq!(one.numbers.evicted.load(Ordering::Relaxed), 0, "there was a place");
    bench.advance(Duration::from_millis(10)).await;
    make(&bench.store, &one, "e", HOUR).await;
    assert_eq!(names(&bench.store).await, ["b of the operator", "d", "e"]);

    // What only gives back what was changed of it keeps its place.
    let read = bench.store.session(&KeyHash::of("d")).await.expect("it is there").expect("it was made");
    let kept = bench.store.update_session(&KeyHash::of("d"), &read.session, Life::Kept, &read.version).await;
    assert!(kept.expect("it is there").is_some());
    make(&bench.store, &one, "f", HOUR).await;
    assert_eq!(names(&bench.store).await, ["b of the operator", "e", "f"]);
}

/// A session that has left and is made again goes on with its quota.
pub(super) async fn a_session_that_left_keeps_its_quota(bench: &Bench) {
    let one = share("one", 1);
    let caller = owner("a");
    let take = Take { quota: Some(quota(&caller, 3, 0)), share: Some(one.clone()), ..Take::default() };
    for round in 0..4 {
        make(&bench.store, &one, "a", HOUR).await;
        let verdict = bench.store.take(&take).await.expect("it is there");
        assert_eq!(matches!(verdict, Verdict::Allowed(_)), round < 3, "{round}");
        make(&bench.other, &one, "b", HOUR).await;
    }
}

/// However many ask at once, and whichever gateway they ask.
pub(super) async fn a_flood_of_sessions_stays_in_its_share(bench: &Bench) {
    let flooded = share("flooded", 10);
    let made = (0..200).map(|number| {
        let store = if number % 2 == 0 { bench.store.clone() } else { bench.other.clone() };
        let flooded = flooded.clone();
        async move { make(&store, &flooded, &format!("flood-{number}"), HOUR).await }
    });
    futures_util::future::join_all(made).await;
    let key = Session { alias: "key".to_owned(), ..Session::default() };
    assert_eq!(bench.store.create_session(&KeyHash::of("key"), &key, Life::Forever).await, Ok(true));
    let names = names(&bench.store).await;
    assert_eq!(names.len(), 11, "{names:?}");
    assert_eq!(flooded.numbers.evicted.load(Ordering::Relaxed), 190);
}

#[tokio::test]
async fn the_file_knows_after_a_restart_which_sessions_plugins_made() {
    use crate::clock::Clock;
    use crate::model::store::{EmbeddedSettings, StoreKind, StoreLimits, StoreSettings};
    let folder = super::Folder::new();
    let settings = StoreSettings {
        kind: StoreKind::Embedded(EmbeddedSettings::new(folder.path().join("store"))),
        limits: StoreLimits { records_max: 8, plugin_sessions_max: 4, ..StoreLimits::default() },
        ..StoreSettings::default()
    };
    let open = || Store::open(&settings, Clock::system()).expect("it opens");
    let (one, two) = (share("one", 3), share("two", 3));
    let store = open();
    for name in ["a", "b", "c"] {
        make(&store, &one, name, HOUR).await;
    }
    drop(store);
    let store = open();
    assert_eq!(store.sessions_made(), 3);
    make(&store, &one, "d", HOUR).await;
    assert_eq!(names(&store).await, ["b", "c", "d"]);
    // All plugins together have four: whose API has most gives one up.
    make(&store, &two, "e", HOUR).await;
    make(&store, &two, "f", HOUR).await;
    assert_eq!(names(&store).await, ["c", "d", "e", "f"]);
    for number in 0..4 {
        let session = Session { alias: format!("key {number}"), ..Session::default() };
        let created = store.create_session(&KeyHash::of(&session.alias), &session, Life::Forever).await;
        assert_eq!(created, Ok(true), "operators have the other half");
    }
    assert!(store.create_session(&KeyHash::of("more"), &Session::default(), Life::Forever).await.is_err());
    // A session that is deleted, or that an operator writes, takes no place of the share.
    store.delete_session(&KeyHash::of("c")).await.expect("it is there");
    let session = Session { alias: "d".to_owned(), ..Session::default() };
    store.replace_session(&KeyHash::of("d"), &session, Life::Forever).await.expect("it is there");
    drop(store);
    assert_eq!(open().sessions_made(), 2);
}

/// More keys with quotas than counters: each is read back from the file, and none gets more than its own.
#[tokio::test]
async fn quotas_that_left_memory_are_read_back_from_the_file() {
    use crate::model::store::{EmbeddedSettings, StoreKind, StoreLimits, StoreSettings};
    let folder = super::Folder::new();
    let settings = StoreSettings {
        kind: StoreKind::Embedded(EmbeddedSettings::new(folder.path().join("store"))),
        limits: StoreLimits { counters_max: 1, ..StoreLimits::default() },
        ..StoreSettings::default()
    };
    let store = Store::open(&settings, crate::clock::Clock::system()).expect("it opens");
    // Nine in each of 64 parts are the least that there can be.
    let owners: Vec<Owner> = (0..1_500).map(|number| owner(&format!("many-{number}"))).collect();
    for round in 0..3 {
        let takes = owners.iter().map(|owner| {
            let (store, take) = (store.clone(), Take { quota: Some(quota(owner, 2, 0)), ..Take::default() });
            async move { matches!(store.take(&take).await, Ok(Verdict::Allowed(_))) }
        });
        let mut passed = 0;
        let takes: Vec<_> = takes.collect();
        let mut takes = takes.into_iter();
        loop {
            let some: Vec<_> = takes.by_ref().take(200).collect();
            if some.is_empty() {
                break;
            }
            passed += futures_util::future::join_all(some).await.into_iter().filter(|passed| *passed).count();
        }
        assert_eq!(passed, if round < 2 { 1_500 } else { 0 }, "round {round}");
    }
    assert!(store.counters_held() <= 64 * 9, "{}", store.counters_held());
    assert!(store.counters_left() > 500 && store.counters_refused() == 0);
    let limit = quota(&owners[0], 2, 0).limit;
    for owner in &owners {
        assert_eq!(store.quota(owner, &limit).await.map(|state| state.remaining), Ok(0));
    }
    store.reset_quota(&owners[3]).await.expect("it is there");
    assert_eq!(store.quota(&owners[3], &limit).await.map(|state| state.remaining), Ok(2));
}
