//! Limits of what callers of a plugin's sessions take up, to the unit: what is just allowed counts nowhere, one more is counted.

use std::time::Duration;

use serde_json::{Value, json};
use stile::clock::Clock;
use stile_tests::{Api, Builder, Gateway, RawUpstream, Upstream, api, plugin};

const NOW_MS: u64 = 1_795_395_600_000;

/// An API whose plugin makes this session of every caller.
fn made(id: &str, upstream: &Upstream, session: Value, limits: &Value) -> Api {
    let mut auth = json!({ "plugin": "session", "config": session });
    for (key, value) in limits.as_object().expect("limits") {
        auth[key] = value.clone();
    }
    api(id).upstream(upstream).auth(plugin("session")).set("/auth", auth)
}

async fn status(gateway: &Gateway, path: &str, caller: &str) -> u16 {
    gateway.get(path).header("authorization", caller).send().await.status()
}

// limit: apis[].auth.sessions_max
#[tokio::test]
async fn so_many_sessions_of_a_plugin_are_kept() {
    let upstream = Upstream::start();
    let flooded = made("orders", &upstream, json!({ "alias": "made" }), &json!({ "sessions_max": 2 }));
    let gateway = Gateway::with(flooded).start().await;
    for (caller, kept, evicted) in [("ana", 1, 0.0), ("ben", 2, 0.0), ("ana", 2, 0.0), ("eve", 2, 1.0)] {
        assert_eq!(status(&gateway, "/orders/1", caller).await, 200);
        let sessions = gateway.store().list_sessions(None, 10).await.expect("it is there").items;
        assert_eq!((sessions.len(), caller), (kept, caller));
        assert_eq!(gateway.metric("stile_plugin_sessions_evicted_total", &[("api", "orders")]), evicted, "{caller}");
    }
}

// limit: store.plugin_sessions_max
#[tokio::test]
async fn so_many_sessions_of_all_plugins_are_kept() {
    let upstream = Upstream::start();
    let of = |id: &str| made(id, &upstream, json!({ "alias": "made" }), &json!({}));
    let builder = Gateway::with(of("orders")).and(of("users")).set("/store/plugin_sessions_max", 3);
    let gateway = builder.start().await;
    let calls =
        [("/orders/1", "ana", 0.0), ("/orders/1", "ben", 0.0), ("/users/1", "ana", 0.0), ("/users/1", "ben", 1.0)];
    for (path, caller, evicted) in calls {
        assert_eq!(status(&gateway, path, caller).await, 200);
        assert_eq!(gateway.metric("stile_plugin_sessions_evicted_total", &[]), evicted, "{path} {caller}");
    }
    assert_eq!(gateway.metric("stile_plugin_sessions", &[]), 3.0);
}

/// Callers with a rate of their own, each of which is a counter: nine have room, a tenth has none.
async fn has_nine_counters(builder: impl Fn(Value) -> Builder) {
    let gateway = builder(json!({ "rate": 5, "per_seconds": 3600 })).start().await;
    let refused = || gateway.metric("stile_plugin_counters_refused_total", &[]);

    for caller in (0..9).chain([0]) {
        assert_eq!(status(&gateway, "/orders/1", &format!("caller-{caller}")).await, 200, "{caller}");
    }
    assert_eq!(refused(), 0.0);
    assert_eq!(status(&gateway, "/orders/1", "caller-9").await, 503);
    assert_eq!(refused(), 1.0);
}

// limit: apis[].auth.counters_max
#[tokio::test]
async fn sessions_of_a_plugin_have_so_many_counters() {
    let upstream = Upstream::start();
    has_nine_counters(|session| Gateway::with(made("orders", &upstream, session, &json!({ "counters_max": 9 })))).await;
}

// limit: store.plugin_counters_max
#[tokio::test]
async fn sessions_of_all_plugins_have_so_many_counters() {
    let upstream = Upstream::start();
    has_nine_counters(|session| {
        let api = made("orders", &upstream, session, &json!({}));
        Gateway::with(api).set("/store/plugin_counters_max", 9)
    })
    .await;
}

// limit: apis[].auth.session_lifetime_seconds
#[tokio::test]
async fn a_session_of_a_plugin_is_kept_for_so_long() {
    let (upstream, clock) = (Upstream::start(), Clock::manual(NOW_MS));
    let definition = made("orders", &upstream, json!({ "alias": "made" }), &json!({ "session_lifetime_seconds": 60 }));
    let gateway = Gateway::with(definition).clock(&clock).start().await;
    assert_eq!(status(&gateway, "/orders/1", "ana").await, 200);
    let hash = gateway.store().list_sessions(None, 10).await.expect("it is there").items.remove(0);

    // Another caller's session is where one that has ended goes.
    for (after_ms, caller, is_kept, sessions) in [(59_999, "ben", true, 2.0), (1, "eve", false, 2.0)] {
        clock.advance(Duration::from_millis(after_ms));
        let session = gateway.store().session(&hash).await.expect("it is there");
        assert_eq!(session.is_some(), is_kept, "{after_ms}");
        assert_eq!(status(&gateway, "/orders/1", caller).await, 200);
        assert_eq!(gateway.metric("stile_plugin_sessions", &[]), sessions, "{after_ms}");
    }
    assert_eq!(gateway.metric("stile_plugin_sessions_evicted_total", &[]), 0.0, "its time was over");
}

// limit: apis[].auth.quota_life_seconds
#[tokio::test]
async fn what_was_used_of_a_quota_without_renewal_is_remembered_for_so_long() {
    let (upstream, clock) = (Upstream::start(), Clock::manual(NOW_MS));
    let session = json!({ "quota_max": 1, "quota_renewal_rate": 0 });
    let limits = json!({ "quota_life_seconds": 60, "session_lifetime_seconds": 0 });
    let gateway = Gateway::with(made("orders", &upstream, session, &limits)).clock(&clock).start().await;

    assert_eq!(status(&gateway, "/orders/1", "ana").await, 200);
    for (after_ms, expected, refused) in [(0, 403, 1.0), (59_999, 403, 2.0), (1, 200, 2.0), (0, 403, 3.0)] {
        clock.advance(Duration::from_millis(after_ms));
        assert_eq!(status(&gateway, "/orders/1", "ana").await, expected, "{after_ms}");
        assert_eq!(gateway.metric("stile_refusals_total", &[("reason", "quota")]), refused, "{after_ms}");
    }
}

// limit: apis[].auth.id_extractor.refusals_max
#[tokio::test]
async fn so_many_refusals_of_a_plugin_are_remembered() {
    let upstream = Upstream::start();
    let limits = json!({ "id_extractor": { "from": "header", "refusals_max": 2 } });
    let gateway = Gateway::with(made("orders", &upstream, json!({ "refuse": "unknown" }), &limits)).start().await;
    let calls = [("ana", 1.0, 0.0), ("ben", 2.0, 0.0), ("ana", 2.0, 0.0), ("eve", 3.0, 1.0), ("ana", 4.0, 2.0)];
    for (caller, asked, evicted) in calls {
        assert_eq!(status(&gateway, "/orders/1", caller).await, 403);
        gateway.metric_becomes("stile_plugin_calls_total", &[], asked).await;
        assert_eq!(gateway.metric("stile_identities_refused_evicted_total", &[]), evicted, "{caller}");
    }
}

/// A gateway whose plugin asks a server about each ID, which the test answers.
async fn introspecting(upstream: &Upstream, server: &RawUpstream, limits: Value) -> Gateway {
    let mut extractor = json!({ "from": "header" });
    for (key, value) in limits.as_object().expect("limits") {
        extractor[key] = value.clone();
    }
    let config = json!({ "url": format!("{}/introspect", server.url()), "client": "gateway" });
    let auth = json!({ "plugin": "introspect", "config": config, "id_extractor": extractor });
    let definition = api("orders").upstream(upstream).auth(plugin("introspect")).set("/auth", auth);
    let builder = Gateway::with(definition).grant("introspect", ["outgoing-http", "secrets"]);
    let builder = builder.plugin("introspect", "outgoing_http", json!({ "allow": [server.url()] }));
    let builder =
        builder.plugin("introspect", "limits", json!({ "deadline_ms": 20_000, "outgoing_time_max_ms": 20_000 }));
    let secret = json!({ "client": { "file": "secret" } });
    builder.file("secret", "words").plugin("introspect", "secrets", secret).start().await
}

/// Answers so many questions of the plugin that it knows the token.
async fn answer(server: &RawUpstream, questions: usize) {
    for _ in 0..questions {
        let mut asked = server.accept().await;
        asked.head().await;
        let words = r#"{"active":true,"sub":"ana","scope":"read"}"#;
        asked.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{words}", words.len())).await;
    }
}

fn busy(gateway: &Gateway) -> f64 {
    gateway.metric("stile_refusals_total", &[("reason", "busy")])
}

/// Requests of these callers, on their way.
fn sent<const N: usize>(gateway: &Gateway, callers: [&str; N]) -> [tokio::task::JoinHandle<u16>; N] {
    callers.map(|caller| {
        let call = gateway.get("/orders/1").header("authorization", format!("Bearer {caller}"));
        tokio::spawn(async { call.send().await.status() })
    })
}

// limit: apis[].auth.id_extractor.asked_max
#[tokio::test]
async fn a_plugin_is_asked_about_so_many_ids_at_one_time() {
    let (upstream, server) = (Upstream::start(), RawUpstream::start().await);
    let gateway = introspecting(&upstream, &server, json!({ "asked_max": 2 })).await;

    let callers = sent(&gateway, ["ana", "ben"]);
    gateway.metric_becomes("stile_identities_asked", &[], 2.0).await;
    assert_eq!(busy(&gateway), 0.0);
    let [third] = sent(&gateway, ["eve"]);
    assert_eq!(third.await.expect("no panic"), 503);
    assert_eq!(busy(&gateway), 1.0);
    answer(&server, 2).await;
    for caller in callers {
        assert_eq!(caller.await.expect("no panic"), 200);
    }
}

// limit: apis[].auth.id_extractor.waiting_max
#[tokio::test]
async fn so_many_requests_wait_for_the_answer_about_one_id() {
    let (upstream, server) = (Upstream::start(), RawUpstream::start().await);
    let gateway = introspecting(&upstream, &server, json!({ "waiting_max": 2 })).await;

    let callers = sent(&gateway, ["ana", "ana"]);
    gateway.metric_becomes("stile_identities_waited_for", &[], 2.0).await;
    assert_eq!(busy(&gateway), 0.0);
    let [third] = sent(&gateway, ["ana"]);
    assert_eq!(third.await.expect("no panic"), 503);
    assert_eq!(busy(&gateway), 1.0);
    answer(&server, 1).await;
    for caller in callers {
        assert_eq!(caller.await.expect("no panic"), 200);
    }
}
