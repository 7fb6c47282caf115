//! Values of plugins where only one kind of store can show it: restarts, kills, a server that is away, the budget of all.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::bench::{Bench, Folder, clock, whole};
use super::child::{self, BEGIN, say};
use super::kv::{patient, space};
use super::server::Server;
use crate::clock::Clock;
use crate::model::plugin::Limits;
use crate::model::store::{EmbeddedSettings, RedisClock, RedisSettings, StoreKind, StoreLimits, StoreSettings};
use crate::store::Store;
use crate::store::kv::{KvError, KvLimit};

/// Short, so that kills find batches of every state.
const INTERVAL: Duration = Duration::from_millis(5);

fn in_file(path: &Path, clock: Clock) -> Store {
    let settings = EmbeddedSettings { kv_write_interval: INTERVAL, ..EmbeddedSettings::new(path.to_owned()) };
    let settings = StoreSettings { kind: StoreKind::Embedded(settings), ..StoreSettings::default() };
    Store::open(&settings, clock).expect("it opens")
}

fn on_redis(settings: RedisSettings) -> Store {
    let settings = StoreSettings { kind: StoreKind::Redis(settings), ..StoreSettings::default() };
    Store::open(&settings, clock()).expect("redis need not be there")
}

#[tokio::test]
async fn an_end_of_the_process_costs_a_file_no_value() {
    let (folder, clock) = (Folder::new(), clock());
    let path = folder.path().join("store");
    let second = Some(Duration::from_secs(1));
    let open = || in_file(&path, clock.clone());
    {
        let store = open();
        let one = space(&store, "one", &patient());
        one.set("kept", Bytes::from_static(b"a"), None).await.expect("there is room");
        one.set("ends", Bytes::from_static(b"b"), second).await.expect("there is room");
        one.set("lives", Bytes::from_static(b"c"), Some(Duration::from_secs(9))).await.expect("there is room");
        space(&store, "two", &patient()).increment("kept", 7, None).await.expect("there is room");
    }
    clock.advance(Duration::from_secs(1));
    let bytes = {
        let store = open();
        let [one, two] = ["one", "two"].map(|name| space(&store, name, &patient()));
        assert_eq!(one.get("kept").await, Ok(Some(Bytes::from_static(b"a"))));
        assert_eq!(one.get("ends").await, Ok(None));
        assert_eq!(one.get("lives").await, Ok(Some(Bytes::from_static(b"c"))));
        assert_eq!(two.increment("kept", 1, None).await, Ok(8));
        // Deleted and made again and deleted, all before it is written.
        assert_eq!(one.delete("kept").await, Ok(true));
        one.set("kept", Bytes::from_static(b"again"), None).await.expect("there is room");
        assert_eq!(one.delete("kept").await, Ok(true));
        store.kv_bytes()
    };
    clock.advance(Duration::from_secs(9));
    let store = open();
    let [one, two] = ["one", "two"].map(|name| space(&store, name, &patient()));
    assert_eq!((one.get("kept").await, one.get("lives").await), (Ok(None), Ok(None)));
    assert_eq!(two.get("kept").await, Ok(Some(Bytes::from_static(b"8"))));
    assert!(store.kv_bytes() < bytes, "what has ended is not read again");
    assert_eq!(store.kv_writes_failed(), 0);
}

/// Not a test by itself: it counts until it is killed.
#[tokio::test]
#[ignore = "started by another test"]
async fn counts() {
    let Some(file) = child::file() else { return };
    let store = in_file(Path::new(&file), Clock::system());
    let kv = space(&store, "counter", &patient());
    say(BEGIN);
    for _ in 0.. {
        // At any moment equal, or the first one ahead.
        kv.increment("first", 1, None).await.expect("there is room");
        let second = kv.increment("second", 1, None).await.expect("there is room");
        say(&second.to_string());
        std::thread::sleep(Duration::from_micros(50));
    }
}

#[tokio::test]
async fn a_kill_costs_a_file_what_was_not_written_yet_and_takes_nothing_apart() {
    let folder = Folder::new();
    let file = folder.path().join("store");
    let (mut survived, mut rounds) = (0_i64, HashMap::new());
    for kill in 0..20_u64 {
        // At another moment each time.
        let after = Duration::from_micros(50_000 + kill.wrapping_mul(7_919) % 100_000);
        let said = child::killed("store::tests::kv_alone::counts", &file, after);
        let told = said.last().map_or(survived, |last| last.parse().expect("a number"));
        let store = in_file(&file, Clock::system());
        let kv = space(&store, "counter", &patient());
        let [first, second] = [kv.increment("first", 0, None).await, kv.increment("second", 0, None).await];
        let [first, second] = [first, second].map(|sum| sum.expect("there is room"));
        assert!(first == second || first == second + 1, "{first} {second}: not of one moment");
        // A child may have counted once more than it could say.
        assert!((survived..=told + 1).contains(&second), "{survived} before, {told} told, {second} found");
        rounds.insert(kill, second - survived);
        survived = kv.increment("second", first - second, None).await.expect("there is room");
    }
    assert!(rounds.values().filter(|counted| **counted > 0).count() >= 5, "{rounds:?}");
}

#[tokio::test]
async fn no_plugin_takes_the_room_of_all() {
    let limits = StoreLimits { kv_bytes_max: 2_500, ..StoreLimits::default() };
    let clock = clock();
    let settings = StoreSettings { limits, ..StoreSettings::default() };
    let store = Store::open(&settings, clock.clone()).expect("it is in memory");
    let share = Limits { kv_bytes_max: 1_500, ..patient() };
    let [greedy, modest] = ["greedy", "modest"].map(|name| space(&store, name, &share));
    let fill = async |space: &crate::store::kv::KvSpace, ttl| {
        for number in 0.. {
            let set = space.set(&number.to_string(), Bytes::from(vec![b'x'; 100]), ttl).await;
            if let Err(error) = set {
                return error;
            }
        }
        unreachable!("there is a limit")
    };
    assert_eq!(fill(&greedy, None).await, KvError::Full(KvLimit::Bytes));
    assert_eq!(modest.increment("a", 1, None).await, Ok(1), "half of the room is left");
    let third = space(&store, "third", &share);
    assert_eq!(fill(&third, Some(Duration::from_secs(1))).await, KvError::Full(KvLimit::AllBytes));
    assert_eq!(store.numbers().kv.full(KvLimit::AllBytes).load(Ordering::Relaxed), 1);
    assert!(store.kv_bytes() <= 2_500);
    // What has ended with one makes room for another, and so does what no loaded plugin holds.
    clock.advance(Duration::from_secs(1));
    assert_eq!(modest.set("b", Bytes::from(vec![b'x'; 500]), None).await, Ok(()));
    assert_eq!(fill(&third, None).await, KvError::Full(KvLimit::AllBytes));
    drop(greedy);
    assert_eq!(third.set("more", Bytes::from(vec![b'x'; 100]), None).await, Ok(()));
    assert_eq!(space(&store, "greedy", &share).get("0").await, Ok(None), "its room was needed");
}

#[tokio::test]
async fn while_redis_is_away_a_plugin_is_told_so_in_time() {
    let mut server = Server::start();
    let store = on_redis(RedisSettings { backoff_max: Duration::from_millis(100), ..server.settings() });
    whole(&store).await;
    // The call of a plugin has 400 ms, the store 10 s.
    let kv = space(&store, "a", &Limits { deadline: Duration::from_millis(400), ..Limits::default() });
    assert_eq!(space(&store, "a", &patient()).increment("n", 1, None).await, Ok(1));
    server.tell(redis::cmd("CLIENT").arg("PAUSE").arg(3_000).arg("ALL"));
    let begun = Instant::now();
    assert_eq!(kv.increment("n", 1, None).await, Err(KvError::Unavailable));
    assert!(begun.elapsed() < Duration::from_millis(2_000), "{:?}", begun.elapsed());

    server.kill();
    for _ in 0..5 {
        assert_eq!(kv.get("n").await, Err(KvError::Unavailable));
    }
    let kv_numbers = &store.numbers().kv;
    assert_eq!(kv_numbers.unavailable.load(Ordering::Relaxed), 6);
    assert!(store.numbers().away.load(Ordering::Relaxed) >= 6);
    assert!(server.run());
    let kv = space(&store, "a", &patient());
    let mut sum = kv.increment("n", 1, None).await;
    while sum == Err(KvError::Unavailable) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        sum = kv.increment("n", 1, None).await;
    }
    assert_eq!(sum, Ok(1), "this server forgets when it ends");
}

/// A server without memory refuses a value and loses none; a space of which it evicted a part begins anew.
#[tokio::test]
async fn a_server_at_its_limit_leaves_values_whole() {
    let server = Server::start();
    let store = on_redis(server.settings());
    let kv = space(&store, "a", &patient());
    let minute = Some(Duration::from_secs(60));
    for key in ["a", "b"] {
        kv.set(key, Bytes::from_static(b"1"), minute).await.expect("up");
    }
    server.tell(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1));
    assert_eq!(kv.increment("a", 1, None).await, Err(KvError::Full(KvLimit::Server)));
    assert_eq!(kv.delete("b").await, Ok(true));
    assert_eq!(kv.get("a").await, Ok(Some(Bytes::from_static(b"1"))));
    server.tell(redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0));
    assert_eq!(kv.increment("a", 1, None).await, Ok(2));
    assert_eq!(store.numbers().kv.full(KvLimit::Server).load(Ordering::Relaxed), 1);

    server.tell(redis::cmd("DEL").arg("stile-kv-{orders/a}-ends"));
    assert_eq!(kv.get("a").await, Ok(None), "it would never end");
    assert_eq!(kv.increment("a", 1, minute).await, Ok(1));
}

/// A plugin that is gone leaves nothing for ever, as long as its values have a life.
#[tokio::test]
async fn values_with_a_life_leave_redis_by_themselves() {
    let server = Server::start();
    let store = on_redis(RedisSettings { clock: RedisClock::Server, ..server.settings() });
    let kv = space(&store, "a", &patient());
    let exist = || server.tell(redis::cmd("EXISTS").arg("stile-kv-{orders/a}").arg("stile-kv-{orders/a}-ends"));
    let life = || server.tell(redis::cmd("PTTL").arg("stile-kv-{orders/a}"));
    kv.increment("a", 1, Some(Duration::from_secs(60))).await.expect("up");
    kv.increment("b", 1, Some(Duration::from_secs(30))).await.expect("up");
    assert_eq!(exist(), redis::Value::Int(2));
    assert!(matches!(life(), redis::Value::Int(ms) if (30_000..=61_000).contains(&ms)), "{:?}", life());
    kv.set("c", Bytes::new(), None).await.expect("up");
    assert_eq!(life(), redis::Value::Int(-1));
    for key in ["a", "b", "c"] {
        assert_eq!(kv.delete(key).await, Ok(true));
    }
    assert_eq!(exist(), redis::Value::Int(0));
}

/// What an increment costs: `cargo test -p stile --lib kv_alone::cost -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn cost() {
    let benches =
        [("memory", Bench::memory().await), ("file", Bench::embedded().await), ("redis", Bench::redis().await)];
    for (name, bench) in &benches {
        let kv = space(&bench.store, "counter", &patient());
        let rounds: u32 = if *name == "redis" { 5_000 } else { 200_000 };
        let begun = Instant::now();
        for _ in 0..rounds {
            kv.increment("a", 1, Some(Duration::from_secs(60))).await.expect("there is room");
        }
        let one = begun.elapsed() / rounds;
        let calls = (0..100).map(|number| {
            let kv = &kv;
            async move {
                for _ in 0..rounds / 100 {
                    kv.increment(&number.to_string(), 1, None).await.expect("there is room");
                }
            }
        });
        let begun = Instant::now();
        futures_util::future::join_all(calls).await;
        let _ =
            writeln!(std::io::stderr(), "{name}: {one:?} one by one, {:?} of 100 at once", begun.elapsed() / rounds);
    }
}
