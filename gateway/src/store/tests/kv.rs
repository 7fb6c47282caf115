//! Values of plugins.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::bench::{Bench, clock};
use crate::model::id::{ApiId, PluginName};
use crate::model::plugin::Limits;
use crate::store::Store;
use crate::store::kv::{KvError, KvLimit, KvSpace};

pub(super) fn space(store: &Store, plugin: &str, limits: &Limits) -> KvSpace {
    let (api, plugin) = (ApiId::parse("orders"), PluginName::parse(plugin));
    store.kv(&api.expect("it is a name"), &plugin.expect("it is a name"), limits)
}

/// The space of one plugin, as two gateways have it. A busy machine may take its time.
fn both(bench: &Bench) -> [KvSpace; 2] {
    [&bench.store, &bench.other].map(|store| space(store, "counter", &patient()))
}

pub(super) fn patient() -> Limits {
    Limits { deadline: Duration::from_secs(20), ..Limits::default() }
}

fn text(text: &str) -> Bytes {
    text.to_owned().into()
}

const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

pub(super) async fn a_value_is_kept_read_replaced_and_deleted(bench: &Bench) {
    let [one, other] = both(bench);
    assert_eq!(one.get("a").await, Ok(None));
    assert_eq!(one.set("a", Bytes::from_static(b"\0\xff\r\n"), None).await, Ok(()));
    assert_eq!(other.get("a").await, Ok(Some(Bytes::from_static(b"\0\xff\r\n"))));
    assert_eq!(other.set("a", Bytes::new(), None).await, Ok(()));
    assert_eq!(one.get("a").await, Ok(Some(Bytes::new())));
    assert_eq!(one.delete("a").await, Ok(true));
    assert_eq!(other.delete("a").await, Ok(false));
    assert_eq!(other.get("a").await, Ok(None));
}

pub(super) async fn a_value_ends_with_its_life(bench: &Bench) {
    let [one, other] = both(bench);
    for key in ["set", "kept", "swapped", "number"] {
        assert_eq!(one.set(key, text("1"), MINUTE).await, Ok(()));
    }
    bench.advance(Duration::from_secs(30)).await;
    assert_eq!(other.set("set", text("2"), MINUTE).await, Ok(()));
    assert_eq!(other.set("kept", text("2"), None).await, Ok(()));
    assert_eq!(other.compare_and_set("swapped", Some(b"1"), text("2"), MINUTE).await, Ok(true));
    // The life of a number counts from its making.
    assert_eq!(other.increment("number", 1, MINUTE).await, Ok(2));
    bench.advance(Duration::from_secs(31)).await;
    for (key, expected) in [("set", Some("2")), ("kept", Some("2")), ("swapped", Some("2")), ("number", None)] {
        assert_eq!(one.get(key).await, Ok(expected.map(text)), "{key}");
    }
    assert_eq!(one.delete("number").await, Ok(false));
    assert_eq!(one.compare_and_set("number", Some(b"2"), text("9"), None).await, Ok(false));
    assert_eq!(one.increment("number", 5, None).await, Ok(5), "it begins anew");
    bench.advance(Duration::from_secs(3_600)).await;
    assert_eq!(other.get("set").await, Ok(None));
    assert_eq!(other.get("kept").await, Ok(Some(text("2"))));
    assert_eq!(other.increment("number", 1, MINUTE).await, Ok(6));
    assert_eq!(one.compare_and_set("set", None, text("3"), Some(Duration::ZERO)).await, Ok(true));
    assert_eq!(one.get("set").await, Ok(None), "no life at all");
}

pub(super) async fn increments_are_exact_under_concurrency(bench: &Bench) {
    let [one, other] = both(bench);
    let sums = join_all((0..200).map(|number| {
        let space = if number % 2 == 0 { one.clone() } else { other.clone() };
        async move { space.increment("a", 3, MINUTE).await }
    }));
    let mut sums: Vec<i64> = sums.await.into_iter().map(|sum| sum.expect("it is there")).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=200).map(|count| count * 3).collect::<Vec<_>>());
    assert_eq!(one.get("a").await, Ok(Some(text("600"))));
}

pub(super) async fn of_many_who_compare_and_set_one_wins(bench: &Bench) {
    let [one, other] = both(bench);
    for expected in [None, Some("0")] {
        let won = join_all((0..100).map(|number| {
            let space = if number % 2 == 0 { one.clone() } else { other.clone() };
            let value = text(if expected.is_none() { "0" } else { "1" });
            async move { space.compare_and_set("a", expected.map(str::as_bytes), value, None).await }
        }));
        assert_eq!(won.await.into_iter().filter(|won| *won == Ok(true)).count(), 1, "{expected:?}");
    }
    assert_eq!(one.compare_and_set("a", None, text("2"), None).await, Ok(false));
    assert_eq!(one.compare_and_set("a", Some(b""), text("2"), None).await, Ok(false));
    assert_eq!(other.get("a").await, Ok(Some(text("1"))));
}

pub(super) async fn what_is_no_number_is_not_incremented(bench: &Bench) {
    let [one, other] = both(bench);
    for value in ["", "x", "1.0", " 1", "1 ", "+1", "007", "-0", "00", "1e3", "9223372036854775808", "\u{663}"] {
        assert_eq!(one.set("a", text(value), None).await, Ok(()));
        assert_eq!(other.increment("a", 1, None).await, Err(KvError::NotANumber), "{value:?}");
        assert_eq!(other.get("a").await, Ok(Some(text(value))));
    }
    // Above 2^53 floating-point numbers are not exact.
    for (value, by, sum) in [
        ("9007199254740993", 2, Some(9_007_199_254_740_995)),
        ("9223372036854775806", 1, Some(i64::MAX)),
        ("9223372036854775807", 1, None),
        ("-9223372036854775808", -1, None),
        ("-1", i64::MIN, None),
        ("0", i64::MIN, Some(i64::MIN)),
        ("-5", 5, Some(0)),
    ] {
        assert_eq!(one.set("a", text(value), None).await, Ok(()));
        assert_eq!(other.increment("a", by, None).await.ok(), sum, "{value} + {by}");
        let expected = sum.map_or_else(|| text(value), |sum| sum.to_string().into());
        assert_eq!(one.get("a").await, Ok(Some(expected)));
    }
}

/// Whatever a guest calls a key, it is in its own space.
pub(super) async fn no_key_of_one_plugin_names_a_value_of_another(bench: &Bench) {
    let limits = Limits { kv_key_bytes_max: 64, ..patient() };
    let names = ["a", "a-ends", "a.b", "b"];
    let spaces: Vec<KvSpace> = names.iter().map(|name| space(&bench.store, name, &limits)).collect();
    let keys = ["-ends", "}", "{x}", "orders/b", "../b/k", "\0", "é", "k", " ", "*", "apikey-x", "a\r\nDEL k"];
    for (name, space) in names.iter().zip(&spaces) {
        for key in keys {
            assert_eq!(space.get(key).await, Ok(None), "{name} {key:?}");
            assert_eq!(space.set(key, format!("{name} {key}").into(), MINUTE).await, Ok(()));
        }
    }
    for (name, space) in names.iter().zip(&spaces) {
        for key in keys {
            assert_eq!(space.get(key).await, Ok(Some(format!("{name} {key}").into())), "{name} {key:?}");
            assert_eq!(space.delete(key).await, Ok(true));
        }
    }
    for key in ["", &"k".repeat(65)] {
        assert_eq!(spaces[0].get(key).await, Err(KvError::KeyInvalid));
        assert_eq!(spaces[0].increment(key, 1, None).await, Err(KvError::KeyInvalid));
    }
    assert_eq!(bench.store.numbers().kv.keys_invalid.load(Ordering::Relaxed), 4);
}

pub(super) async fn a_plugin_has_its_share_and_no_more(bench: &Bench) {
    // Four entries of 256 bytes with the overhead.
    let limits = Limits { kv_keys_max: 5, kv_value_bytes_max: 127, kv_bytes_max: 1_024, ..patient() };
    let [many, large] = ["many", "large"].map(|name| space(&bench.store, name, &limits));
    for key in ["a", "b", "c", "d", "e"] {
        assert_eq!(many.increment(key, 1, MINUTE).await, Ok(1));
    }
    assert_eq!(many.increment("f", 1, None).await, Err(KvError::Full(KvLimit::Keys)));
    assert_eq!(many.set("f", text("1"), None).await, Err(KvError::Full(KvLimit::Keys)));
    assert_eq!(many.compare_and_set("f", None, text("1"), None).await, Err(KvError::Full(KvLimit::Keys)));
    assert_eq!(many.increment("e", 1, None).await, Ok(2), "it is there");

    let value = Bytes::from(vec![b'x'; 127]);
    for key in ["a", "b", "c", "d"] {
        assert_eq!(large.set(key, value.clone(), MINUTE).await, Ok(()));
    }
    assert_eq!(large.set("e", text(""), None).await, Err(KvError::Full(KvLimit::Bytes)));
    assert_eq!(large.set("a", text("shorter"), MINUTE).await, Ok(()));
    assert_eq!(large.set("a", value.clone(), MINUTE).await, Ok(()));
    assert_eq!(large.set("a", vec![b'x'; 128].into(), None).await, Err(KvError::ValueTooLarge));
    assert_eq!(large.delete("d").await, Ok(true));
    assert_eq!(large.set("e", value.clone(), MINUTE).await, Ok(()));
    let kv = &bench.store.numbers().kv;
    let count = |limit| kv.full(limit).load(Ordering::Relaxed);
    assert_eq!((count(KvLimit::Keys), count(KvLimit::Bytes)), (3, 1));
    assert_eq!(kv.values_too_large.load(Ordering::Relaxed), 1);

    // What has ended takes no room.
    bench.advance(Duration::from_secs(61)).await;
    for key in ["v", "w", "x", "y"] {
        assert_eq!(many.increment(key, 1, None).await, Ok(1));
        assert_eq!(large.set(key, value.clone(), None).await, Ok(()));
    }
    assert_eq!(large.set("z", value, None).await, Err(KvError::Full(KvLimit::Bytes)));
    let narrow = space(&bench.store, "narrow", &Limits { kv_value_bytes_max: 1, ..patient() });
    assert_eq!(narrow.increment("a", 9, None).await, Ok(9));
    assert_eq!(narrow.increment("a", 1, None).await, Err(KvError::ValueTooLarge));
    assert_eq!(narrow.get("a").await, Ok(Some(text("9"))));
}

/// Every answer to a thousand calls is what a store in memory gives.
pub(super) async fn it_keeps_values_as_memory_does(bench: &Bench) {
    let seed = RandomState::new().hash_one(0);
    let mut random = seed | 1;
    let mut next = |below: u64| {
        // A xorshift generator: the seed is in what a failure says.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let memory = Store::in_memory(clock());
    let limits = Limits { kv_keys_max: 6, kv_bytes_max: 800, kv_value_bytes_max: 40, ..patient() };
    let [found, expected] = [&bench.store, &memory].map(|store| space(store, "any", &limits));
    memory.0.clock.advance(Duration::from_millis(bench.clock.now_ms() - memory.0.clock.now_ms()));
    for step in 0..1_000 {
        let key = next(9).to_string();
        let value: Bytes = match next(3) {
            0 => next(3).to_string().into(),
            1 => vec![b'x'; usize::try_from(next(45)).expect("it is small")].into(),
            _ => i64::MAX.to_string().into(),
        };
        let ttl = (next(2) == 0).then(|| Duration::from_millis(next(5_000)));
        let old = if next(2) == 0 { Ok(None) } else { expected.get(&key).await };
        let old = old.expect("memory is there");
        let by = i64::try_from(next(5)).expect("it is small") - 2;
        let say = |what: &str| format!("seed {seed}, step {step}: {what} {key} {value:?} {ttl:?} {old:?} {by}");
        match next(6) {
            0 => assert_eq!(found.get(&key).await, expected.get(&key).await, "{}", say("get")),
            1 => {
                let (one, two) =
                    (found.set(&key, value.clone(), ttl).await, expected.set(&key, value.clone(), ttl).await);
                assert_eq!(one, two, "{}", say("set"));
            }
            2 => assert_eq!(found.delete(&key).await, expected.delete(&key).await, "{}", say("delete")),
            3 => {
                let (one, two) = (found.increment(&key, by, ttl).await, expected.increment(&key, by, ttl).await);
                assert_eq!(one, two, "{}", say("increment"));
            }
            4 => {
                let one = found.compare_and_set(&key, old.as_deref(), value.clone(), ttl).await;
                let two = expected.compare_and_set(&key, old.as_deref(), value.clone(), ttl).await;
                assert_eq!(one, two, "{}", say("swap"));
            }
            _ => {
                let by = Duration::from_millis(next(1_000));
                bench.advance(by).await;
                memory.0.clock.advance(by);
            }
        }
    }
}
