//! Values of plugins: two gateways on one Redis count together, and a file has them after a restart.

use std::path::Path;

use futures_util::future::join_all;
use serde_json::json;
use stile_tests::{Builder, Folder, Gateway, Redis, Reply, Upstream, api, plugin};

/// An API that one address may call so often in a year.
fn limited(upstream: &Upstream, requests: u32) -> Builder {
    let config = json!({ "requests": requests, "seconds": 31_536_000 });
    let definition = api("orders").upstream(upstream).pre(plugin("rate-limit").config(config));
    Gateway::with(definition).grant("rate-limit", ["kv", "metrics"])
}

fn in_file(builder: Builder, file: &Path) -> Builder {
    builder.set("/store", json!({ "kind": "embedded", "embedded": { "path": file } }))
}

async fn statuses(gateway: &Gateway, count: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..count {
        statuses.push(gateway.get("/orders/1").send().await.status());
    }
    statuses
}

#[tokio::test]
async fn plugins_of_two_gateways_on_one_redis_count_together() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let start = async || limited(&upstream, 50).redis(&redis).start().await;
    let gateways = [start().await, start().await];

    let mut replies = Vec::new();
    for _ in 0..10 {
        // Not more at once than there are instances.
        let calls = gateways.iter().cycle().take(12).map(|gateway| gateway.get("/orders/1").send());
        replies.extend(join_all(calls).await.iter().map(Reply::status));
    }

    let count = |status| replies.iter().filter(|found| **found == status).count();
    assert_eq!((count(200), count(429)), (50, 70));
    assert_eq!(upstream.calls(), 50);
}

#[tokio::test]
async fn what_a_plugin_counted_in_a_file_survives_a_restart() {
    let (folder, upstream) = (Folder::new(), Upstream::start());
    let file = folder.path().join("store.redb");
    let first = in_file(limited(&upstream, 3), &file).start().await;
    assert_eq!(statuses(&first, 2).await, [200, 200]);
    first.drain().await;

    let second = in_file(limited(&upstream, 3), &file).start().await;
    assert_eq!(statuses(&second, 2).await, [200, 429]);
    assert!(second.metric("stile_kv_bytes", &[]) > 0.0);
}

#[tokio::test]
async fn a_plugin_is_told_that_redis_is_away_and_answers_itself() {
    let (mut redis, upstream) = (Redis::start(), Upstream::start());
    let gateway = limited(&upstream, 50).redis(&redis).start().await;
    assert_eq!(statuses(&gateway, 1).await, [200]);

    redis.kill();

    assert_eq!(statuses(&gateway, 2).await, [503, 503]);
    assert_eq!(gateway.metric("stile_kv_unavailable_total", &[]), 2.0);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_plugin_that_is_full_is_told_so_and_it_is_counted() {
    let upstream = Upstream::start();
    for (of_plugin, of_all, limit) in [(200, 10_000, "kv_bytes_max"), (10_000, 200, "runtime.kv_bytes_max")] {
        let limits = json!({ "kv_bytes_max": of_plugin, "deadline_ms": 2_000 });
        let gateway = limited(&upstream, 50).limits("rate-limit", limits).set("/runtime/kv_bytes_max", of_all);
        let gateway = gateway.set("/trusted_proxies", json!(["127.0.0.1"])).start().await;
        let from = |address| gateway.get("/orders/1").header("x-forwarded-for", address).send();

        assert_eq!(from("10.0.0.1").await.status(), 200, "{limit}");
        assert_eq!(from("10.0.0.2").await.status(), 503, "{limit}");
        assert_eq!(from("10.0.0.1").await.status(), 200, "{limit}");

        assert_eq!(gateway.metric("stile_kv_refused_total", &[("limit", limit)]), 1.0, "{limit}");
        assert_eq!(gateway.metric("stile_kv_refused_total", &[]), 1.0, "{limit}");
    }
}
