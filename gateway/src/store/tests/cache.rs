//! The cache of sessions.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use super::bench::{Bench, clock};
use crate::model::key::KeyHash;
use crate::model::session::Session;
use crate::model::store::CacheSettings;
use crate::store::event::Event;
use crate::store::{Life, SessionCache, Store};

async fn cached(settings: CacheSettings) -> (Store, SessionCache, crate::clock::Clock) {
    let clock = clock();
    let store = Store::in_memory(clock.clone());
    let cache = SessionCache::new(&store, &settings);
    (store, cache, clock)
}

async fn keep(store: &Store, key: &KeyHash, alias: &str) {
    let session = Session { alias: alias.to_owned(), ..Session::default() };
    store.replace_session(key, &session, Life::Forever).await.expect("it is there");
}

/// Until the server told us, too: that counts as another change.
async fn keep_and_hear(store: &Store, key: &KeyHash, alias: &str) {
    let mut subscription = store.subscribe();
    keep(store, key, alias).await;
    for _ in 0..2 {
        assert_eq!(subscription.next().await, Some(Event::SessionChanged(key.clone())));
    }
}

async fn alias(cache: &SessionCache, key: &KeyHash) -> Option<String> {
    cache.get(key).await.expect("it is there").map(|stored| stored.session.alias.clone())
}

fn reads(cache: &SessionCache) -> u64 {
    cache.numbers().reads.load(Ordering::Relaxed)
}

#[tokio::test]
async fn ten_thousand_requests_of_a_hundred_keys_read_the_store_a_hundred_times() {
    let (store, cache, _) = cached(CacheSettings::default()).await;
    let keys: Vec<KeyHash> = (0..100).map(|number| KeyHash::of(&number.to_string())).collect();
    for key in &keys {
        keep(&store, key, "a").await;
    }
    for key in keys.iter().cycle().take(10_000) {
        assert_eq!(alias(&cache, key).await.as_deref(), Some("a"));
    }
    assert_eq!(reads(&cache), 100);
}

#[tokio::test]
async fn a_change_is_seen_at_once() {
    let (store, cache, _) = cached(CacheSettings::default()).await;
    let key = KeyHash::of("a");
    assert_eq!(alias(&cache, &key).await, None);
    keep(&store, &key, "one").await;
    assert_eq!(alias(&cache, &key).await.as_deref(), Some("one"));
    keep(&store, &key, "two").await;
    assert_eq!(alias(&cache, &key).await.as_deref(), Some("two"));
    store.delete_session(&key).await.expect("it is there");
    assert_eq!(alias(&cache, &key).await, None);
    assert_eq!(cache.last_known(&key), Some(None));
}

// limit: store.cache.age_max_ms counts: reads
// limit: store.cache.negative_age_max_ms counts: reads
#[tokio::test]
async fn what_is_old_is_read_again() {
    let (store, cache, clock) = cached(CacheSettings::default()).await;
    let (key, absent) = (KeyHash::of("a"), KeyHash::of("b"));
    keep(&store, &key, "one").await;
    // A key without a session is read again earlier: after two seconds, the other after ten.
    for (after_ms, expected) in [(0, 2), (1_999, 2), (1, 3), (1_999, 3), (1, 4), (5_999, 4), (1, 6)] {
        clock.advance(Duration::from_millis(after_ms));
        if after_ms != 5_999 {
            alias(&cache, &absent).await;
        }
        alias(&cache, &key).await;
        assert_eq!(reads(&cache), expected, "{after_ms}");
    }
}

#[tokio::test]
async fn a_session_whose_life_is_over_is_gone_from_memory_too() {
    let (store, cache, clock) = cached(CacheSettings::default()).await;
    let key = KeyHash::of("short");
    store.replace_session(&key, &Session::default(), Life::Millis(2_000)).await.expect("it is there");
    assert_eq!(alias(&cache, &key).await.as_deref(), Some(""));
    clock.advance(Duration::from_millis(1_999));
    assert_eq!(alias(&cache, &key).await.as_deref(), Some(""));
    assert_eq!(reads(&cache), 1);

    clock.advance(Duration::from_millis(1));
    assert_eq!(cache.last_known(&key), Some(None), "while the store is away");
    assert_eq!(alias(&cache, &key).await, None);
}

#[tokio::test]
async fn when_news_were_lost_everything_is_read_again_and_the_last_known_stays_known() {
    let (store, cache, clock) = cached(CacheSettings::default()).await;
    let key = KeyHash::of("a");
    keep(&store, &key, "one").await;
    alias(&cache, &key).await;
    store.0.events.set_whole(false);
    store.0.events.tell(Event::Lost);
    assert_eq!(cache.last_known(&key).flatten().map(|stored| stored.session.alias.clone()).as_deref(), Some("one"));
    alias(&cache, &key).await;
    alias(&cache, &key).await;
    assert_eq!(reads(&cache), 3, "nothing is answered from memory while news are missed");
    store.0.events.tell(Event::Lost);
    store.0.events.set_whole(true);
    alias(&cache, &key).await;
    alias(&cache, &key).await;
    assert_eq!(reads(&cache), 4);
    clock.advance(Duration::from_secs(300));
    assert_eq!(cache.last_known(&key), None);
}

// limit: store.cache.entries_max counts: evicted
#[tokio::test]
async fn so_many_sessions_are_remembered() {
    // One in each of sixteen parts: keys that share a part push each other out.
    let (store, cache, _) = cached(CacheSettings { entries_max: 16, ..CacheSettings::default() }).await;
    let evicted = || cache.numbers().evicted.load(Ordering::Relaxed);
    let keys: Vec<KeyHash> = (0..100).map(|number| KeyHash::of(&number.to_string())).collect();
    let first = &keys[0];
    keep(&store, first, "a").await;
    for _ in 0..2 {
        alias(&cache, first).await;
    }
    assert_eq!((cache.len().0, reads(&cache), evicted()), (1, 1, 0));

    for key in &keys {
        keep(&store, key, "a").await;
        alias(&cache, key).await;
    }
    let kept = cache.len().0;
    assert!(kept <= 16, "{kept}");
    assert_eq!(evicted(), u64::try_from(keys.len() - kept).expect("small"));
    let before = reads(&cache);
    for key in &keys {
        alias(&cache, key).await;
    }
    assert!(reads(&cache) > before + 50, "who left is read again");
}

// limit: store.cache.negative_max counts: evicted
#[tokio::test]
async fn random_keys_push_no_session_out() {
    let settings = CacheSettings { entries_max: 1_000, negative_max: 64, ..CacheSettings::default() };
    let (store, cache, _) = cached(settings).await;
    let key = KeyHash::of("a");
    let evicted = || cache.numbers().evicted.load(Ordering::Relaxed);
    keep(&store, &key, "one").await;
    alias(&cache, &key).await;
    for number in 0..5_000 {
        // Four have room in each of sixteen parts, whichever they come to.
        assert!(number >= 4 || evicted() == 0);
        alias(&cache, &KeyHash::of(&format!("x{number}"))).await;
    }
    assert_eq!((cache.len(), evicted()), ((1, 64), 5_000 - 64));
    let before = reads(&cache);
    alias(&cache, &key).await;
    assert_eq!(reads(&cache), before);
}

#[tokio::test]
async fn a_stampede_reads_the_store_once_and_survives_the_reader_going_away() {
    let bench = Bench::redis().await;
    let cache = SessionCache::new(&bench.store, &CacheSettings::default());
    let key = KeyHash::of("a");
    keep_and_hear(&bench.store, &key, "one").await;

    let found = futures_util::future::join_all((0..100).map(|_| alias(&cache, &key))).await;
    assert!(found.iter().all(|alias| alias.as_deref() == Some("one")));
    assert_eq!(reads(&cache), 1);

    let key = KeyHash::of("b");
    keep_and_hear(&bench.store, &key, "two").await;
    let mut reader = Box::pin(alias(&cache, &key));
    let mut follower = Box::pin(alias(&cache, &key));
    assert!(is_pending(&mut reader).await);
    assert!(is_pending(&mut follower).await);
    drop(reader);
    assert_eq!(follower.await.as_deref(), Some("two"));
    assert_eq!(cache.reads_under_way(), 0);
}

pub(super) async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())).await
}

#[tokio::test]
async fn a_key_deleted_on_one_gateway_is_unknown_to_the_other_within_100_ms() {
    let bench = Bench::redis().await;
    let cache = SessionCache::new(&bench.other, &CacheSettings::default());
    for number in 0..20 {
        let key = KeyHash::of(&number.to_string());
        keep(&bench.store, &key, "a").await;
        assert_eq!(alias(&cache, &key).await.as_deref(), Some("a"));
        bench.store.delete_session(&key).await.expect("it is there");
        let deleted = std::time::Instant::now();
        while alias(&cache, &key).await.is_some() {
            assert!(deleted.elapsed() < Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    }
}

/// A plugin's time may be over, or its caller gone, while the change is on its way to the disk.
#[tokio::test]
async fn a_change_that_nobody_waits_for_any_more_is_seen() {
    let bench = Bench::embedded().await;
    let (store, cache) = (&bench.store, SessionCache::new(&bench.store, &CacheSettings::default()));
    let key = KeyHash::of("a");
    keep(store, &key, "old").await;
    let read = cache.get(&key).await.expect("it is there").expect("it was kept");
    let mut heard = store.subscribe();

    let new = Session { alias: "new".to_owned(), ..Session::default() };
    {
        let mut update = std::pin::pin!(store.update_session(&key, &new, Life::Kept, &read.version));
        assert!(std::future::poll_fn(|context| Poll::Ready(update.as_mut().poll(context).is_pending())).await);
    }

    assert_eq!(heard.next().await, Some(Event::SessionChanged(key.clone())));
    assert_eq!(alias(&cache, &key).await.as_deref(), Some("new"));
}
