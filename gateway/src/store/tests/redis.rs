//! Redis going away and coming back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::bench::{clock, whole};
use super::limits::{quota, rate};
use super::server::Server;
use crate::clock::Clock;
use crate::model::key::KeyHash;
use crate::model::limit::Algorithm;
use crate::model::session::Session;
use crate::model::store::{CacheSettings, RedisClock, RedisSettings, StoreKind, StoreSettings};
use crate::store::{Event, Life, Owner, SessionCache, Store, StoreError, StoreTrouble, Take, Verdict};

fn open(settings: RedisSettings, clock: Clock) -> Store {
    let settings = StoreSettings { kind: StoreKind::Redis(settings), ..StoreSettings::default() };
    Store::open(&settings, clock).expect("redis need not be there")
}

// limit: store.redis.failures_max counts: circuit_opened
#[tokio::test]
async fn without_a_server_calls_fail_in_time_and_soon_at_once() {
    let mut server = Server::start();
    server.kill();
    let store = open(RedisSettings { deadline: Duration::from_millis(200), ..server.settings() }, clock());
    let key = KeyHash::of("a");
    let started = Instant::now();
    let opened = || store.numbers().circuit_opened.load(Ordering::Relaxed);
    for failures in 0..5 {
        // Waiting for news fails meanwhile too, once.
        assert!(failures == 4 || opened() == 0, "after {failures}");
        let error = store.session(&key).await.expect_err("nobody is there");
        assert!(error.is_away() && error != StoreError::CircuitOpen, "{error}");
    }
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(store.session(&key).await, Err(StoreError::CircuitOpen));
    assert_eq!(opened(), 1);

    assert!(server.run());
    whole(&store).await;
    while store.session(&key).await == Err(StoreError::CircuitOpen) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(store.session(&key).await, Ok(None));
}

// limit: store.redis.deadline_ms counts: away
/// SIGSTOP is what a hung server or a cut cable looks like.
#[tokio::test]
async fn a_server_that_hangs_costs_a_deadline_and_not_more() {
    let server = Server::start();
    let deadline = Duration::from_millis(200);
    let store = open(RedisSettings { deadline, failures_max: 2, ..server.settings() }, clock());
    whole(&store).await;
    let away = || store.numbers().away.load(Ordering::Relaxed);
    let before = away();
    assert_eq!((store.session(&KeyHash::of("a")).await, away()), (Ok(None), before));
    server.tell(redis::cmd("CLIENT").arg("PAUSE").arg(3_000).arg("ALL"));
    for round in 1..=2 {
        let started = Instant::now();
        assert_eq!(store.session(&KeyHash::of("a")).await, Err(StoreError::Deadline(deadline)));
        assert!(started.elapsed() < deadline * 3, "{:?}", started.elapsed());
        assert_eq!(away(), before + round);
    }
    assert_eq!(store.session(&KeyHash::of("a")).await, Err(StoreError::CircuitOpen));
}

/// Calls go on after the server was away, no acknowledged session is lost, no more quota passes than there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_loses_nothing_that_it_acknowledged() {
    let mut server = Server::durable();
    let settings = RedisSettings {
        deadline: Duration::from_millis(500),
        backoff_max: Duration::from_millis(200),
        clock: RedisClock::Server,
        ..server.settings()
    };
    let stores = [open(settings.clone(), Clock::system()), open(settings, Clock::system())];
    let owner = Owner::session(&KeyHash::of("load"), None);
    let take = Take {
        rates: [rate(&owner, 1_000_000, Duration::from_secs(60), Algorithm::Sliding)].into_iter().collect(),
        quota: Some(quota(&owner, 400, 3600)),
        ..Take::default()
    };
    let (passed, stop) = (Arc::new(AtomicU64::new(0)), tokio::sync::watch::channel(false));
    let mut tasks = Vec::new();
    for (number, store) in stores.iter().cloned().cycle().take(8).enumerate() {
        let (take, passed, mut stop) = (take.clone(), passed.clone(), stop.1.clone());
        tasks.push(tokio::spawn(async move {
            let mut kept = Vec::new();
            for round in 0.. {
                if *stop.borrow_and_update() {
                    break;
                }
                if matches!(store.take(&take).await, Ok(Verdict::Allowed(_))) {
                    passed.fetch_add(1, Ordering::Relaxed);
                }
                let key = KeyHash::of(&format!("{number}-{round}"));
                if store.create_session(&key, &Session::default(), Life::Forever).await == Ok(true) {
                    kept.push(key);
                }
                tokio::task::yield_now().await;
            }
            kept
        }));
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(server.run());
        for store in &stores {
            whole(store).await;
        }
    }
    let mut last = stores[0].take(&take).await;
    while last.as_ref().is_err_and(StoreError::is_away) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        last = stores[0].take(&take).await;
    }
    stop.0.send_replace(true);
    let mut kept = Vec::new();
    for task in tasks {
        kept.append(&mut task.await.expect("it does not panic"));
    }
    assert!(!kept.is_empty());
    for key in &kept {
        let mut found = stores[1].session(key).await;
        // The other gateway may not have noticed yet that the server is back.
        while found.as_ref().is_err_and(StoreError::is_away) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            found = stores[1].session(key).await;
        }
        assert!(matches!(found, Ok(Some(_))), "acknowledged and lost: {found:?}");
    }
    while matches!(stores[0].take(&take).await.expect("it is back"), Verdict::Allowed(_)) {
        passed.fetch_add(1, Ordering::Relaxed);
    }
    let passed = passed.load(Ordering::Relaxed) + u64::from(matches!(last, Ok(Verdict::Allowed(_))));
    // A question asked twice, or an answer that got lost, counts without passing.
    assert!(passed <= 400, "{passed}");
    assert!(passed >= 400 - 8 * 3 * 2, "{passed}");
}

#[tokio::test]
async fn while_the_server_is_away_counting_goes_on_here_from_what_was_known() {
    let mut server = Server::start();
    let store = open(RedisSettings { deadline: Duration::from_millis(300), ..server.settings() }, clock());
    whole(&store).await;
    let cache = SessionCache::new(&store, &CacheSettings::default());
    let mut subscription = store.subscribe();
    let key = KeyHash::of("a");
    store
        .replace_session(&key, &Session { alias: "bob".to_owned(), ..Session::default() }, Life::Forever)
        .await
        .expect("up");
    // Once from here, once from the server: what is read after both stays.
    assert_eq!(subscription.next().await, Some(Event::SessionChanged(key.clone())));
    assert_eq!(subscription.next().await, Some(Event::SessionChanged(key.clone())));
    cache.get(&key).await.expect("up");
    let owner = Owner::session(&key, None);
    let take = Take { rates: [].into_iter().collect(), quota: Some(quota(&owner, 5, 3600)), ..Take::default() };
    for _ in 0..3 {
        assert!(matches!(store.take(&take).await, Ok(Verdict::Allowed(_))));
    }
    server.kill();
    assert_eq!(subscription.next().await, Some(Event::Lost));
    assert!(store.take(&take).await.expect_err("it is away").is_away());
    let alias = cache.last_known(&key).flatten().map(|stored| stored.session.alias.clone());
    assert_eq!(alias.as_deref(), Some("bob"));
    assert!(matches!(store.take_locally(&take), Ok(Verdict::Allowed(_))));
    assert!(matches!(store.take_locally(&take), Ok(Verdict::Allowed(_))));
    assert!(matches!(store.take_locally(&take), Ok(Verdict::QuotaExceeded(_))));
    assert_eq!(store.numbers().local.load(Ordering::Relaxed), 3);
}

/// The layout that Tyk reads and writes.
#[tokio::test]
async fn sessions_and_quotas_lie_where_tyk_looks_for_them() {
    let server = Server::start();
    let store = open(server.settings(), clock());
    let key = KeyHash::of("a");
    server.tell(redis::cmd("SET").arg(format!("apikey-{key}")).arg(r#"{"alias":"bob","rate":5,"per":1}"#));
    let read = store.session(&key).await.expect("up").expect("Tyk wrote it");
    assert_eq!(read.session.alias, "bob");
    server.tell(redis::cmd("SET").arg(format!("quota-{key}")).arg(3).arg("EX").arg(60));
    let take = Take {
        rates: [].into_iter().collect(),
        quota: Some(quota(&Owner::session(&key, None), 5, 60)),
        ..Take::default()
    };
    let Ok(Verdict::Allowed(allowance)) = store.take(&take).await else { panic!("two are left") };
    assert_eq!(allowance.quota.map(|quota| quota.remaining), Some(1));
    let counted = server.tell(redis::cmd("GET").arg(format!("quota-{key}")));
    assert_eq!(counted, redis::Value::BulkString(b"4".to_vec()));
    server.tell(redis::cmd("SET").arg(format!("apikey-{key}")).arg("no json"));
    assert!(matches!(store.session(&key).await, Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn one_take_is_one_round_trip() {
    let server = Server::start();
    let store = open(server.settings(), clock());
    let owner = Owner::session(&KeyHash::of("a"), None);
    let api = Owner::api(&crate::model::id::ApiId::parse("orders").expect("it is a name"));
    let second = Duration::from_secs(1);
    let mut take = Take {
        rates: [rate(&api, 1_000, second, Algorithm::Fixed), rate(&owner, 1_000, second, Algorithm::Sliding)]
            .into_iter()
            .collect(),
        quota: Some(quota(&owner, 1_000, 60)),
        ..Take::default()
    };
    let mut endpoint = rate(&owner, 1_000, second, Algorithm::Smooth { burst: 500 });
    endpoint.key = owner.rate(Some("GET /orders/{id}"));
    take.rates.push(endpoint);
    assert!(matches!(store.take(&take).await, Ok(Verdict::Allowed(_))));
    let commands = || {
        let info: String = redis::from_redis_value(server.tell(redis::cmd("INFO").arg("commandstats"))).expect("text");
        let calls = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
        calls.and_then(|calls| calls.split(',').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = commands();
    for _ in 0..100 {
        assert!(matches!(store.take(&take).await, Ok(Verdict::Allowed(_))));
    }
    assert_eq!(commands() - before, 100);
    assert_eq!(store.numbers().connections.load(Ordering::Relaxed), 1);
}

/// A session cannot be made twice, so it is not asked again: the connection is tried first.
#[tokio::test]
async fn the_first_write_after_the_server_closed_an_idle_connection_is_made() {
    let server = Server::start();
    let store = open(server.settings(), clock());
    whole(&store).await;
    for round in 0..3 {
        let (before, after) = (KeyHash::of(&format!("a{round}")), KeyHash::of(&format!("b{round}")));
        assert_eq!(store.create_session(&before, &Session::default(), Life::Forever).await, Ok(true));
        server.tell(redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal"));
        // That it rests is what this is about.
        tokio::time::sleep(Duration::from_millis(250)).await;
        assert_eq!(store.create_session(&after, &Session::default(), Life::Forever).await, Ok(true), "round {round}");
    }
}

#[tokio::test]
async fn a_server_that_is_full_counts_as_away_for_limits_and_is_told() {
    let server = Server::start();
    let store = open(server.settings(), clock());
    whole(&store).await;
    let owner = Owner::session(&KeyHash::of("full"), None);
    let take = Take { quota: Some(quota(&owner, 10, 3600)), ..Take::default() };
    let memory = |bytes: &str| server.tell(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes));
    memory("1");

    let error = store.take(&take).await.expect_err("there is no room");
    assert!(error.is_away(), "so `store.away` rules: {error}");
    let full = store.create_session(&KeyHash::of("a"), &Session::default(), Life::Forever).await;
    assert!(matches!(full, Err(StoreError::Full(_))), "{full:?}");
    let trouble = store.trouble().expect("it is told");
    assert!(matches!(trouble, StoreTrouble::Unwritten { .. }), "{trouble}");
    assert!(trouble.to_string().contains("maxmemory"), "{trouble}");

    memory("0");
    assert!(store.take(&take).await.is_ok());
    assert_eq!(store.trouble(), None);
}

#[tokio::test]
async fn a_server_that_lets_nobody_in_is_known_to_be_away_without_a_call() {
    let server = Server::start();
    server.tell(redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("right"));
    let wrong = RedisSettings { password: Some("wrong".to_owned()), ..server.settings() };
    let wrong = RedisSettings { backoff_min: Duration::from_millis(1), failures_max: 2, ..wrong };
    let store = open(wrong, clock());

    let begun = Instant::now();
    let trouble = loop {
        if let Some(trouble @ StoreTrouble::Away { .. }) = store.trouble() {
            break trouble;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", store.trouble());
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    assert!(
        trouble.to_string().to_lowercase().contains("password") || trouble.to_string().contains("WRONGPASS"),
        "{trouble}"
    );
}
