//! What `/ready` says of a store that is away.

use std::time::{Duration, Instant};

use serde_json::json;
use stile::model::session::Session;
use stile_tests::{Gateway, Redis, Reply, Upstream, api, plugin};

use super::{LONG, extracted, hears, keep, keyed};

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

/// Nobody passes who would not with a token: not who is known by an ID, not who is known to the plugin.
#[tokio::test]
async fn deny_refuses_callers_of_plugins_as_it_does_those_of_tokens() {
    let (mut redis, upstream) = (Redis::start(), Upstream::start());
    let made = api("made").upstream(&upstream).auth(plugin("session"));
    let ids = extracted("ids", &upstream.url(), json!({ "id_extractor_deadline": LONG }));
    let builder = Gateway::with(keyed(&upstream)).and(made).and(ids).redis(&redis);
    let gateway = builder.set("/store/away", "deny").start().await;
    keep(&gateway, "ana-token", Session::default()).await;
    hears(&gateway).await;
    let ask = |api: &str| gateway.get(&format!("/{api}/1")).header("authorization", "ana-token").send();
    for api in ["orders", "made", "ids"] {
        assert_eq!(ask(api).await.status(), 200, "{api}");
    }
    redis.kill();
    assert_eq!(becomes(&gateway, |reply| told(reply).contains("away for ")).await.status(), 503);

    for api in ["orders", "made", "ids"] {
        let reply = ask(api).await;
        assert_eq!((reply.status(), reply.header("retry-after")), (503, Some("1")), "{api}");
    }
    let stranger = gateway.get("/ids/1").header("authorization", "somebody new").send().await;
    assert_eq!(stranger.status(), 503);
    gateway.metric_becomes("stile_refusals_total", &[("reason", "store")], 4.0).await;

    assert!(redis.run());
    is_ready(&gateway).await;
    for api in ["made", "ids"] {
        assert_eq!(ask(api).await.status(), 200, "{api}");
    }
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
