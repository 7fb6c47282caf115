//! What `/ready` says of a store that is away.

use std::time::{Duration, Instant};

use serde_json::json;
use stile_tests::{Gateway, Redis, Reply, Upstream};

use super::{hears, keyed};

#[tokio::test]
async fn a_gateway_on_redis_says_when_redis_is_away_and_when_it_is_back() {
    for (away, status, word) in [("local", 200, "ready"), ("allow", 200, "ready"), ("deny", 503, "not ready")] {
        let (mut redis, upstream) = (Redis::start(), Upstream::start());
        let gateway = Gateway::with(keyed(&upstream)).redis(&redis).set("/store/away", away).start().await;
        hears(&gateway).await;
        is_ready(&gateway).await;

        redis.kill();
        // Nobody sends a request meanwhile: it finds out by itself.
        let told = becomes(&gateway, |reply| told(reply).contains("away for ")).await;
        assert_eq!((told.status(), told.json()["status"].as_str()), (status, Some(word)), "{away}: {}", told.text());

        assert!(redis.run());
        is_ready(&gateway).await;
    }
}

#[tokio::test]
async fn a_gateway_that_starts_without_redis_says_so() {
    let (mut redis, upstream) = (Redis::start(), Upstream::start());
    redis.kill();
    let gateway = Gateway::with(keyed(&upstream)).redis(&redis).set("/store/away", "deny").start().await;

    let told = becomes(&gateway, |reply| told(reply).contains("away for ")).await;
    assert_eq!(told.status(), 503);

    assert!(redis.run());
    is_ready(&gateway).await;
}

async fn is_ready(gateway: &Gateway) {
    let reply = becomes(gateway, |reply| told(reply).is_empty()).await;
    assert_eq!((reply.status(), reply.json()), (200, json!({ "status": "ready", "details": {} })));
}

/// What is told of the store; nothing where it is in order.
fn told(reply: &Reply) -> String {
    reply.json()["details"]["store"].as_str().unwrap_or_default().to_owned()
}

/// Asks until it is so.
async fn becomes(gateway: &Gateway, is_so: impl Fn(&Reply) -> bool) -> Reply {
    let begun = Instant::now();
    loop {
        let reply = gateway.control("/ready").send().await;
        if is_so(&reply) {
            return reply;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", reply.text());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
