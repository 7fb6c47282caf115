//! Two gateways on one Redis: limits hold for both together, and what one changes holds on the other.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use stile::model::key::KeyHash;
use stile::model::policy::{Policy, PolicyId};
use stile::model::session::{AccessRight, Session};
use stile_tests::{Api, Gateway, Redis, Upstream};

use super::{call, hears, keep, keyed, quota, rate};

/// Two gateways that hear each other.
async fn two(redis: &Redis, api: &Api) -> [Gateway; 2] {
    let start = async || Gateway::with(api.clone()).redis(redis).start().await;
    let gateways = [start().await, start().await];
    for gateway in &gateways {
        hears(gateway).await;
    }
    gateways
}

/// Sends 200 requests at once, half of them to each. How many passed, and what the others were told.
async fn at_once(gateways: &[Gateway; 2], token: &str) -> (usize, Vec<u16>) {
    let calls = gateways.iter().cycle().take(200).map(|gateway| call(gateway, token));
    let statuses: Vec<u16> = join_all(calls).await.iter().map(stile_tests::Reply::status).collect();
    let mut others: Vec<u16> = statuses.iter().copied().filter(|status| *status != 200).collect();
    others.sort_unstable();
    others.dedup();
    (statuses.iter().filter(|status| **status == 200).count(), others)
}

#[tokio::test]
async fn a_rate_is_exact_over_two_gateways_however_it_is_counted() {
    let redis = Redis::start();
    for algorithm in ["fixed", "sliding", "smooth"] {
        let upstream = Upstream::start();
        let counted = json!({ "algorithm": algorithm, "burst": 50 });
        let gateways = two(&redis, &keyed(&upstream).set("/rate_limit", counted)).await;
        keep(&gateways[0], algorithm, Session { rate: rate(50), ..Session::default() }).await;

        assert_eq!(at_once(&gateways, algorithm).await, (50, vec![429]), "{algorithm}");
        assert_eq!(upstream.calls(), 50, "{algorithm}");
    }
}

#[tokio::test]
async fn a_quota_is_exact_over_two_gateways() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gateways = two(&redis, &keyed(&upstream)).await;
    keep(&gateways[1], "ana-token", Session { quota: quota(50), ..Session::default() }).await;

    assert_eq!(at_once(&gateways, "ana-token").await, (50, vec![403]));
    assert_eq!(upstream.calls(), 50);
}

/// What is refused for the one counts nowhere for the other.
#[tokio::test]
async fn rate_and_quota_together_are_exact_over_two_gateways() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let gateways = two(&redis, &keyed(&upstream)).await;
    let both = |token: &'static str, of_rate, of_quota| {
        keep(&gateways[0], token, Session { rate: rate(of_rate), quota: quota(of_quota), ..Session::default() })
    };
    both("rate-token", 30, 50).await;
    both("quota-token", 50, 30).await;

    assert_eq!(at_once(&gateways, "rate-token").await, (30, vec![429]));
    assert_eq!(at_once(&gateways, "quota-token").await, (30, vec![403]));
    let owner = stile::store::Owner::session(&KeyHash::of("rate-token"), None);
    let limit = stile::model::limit::QuotaLimit::of(&quota(50)).expect("there is one");
    assert_eq!(gateways[1].store().quota(&owner, &limit).await.expect("it is there").remaining, 20);
}

/// Tyk goes on letting it in for seconds.
#[tokio::test]
async fn a_key_deleted_on_one_gateway_is_refused_on_the_other() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let [one, other] = two(&redis, &keyed(&upstream)).await;
    for round in 0..20 {
        let token = format!("token-{round}");
        keep(&one, &token, Session::default()).await;
        assert_eq!(call(&one, &token).await.status(), 200);
        is_remembered(&other, &token).await;

        assert!(one.store().delete_session(&KeyHash::of(&token)).await.expect("the store is there"));

        holds_soon(async || call(&other, &token).await.status() == 403).await;
        assert_eq!(call(&one, &token).await.status(), 403);
    }
}

#[tokio::test]
async fn a_policy_changed_on_one_gateway_holds_on_the_other() {
    let (redis, upstream) = (Redis::start(), Upstream::start());
    let [one, other] = two(&redis, &keyed(&upstream)).await;
    let gold = |requests| {
        let right = AccessRight { api_id: "orders".to_owned(), ..AccessRight::default() };
        let id = PolicyId::parse("gold").expect("an id");
        Policy { rate: rate(requests), access_rights: vec![right], ..Policy::new(id) }
    };
    one.store().put_policy(&gold(1_000)).await.expect("the store is there");
    keep(&one, "ana-token", Session { policies: vec!["gold".to_owned()], ..Session::default() }).await;
    let limited_to = async |requests: u32| {
        let reply = call(&other, "ana-token").await;
        reply.header("ratelimit-policy") == Some(&format!("\"rate\";q={requests};w=31536000"))
    };
    assert!(limited_to(1_000).await && limited_to(1_000).await);
    for requests in 500..510 {
        one.store().put_policy(&gold(requests)).await.expect("the store is there");
        holds_soon(async || limited_to(requests).await).await;
    }
    let id = PolicyId::parse("gold").expect("an id");
    assert!(one.store().delete_policy(&id).await.expect("the store is there"));
    holds_soon(async || call(&other, "ana-token").await.status() == 403).await;
}

/// Asks until the answer comes from memory: news of the key's making may come late, and make the gateway read again.
pub(super) async fn is_remembered(gateway: &Gateway, token: &str) {
    for _ in 0..1_000 {
        let hits = gateway.metric("stile_session_cache_hits_total", &[]);
        assert_eq!(call(gateway, token).await.status(), 200);
        if gateway.metric("stile_session_cache_hits_total", &[]) > hits {
            return;
        }
    }
    panic!("it is always read from the store");
}

/// Asks until it is so. Whoever asks a tenth of a second from now finds that it is.
pub(super) async fn holds_soon(is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    loop {
        let asked = begun.elapsed();
        if is_so().await {
            return;
        }
        assert!(asked < Duration::from_millis(100), "not so after {asked:?}");
    }
}
