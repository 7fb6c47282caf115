//! Callers of an API whose plugin makes sessions can use up their share, and nothing that is anybody else's.

use serde_json::{Value, json};
use stile::model::key::KeyHash;
use stile::model::session::Session;
use stile_tests::{Api, Gateway, Reply, Upstream, api, plugin};

use super::{LONG, Place, call, extracted, keep, quota, rate};

/// An API whose plugin makes this session of whoever comes.
fn made(upstream: &Upstream, session: Value, limits: Value) -> Api {
    let mut auth = json!({ "plugin": "session", "config": session });
    if let (Some(auth), Value::Object(limits)) = (auth.as_object_mut(), limits) {
        auth.extend(limits);
    }
    api("orders").upstream(upstream).auth(plugin("session")).set("/auth", auth)
}

/// An API for operators' keys.
fn shop(upstream: &Upstream) -> Api {
    api("shop").upstream(upstream).set("/auth", json!({}))
}

async fn at_shop(gateway: &Gateway, token: &str) -> Reply {
    gateway.get("/shop/1").header("authorization", token).send().await
}

#[tokio::test]
async fn a_flood_of_callers_leaves_operators_their_keys_and_is_served_itself() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let flooded = made(&upstream, json!({ "alias": "made" }), json!({ "sessions_max": 5 }));
        let builder = place.of(Gateway::with(flooded).and(shop(&upstream)));
        let gateway = builder.set("/store/records_max", 10).start().await;
        for number in 0..40 {
            assert_eq!(call(&gateway, &format!("caller-{number}")).await.status(), 200);
        }
        let kept = gateway.store().list_sessions(None, 1_000).await.expect("the store is there").items;
        assert_eq!(kept.len(), 5);
        gateway.metric_becomes("stile_plugin_sessions_evicted_total", &[("api", "orders")], 35.0).await;
        for number in 0..5 {
            let key = json!({ "access_rights": { "shop": { "api_id": "shop" } } }).to_string();
            let path = format!("/tyk/keys/key-{number}");
            assert_eq!(gateway.manage("POST", &path).body(key).send().await.status(), 200);
            assert_eq!(at_shop(&gateway, &format!("key-{number}")).await.status(), 200);
        }
        // The first is long gone, and comes back.
        assert_eq!(call(&gateway, "caller-0").await.status(), 200);
    }
}

/// Whoever left and comes back must not begin anew.
#[tokio::test]
async fn a_session_that_left_for_others_goes_on_with_its_quota() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let session = json!({ "quota_max": 3, "id_extractor_deadline": LONG });
        let api = extracted("orders", &upstream.url(), session).set("/auth/sessions_max", 2);
        let gateway = place.of(Gateway::with(api)).start().await;
        for round in 0..4 {
            for caller in ["ana", "ben", "eve", "joe"] {
                let expected = if round < 3 { 200 } else { 403 };
                assert_eq!(call(&gateway, caller).await.status(), expected, "{caller} in round {round}");
            }
        }
    }
}

#[tokio::test]
async fn counters_of_a_flood_are_its_own_and_nobody_elses() {
    let upstream = Upstream::start();
    let flooded = made(&upstream, json!({ "rate": 5, "per_seconds": 3600 }), json!({ "counters_max": 20 }));
    let gateway = Gateway::with(flooded).and(shop(&upstream)).start().await;
    let mut statuses = Vec::new();
    for number in 0..30 {
        statuses.push(call(&gateway, &format!("caller-{number}")).await.status());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20);
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!((gateway.metric("stile_plugin_counters_refused_total", &[("api", "orders")]) - 10.0).abs() < 0.1);
    // Whoever has a counter goes on, and so do operators' keys.
    assert_eq!(call(&gateway, "caller-0").await.status(), 200);
    for number in 0..30 {
        let token = format!("key-{number}");
        keep(&gateway, &token, Session { rate: rate(1), quota: quota(5), ..Session::default() }).await;
        assert_eq!(at_shop(&gateway, &token).await.status(), 200);
        assert_eq!(at_shop(&gateway, &token).await.status(), 429);
    }
}

/// In a file a quota makes room for another one, and goes on where it was.
#[tokio::test]
async fn more_callers_with_quotas_than_counters_are_all_served() {
    let upstream = Upstream::start();
    let session = json!({ "quota_max": 2, "quota_renewal_rate": 3600 });
    let gateway = Gateway::with(made(&upstream, session, json!({ "counters_max": 9 }))).embedded().start().await;
    for round in 0..3 {
        for number in 0..40 {
            let expected = if round < 2 { 200 } else { 403 };
            let reply = call(&gateway, &format!("caller-{number}")).await;
            assert_eq!(reply.status(), expected, "{number} in round {round}");
        }
    }
    assert!(gateway.metric("stile_limit_counters", &[]) < 9.5);
    assert!(gateway.metric("stile_limit_counters_left_total", &[]) > 60.0);
    assert!(gateway.metric("stile_plugin_counters_refused_total", &[]) < 0.1);
}

/// As in Tyk. What is left of a quota that never renews would otherwise stay for ever.
#[tokio::test]
async fn what_a_key_used_goes_with_it() {
    for place in Place::each() {
        let upstream = Upstream::start();
        let gateway = place.of(Gateway::with(shop(&upstream))).start().await;
        let key = json!({
            "quota_max": 1, "quota_renewal_rate": 0,
            "access_rights": { "shop": { "api_id": "shop", "limit": { "quota_max": 1, "quota_renewal_rate": 0 } } },
        });
        let hash = KeyHash::of("ana-token");
        let add = async |query: &str| {
            let path = format!("/tyk/keys/ana-token{query}");
            gateway.manage("POST", &path).body(key.to_string()).send().await.status()
        };
        assert_eq!(add("").await, 200);
        assert_eq!(at_shop(&gateway, "ana-token").await.status(), 200);
        assert_eq!(at_shop(&gateway, "ana-token").await.status(), 403);
        // Keeping the quota is possible as long as there is a key.
        assert_eq!(add("?suppress_reset=1").await, 200);
        assert_eq!(at_shop(&gateway, "ana-token").await.status(), 403);

        assert_eq!(gateway.manage("DELETE", "/tyk/keys/ana-token").send().await.status(), 200);

        let limit = stile::model::limit::QuotaLimit::of(&quota(1)).expect("there is one");
        for scope in [None, Some("shop")] {
            let owner = stile::store::Owner::session(&hash, scope);
            assert_eq!(gateway.store().quota(&owner, &limit).await.expect("it is there").remaining, 1, "{scope:?}");
        }
        assert_eq!(add("?suppress_reset=1").await, 200);
        assert_eq!(at_shop(&gateway, "ana-token").await.status(), 200);
    }
}

/// The plugin is asked again at once, not when the refusal is old. What it did not make is not used.
#[tokio::test]
async fn a_refusal_is_forgotten_when_the_store_has_news_of_its_id() {
    let upstream = Upstream::start();
    let api = extracted("orders", &upstream.url(), json!({ "refuse": "unknown" }));
    let gateway = Gateway::with(api).start().await;
    for _ in 0..3 {
        assert_eq!(call(&gateway, "ana").await.status(), 403);
    }
    gateway.metric_becomes("stile_plugin_calls_total", &[], 1.0).await;
    gateway.metric_becomes("stile_identities_refused", &[("api", "orders")], 1.0).await;

    let id = stile::model::id::ApiId::parse("orders").expect("a name");
    let session = Session { id_extractor_deadline: LONG, ..Session::default() };
    let plugin = stile::model::id::PluginName::parse("session").expect("a name");
    let hash = KeyHash::of_extracted("", &id, &plugin, b"ana");
    let created = gateway.store().create_session(&hash, &session, stile::store::Life::Forever).await;

    assert_eq!(created, Ok(true));
    assert_eq!(call(&gateway, "ana").await.status(), 403);
    gateway.metric_becomes("stile_plugin_calls_total", &[], 2.0).await;
    assert!(gateway.store().delete_session(&hash).await.expect("it is there"));
    assert_eq!(call(&gateway, "ana").await.status(), 403);
    gateway.metric_becomes("stile_plugin_calls_total", &[], 3.0).await;
}
