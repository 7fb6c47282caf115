//! Limits of callers, upstreams, the control port and the store, to the unit: what is just allowed goes through and counts
//! nowhere, one more is refused and counted.

use std::time::Duration;

use serde_json::{Value, json};
use stile::clock::Clock;
use stile_tests::{Api, Folder, Gateway, Raw, RawUpstream, Upstream, api, guest, plugin};

// limit: limits.connections_max
#[tokio::test]
async fn so_many_connections_may_be_open() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).set("/limits/connections_max", 2).start().await;
    let refused = || gateway.metric("stile_connections_refused_total", &[]);
    let request = "GET /orders/1 HTTP/1.1\r\nhost: x\r\n\r\n";

    let (mut one, mut two) = (gateway.raw().await, gateway.raw().await);
    for caller in [&mut one, &mut two] {
        caller.write(request).await;
        assert!(caller.head().await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(refused(), 0.0);
    assert_eq!(gateway.raw().await.rest().await, "");
    assert_eq!(refused(), 1.0);
}

// limit: limits.header_bytes_max
#[tokio::test]
async fn a_head_may_be_so_long() {
    let upstream = Upstream::start();
    let gateway =
        Gateway::with(api("orders").upstream(&upstream)).set("/limits/header_bytes_max", 10_000).start().await;
    let head = |bytes: usize| {
        let (start, end) = ("GET /orders/1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\na: ", "\r\n\r\n");
        format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len()))
    };
    for (bytes, status, counted) in [(10_000, "HTTP/1.1 200", 0.0), (10_001, "HTTP/1.1 431", 1.0)] {
        let mut caller = gateway.raw().await;
        caller.write(head(bytes)).await;

        assert!(caller.head().await.starts_with(status), "{bytes}");
        gateway.metric_becomes("stile_heads_too_large_total", &[], counted).await;
    }
}

// limit: apis[].request_body_bytes_max
#[tokio::test]
async fn a_body_may_be_so_long() {
    let upstream = Upstream::start();
    let definition = api("orders").upstream(&upstream).set("/request_body_bytes_max", 100);
    let gateway = Gateway::with(definition).start().await;
    let refused = || gateway.metric("stile_refusals_total", &[("reason", "request_too_large")]);

    assert_eq!(gateway.post("/orders/1", vec![b'x'; 100]).send().await.status(), 200);
    assert_eq!(refused(), 0.0);
    assert_eq!(gateway.post("/orders/1", vec![b'x'; 101]).send().await.status(), 413);
    assert_eq!(gateway.metric("stile_refusals_total", &[("api", "orders")]), 1.0);
}

/// An upstream that answers after `pause`, or never, and what the caller sees of it.
async fn late(definition: impl Fn(Api) -> Api, answers: bool) -> (Gateway, u16) {
    let upstream = RawUpstream::start().await;
    let gateway = Gateway::with(definition(api("orders").upstream_url(&upstream.url()))).start().await;
    let caller = tokio::spawn(gateway.get("/orders/1").send());
    let mut sent = upstream.accept().await;
    sent.head().await;
    if answers {
        sent.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
    let status = caller.await.expect("no panic").status();
    (gateway, status)
}

// limit: apis[].upstream.reply_timeout_ms
#[tokio::test]
async fn an_upstream_has_so_much_time_to_answer() {
    let failures = |gateway: &Gateway| gateway.metric("stile_upstream_failures_total", &[("kind", "reply_timeout")]);
    let (gateway, status) = late(|api| api.set("/upstream/reply_timeout_ms", 20_000), true).await;
    assert_eq!((status, failures(&gateway)), (200, 0.0));
    let (gateway, status) = late(|api| api.set("/upstream/reply_timeout_ms", 300), false).await;
    assert_eq!((status, failures(&gateway)), (504, 1.0));
}

// limit: apis[].request_timeout_ms
#[tokio::test]
async fn a_request_has_so_much_time() {
    let refused = |gateway: &Gateway| gateway.metric("stile_refusals_total", &[("reason", "timeout")]);
    let (gateway, status) = late(|api| api.set("/request_timeout_ms", 20_000), true).await;
    assert_eq!((status, refused(&gateway)), (200, 0.0));
    let (gateway, status) = late(|api| api.set("/request_timeout_ms", 300), false).await;
    assert_eq!((status, refused(&gateway)), (504, 1.0));
}

// limit: apis[].upstream.connections_max
#[tokio::test]
async fn so_many_connections_may_lead_to_an_upstream() {
    let upstream = RawUpstream::start().await;
    let definition = api("orders").upstream_url(&upstream.url()).set("/upstream/connections_max", 2);
    let gateway = Gateway::with(definition).start().await;
    let failures = || gateway.metric("stile_upstream_failures_total", &[("kind", "busy")]);

    let callers: Vec<_> = (0..2).map(|_| tokio::spawn(gateway.get("/orders/1").send())).collect();
    let mut sent = [upstream.accept().await, upstream.accept().await];
    for sent in &mut sent {
        sent.head().await;
    }
    assert_eq!(failures(), 0.0);
    assert_eq!(gateway.get("/orders/1").send().await.status(), 503);
    assert_eq!(failures(), 1.0);
    for sent in &mut sent {
        sent.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
    for caller in callers {
        assert_eq!(caller.await.expect("no panic").status(), 200);
    }
}

// limit: apis[].upstream.connect_timeout_ms
#[tokio::test]
async fn a_connection_to_an_upstream_has_so_much_time() {
    // One that takes connections and says nothing of TLS.
    let upstream = RawUpstream::start().await;
    let failures = |gateway: &Gateway| gateway.metric("stile_upstream_failures_total", &[("kind", "connect_timeout")]);
    let silent = api("orders").upstream_url(&upstream.url().replace("http:", "https:"));
    let gateway = Gateway::with(silent.set("/upstream/connect_timeout_ms", 200)).start().await;
    assert_eq!((gateway.get("/orders/1").send().await.status(), failures(&gateway)), (504, 1.0));

    let (gateway, status) = late(|api| api.set("/upstream/connect_timeout_ms", 20_000), true).await;
    assert_eq!((status, failures(&gateway)), (200, 0.0));
}

// limit: apis[].upstream.idle_timeout_ms
#[tokio::test]
async fn an_answer_may_pause_for_so_long() {
    for (timeout_ms, aborted) in [(20_000, 0.0), (200, 1.0)] {
        let upstream = RawUpstream::start().await;
        let definition = api("orders").upstream_url(&upstream.url()).set("/upstream/idle_timeout_ms", timeout_ms);
        let gateway = Gateway::with(definition).start().await;
        let caller = tokio::spawn(gateway.get("/orders/1").try_send());
        let mut sent = upstream.accept().await;
        sent.head().await;
        sent.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nto").await;
        if aborted == 0.0 {
            sent.write("ld").await;
        }

        assert_eq!(caller.await.expect("no panic").is_ok(), aborted == 0.0, "{timeout_ms}");
        gateway.metric_becomes("stile_requests_aborted_total", &[("api", "orders")], aborted).await;
        gateway.metric_becomes("stile_requests_total", &[], 1.0 - aborted).await;
    }
}

// limit: apis[].upstream.idle_connection_timeout_ms
#[tokio::test]
async fn an_idle_connection_to_an_upstream_is_kept_for_so_long() {
    for (timeout_ms, kept) in [(60_000, 1.0), (100, 0.0)] {
        let upstream = Upstream::start();
        let definition = api("orders").upstream(&upstream).set("/upstream/idle_connection_timeout_ms", timeout_ms);
        let gateway = Gateway::with(definition).start().await;
        assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
        gateway.metric_becomes("stile_upstream_connections_idle", &[], kept).await;
        assert_eq!(gateway.get("/orders/1").send().await.status(), 200);

        assert_eq!(gateway.metric("stile_upstream_connections_opened_total", &[]), 2.0 - kept, "{timeout_ms}");
    }
}

// limit: apis[].analytics.body_bytes_max
#[tokio::test]
async fn a_recorded_body_may_be_so_long() {
    let upstream = Upstream::start();
    let definition = api("orders").upstream(&upstream).detailed().set("/analytics/body_bytes_max", 10);
    let gateway = Gateway::with(definition).recording().start().await;
    let cut = || gateway.metric("stile_analytics_bodies_cut_total", &[("api", "orders")]);

    // The upstream's `upstream` is shorter.
    assert_eq!(gateway.post("/orders/1", "0123456789").send().await.status(), 200);
    let record = &gateway.records(1).await[0]["request"];
    assert_eq!((&record["truncated"], cut()), (&json!(false), 0.0));
    assert_eq!(gateway.post("/orders/1", "0123456789a").send().await.status(), 200);
    let record = &gateway.records(2).await[1]["request"];
    assert_eq!((&record["truncated"], cut()), (&json!(true), 1.0));
}

// limit: apis[].rate_limit.requests
// limit: apis[].rate_limit.burst
#[tokio::test]
async fn an_api_takes_so_many_requests() {
    let upstream = Upstream::start();
    let sliding = json!({ "requests": 3, "per_seconds": 3600 });
    let smooth = json!({ "requests": 10, "per_seconds": 36000, "algorithm": "smooth", "burst": 3 });
    for limited in [sliding, smooth] {
        let gateway = Gateway::with(api("orders").upstream(&upstream).set("/rate_limit", limited)).start().await;
        let refused = || gateway.metric("stile_refusals_total", &[("reason", "api_rate")]);

        for _ in 0..3 {
            assert_eq!(gateway.get("/orders/1").send().await.status(), 200);
        }
        assert_eq!(refused(), 0.0);
        assert_eq!(gateway.get("/orders/1").send().await.status(), 429);
        assert_eq!(refused(), 1.0);
    }
}

/// An API whose plugin is asked once for each value of `authorization`.
fn extracted(upstream: &Upstream, session: Value, extractor: &Value) -> Api {
    let mut with = json!({ "from": "header" });
    for (key, value) in extractor.as_object().expect("keys") {
        with[key] = value.clone();
    }
    let auth = json!({ "plugin": "session", "config": session, "id_extractor": with });
    api("orders").upstream(upstream).auth(plugin("session")).set("/auth", auth)
}

// limit: apis[].auth.id_extractor.input_bytes_max
#[tokio::test]
async fn what_an_id_is_taken_from_may_be_so_long() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(extracted(&upstream, json!({}), &json!({ "input_bytes_max": 100 }))).start().await;
    let status =
        async |bytes| gateway.get("/orders/1").header("authorization", vec![b'x'; bytes]).send().await.status();
    let refused = || gateway.metric("stile_refusals_total", &[("reason", "no_id")]);

    assert_eq!((status(100).await, refused()), (200, 0.0));
    assert_eq!((status(101).await, refused()), (400, 1.0));
}

/// The plugin's answer is good for a minute, and no longer.
async fn is_asked_again_after_a_minute(session: Value, extractor: Value) {
    let (upstream, clock) = (Upstream::start(), Clock::manual(1_700_000_000_000));
    let gateway = Gateway::with(extracted(&upstream, session, &extractor)).clock(&clock).start().await;
    for (after_ms, asked) in [(0, 1.0), (59_999, 1.0), (1, 2.0)] {
        clock.advance(Duration::from_millis(after_ms));
        gateway.get("/orders/1").header("authorization", "ana").send().await;
        gateway.metric_becomes("stile_plugin_calls_total", &[], asked).await;
    }
}

// limit: apis[].auth.id_extractor.deadline_max_ms
#[tokio::test]
async fn an_answer_of_a_plugin_is_good_for_so_long() {
    let session = json!({ "id_extractor_deadline": 99_999_999_999_i64 });
    is_asked_again_after_a_minute(session, json!({ "deadline_max_ms": 60_000 })).await;
}

// limit: apis[].auth.id_extractor.refusal_life_ms
#[tokio::test]
async fn a_refusal_of_a_plugin_is_good_for_so_long() {
    is_asked_again_after_a_minute(json!({ "refuse": "unknown" }), json!({ "refusal_life_ms": 60_000 })).await;
}

/// A key whose JSON has about so many bytes.
fn key(bytes: usize) -> Value {
    json!({
        "org_id": "default", "rate": 1000, "per": 1, "quota_max": -1, "quota_renewal_rate": 60,
        "access_rights": { "orders": { "api_id": "orders", "api_name": "orders", "versions": ["Default"] } },
        "meta_data": { "notes": "n".repeat(bytes) },
    })
}

// limit: control.body_bytes_max
#[tokio::test]
async fn a_body_for_the_control_port_may_be_so_long() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).set("/control/body_bytes_max", 2_000).start().await;
    let counted = || gateway.metric("stile_control_bodies_too_large_total", &[]);
    let bytes = key(0).to_string().len();
    let status = async |length: usize| {
        gateway.manage("POST", "/tyk/keys/abc").body(key(length - bytes).to_string()).send().await.status()
    };

    assert_eq!((status(2_000).await, counted()), (200, 0.0));
    assert_eq!((status(2_001).await, counted()), (413, 1.0));
}

// limit: control.connections_max
#[tokio::test]
async fn so_many_may_be_connected_to_the_control_port() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).set("/control/connections_max", 3).start().await;
    let counted = || gateway.metric("stile_control_connections_closed_total", &[]);
    let asked = async |connection: &mut Raw| {
        connection.write("GET /live HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let head = connection.head().await;
        connection.until("}").await;
        head.starts_with("HTTP/1.1 200 ")
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(Raw::connect(gateway.control_address()).await);
    }
    for connection in &mut held {
        assert!(asked(connection).await);
    }
    assert_eq!(counted(), 0.0);

    let mut another = Raw::connect(gateway.control_address()).await;
    assert!(asked(&mut another).await);
    assert_eq!(counted(), 1.0);
    let [oldest, others @ ..] = &mut held[..] else { panic!("three") };
    assert_eq!(oldest.until("nothing comes").await, "");
    for connection in others {
        assert!(asked(connection).await);
    }
}

// limit: store.record_bytes_max
#[tokio::test]
async fn a_key_may_be_so_large() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).set("/store/record_bytes_max", 4_096).start().await;
    let status =
        async |bytes| gateway.manage("POST", "/tyk/keys/abc").body(key(bytes).to_string()).send().await.status();

    let refused = || gateway.metric("stile_store_records_too_large_total", &[]);

    // How much the store adds to what is sent is its own matter.
    let (mut fits, mut large) = (2_000, 4_000);
    while fits + 1 < large {
        let middle = usize::midpoint(fits, large);
        if status(middle).await == 200 { fits = middle } else { large = middle }
    }
    let before = refused();
    assert_eq!((status(fits).await, refused()), (200, before), "{fits}");
    assert_eq!((status(large).await, refused()), (413, before + 1.0), "{large}");
    assert_eq!(gateway.manage("GET", "/tyk/keys/defaultabc").send().await.status(), 200, "what was there stays");
}

// limit: store.records_max
#[tokio::test]
async fn so_many_keys_may_be_kept() {
    let upstream = Upstream::start();
    let gateway = Gateway::with(api("orders").upstream(&upstream)).set("/store/records_max", 2).start().await;
    let status = async |name: &str| {
        gateway.manage("POST", &format!("/tyk/keys/{name}")).body(key(0).to_string()).send().await.status()
    };

    let refused = || gateway.metric("stile_store_full_total", &[]);

    assert_eq!((status("one").await, status("two").await, refused()), (200, 200, 0.0));
    assert_eq!((status("three").await, refused()), (507, 1.0));
    assert_eq!(status("two").await, 200, "one that is there is replaced");
}

/// Some plugins with room for so many bytes once they are compiled: how many are kept then, and how often some had to go.
async fn compiled(bytes_max: u64) -> (u64, f64) {
    let (upstream, folder) = (Upstream::start(), Folder::new());
    let builder = Gateway::with(api("orders").upstream(&upstream)).set("/runtime/cache_bytes_max", bytes_max);
    let mut builder = builder.set("/runtime/cache_dir", folder.path().display().to_string());
    for name in ["hello", "headers", "ip-filter", "token-auth", "metadata-gate", "response-hardening"] {
        builder = builder.plugin(name, "file", guest(name).display().to_string());
    }
    // Some are not granted what they ask for, which is of no matter here.
    let gateway = builder.try_start().await.expect("it starts");

    let entries = std::fs::read_dir(folder.path()).expect("it is there").map(|entry| entry.expect("an entry"));
    let kept = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "cwasm"));
    let bytes = kept.map(|entry| entry.metadata().expect("of a file").len()).sum();
    (bytes, gateway.metric("stile_compile_cache_evicted_total", &[]))
}

// limit: runtime.cache_bytes_max
#[tokio::test]
async fn compiled_plugins_take_so_much_room() {
    let (all, evicted) = compiled(1 << 30).await;
    assert_eq!(evicted, 0.0);
    assert_eq!(compiled(all).await, (all, 0.0));
    let (kept, evicted) = compiled(all - 1).await;
    assert!(kept > 0 && kept < all, "{kept} of {all}");
    assert_eq!(evicted, 1.0);
}
