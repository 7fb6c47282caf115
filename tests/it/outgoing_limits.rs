//! Limits of what plugins send, to the unit: what is just allowed is sent and counts as such, more is refused and counted.

use std::time::Duration;

use serde_json::{Value, json};
use stile_tests::{Answer, Builder, Gateway, Upstream, api, plugin};

/// A piece of an answer; five of them are one.
const PIECE: &str = {
    const BYTES: &[u8] = &[b'x'; 60_000];
    match std::str::from_utf8(BYTES) {
        Ok(text) => text,
        Err(_) => "",
    }
};

/// The server that the plugin asks.
fn server() -> Upstream {
    Upstream::answering(|seen| match seen.target.trim_end_matches('/') {
        "/large" => Answer::new(200).pieces([PIECE; 5], None),
        "/declared" => Answer::new(200).body(PIECE.repeat(5)),
        "/head" => Answer::new(200).header("x-large", &"x".repeat(20_000)),
        "/slow" => Answer::new(200).after(SLOW),
        "/endless" => Answer::new(200).pieces(["a", "b"], None).pausing(Duration::from_secs(60)),
        _ => Answer::new(200),
    })
}

/// How long `/slow` takes.
const SLOW: Duration = Duration::from_millis(1_000);

/// A gateway whose plugin `sender` does this, under these limits; neither fuel nor time is to bite unless they are meant.
fn sending(what: &str, server: &Upstream, limits: &Value) -> Builder {
    let authority = server.url().replace("http://", "");
    let config = json!({ "what": what, "authority": authority });
    let definition = api("orders").pre(plugin("sender").config(config)).upstream_url("http://127.0.0.1:1");
    let mut all = json!({ "fuel": 1_000_000_000_000_u64, "deadline_ms": 20_000, "outgoing_time_max_ms": 20_000 });
    for (key, value) in limits.as_object().expect("limits") {
        all[key] = value.clone();
    }
    Gateway::with(definition)
        .grant("sender", ["outgoing-http"])
        .plugin("sender", "outgoing_http", json!({ "allow": [server.url()] }))
        .limits("sender", all)
}

const SENT: &str = "stile_plugin_outgoing_requests_total";

/// Under the first value all requests end well, under the second one ends in this way, and so does `told` begin.
async fn bites(what: &str, key: &str, (fine, over): (u64, u64), requests: f64, outcome: &str, told: Option<&str>) {
    let server = server();
    let ended = async |value: u64| {
        let gateway = sending(what, &server, &json!({ key: value })).start().await;
        let reply = gateway.get("/orders/1").send().await;
        let count = |outcome: &str| gateway.metric(SENT, &[("plugin", "sender"), ("outcome", outcome)]);
        // What counts may come just after what is seen.
        gateway.metric_becomes(SENT, &[], requests).await;
        (reply.status(), reply.text().to_owned(), count("ok"), count(outcome))
    };

    let (status, text, ok, bitten) = ended(fine).await;
    assert_eq!((status, ok, bitten), (200, requests, 0.0), "{key} {fine}: {text}");
    assert!(text.starts_with("200"), "{key} {fine}: {text}");
    let (status, text, ok, bitten) = ended(over).await;
    assert_eq!((ok, bitten), (requests - 1.0, 1.0), "{key} {over}: {text}");
    match told {
        Some(told) => assert!(status == 200 && text.contains(told), "{key} {over}: {text}"),
        None => assert_eq!(status, 500, "{key} {over}: {text}"),
    }
}

// limit: plugin_limits.outgoing_calls_max
#[tokio::test]
async fn a_call_may_send_so_many_requests() {
    bites("calls", "outgoing_calls_max", (9, 8), 9.0, "calls", None).await;
}

// limit: plugin_limits.outgoing_time_max_ms
#[tokio::test]
async fn a_request_of_a_plugin_has_so_much_time() {
    // Time is the system's: the answer takes a tenth of one limit and five times the other.
    bites("slow_answer", "outgoing_time_max_ms", (10_000, 200), 1.0, "time", Some("no answer in time")).await;
}

// limit: plugin_limits.outgoing_request_bytes_max
#[tokio::test]
async fn a_body_that_a_plugin_sends_may_be_so_long() {
    let (key, exact) = ("outgoing_request_bytes_max", (300_000, 299_999));
    bites("large_body", key, exact, 1.0, "request_bytes", Some("over a limit")).await;
}

// limit: plugin_limits.outgoing_response_bytes_max
#[tokio::test]
async fn an_answer_to_a_plugin_may_be_so_long() {
    let (key, exact) = ("outgoing_response_bytes_max", (300_000, 299_999));
    bites("large_answer", key, exact, 1.0, "response_bytes", Some("exceeds limit")).await;
    bites("declared_answer", key, exact, 1.0, "response_bytes", Some("over a limit")).await;
}

// limit: plugin_limits.outgoing_header_bytes_max
#[tokio::test]
async fn header_fields_of_an_answer_to_a_plugin_may_be_so_long() {
    // The fields that every answer has count too, and are the server's.
    let (key, server) = ("outgoing_header_bytes_max", server());
    let (mut few, mut enough) = (20_000, 20_200);
    while few + 1 < enough {
        let middle = u64::midpoint(few, enough);
        let gateway = sending("large_head", &server, &json!({ key: middle })).start().await;
        let text = gateway.get("/orders/1").send().await.text().to_owned();
        if text.starts_with("200") { enough = middle } else { few = middle }
    }

    bites("large_head", key, (enough, few), 1.0, "header_bytes", Some("over a limit")).await;
}

/// Three requests at one time, each of which takes a while.
async fn at_once(limits: Value, ok: f64) {
    let server = server();
    let gateway = sending("at_once", &server, &limits).start().await;

    let reply = gateway.get("/orders/1").send().await;

    assert_eq!(reply.status(), 200, "{}", reply.text());
    gateway.metric_becomes(SENT, &[("outcome", "ok")], ok).await;
    gateway.metric_becomes(SENT, &[("outcome", "busy")], 3.0 - ok).await;
}

// limit: plugin_limits.outgoing_concurrency_max
#[tokio::test]
async fn a_plugin_may_have_so_many_requests_on_their_way() {
    at_once(json!({ "outgoing_concurrency_max": 3, "outgoing_wait_ms": 10 }), 3.0).await;
    at_once(json!({ "outgoing_concurrency_max": 2, "outgoing_wait_ms": 10 }), 2.0).await;
}

// limit: plugin_limits.outgoing_wait_ms
#[tokio::test]
async fn a_request_of_a_plugin_waits_so_long_for_another_to_end() {
    // Time is the system's: the others take a tenth of one limit and ten times the other.
    at_once(json!({ "outgoing_concurrency_max": 2, "outgoing_wait_ms": 10_000 }), 3.0).await;
    at_once(json!({ "outgoing_concurrency_max": 2, "outgoing_wait_ms": 100 }), 2.0).await;
}

// limit: plugin_limits.outgoing_idle_connections_max
#[tokio::test]
async fn so_many_connections_of_a_plugin_are_kept() {
    for (kept, opened) in [(1, 1.0), (0, 2.0)] {
        let server = server();
        let gateway = sending("plain", &server, &json!({ "outgoing_idle_connections_max": kept })).start().await;
        for _ in 0..2 {
            assert_eq!(gateway.get("/orders/1").send().await.text(), "200");
            gateway.metric_becomes("stile_upstream_connections_open", &[], f64::from(kept)).await;
        }

        assert_eq!(gateway.metric("stile_upstream_connections_opened_total", &[]), opened, "{kept}");
    }
}

#[tokio::test]
async fn a_plugin_that_works_and_then_reads_keeps_no_core() {
    let server = server();
    let spins = plugin("hostile").function("attack").config(json!({ "attack": "spin" }));
    let awake = api("awake").upstream_url("http://127.0.0.1:1").pre(spins);
    let builder = sending("endless_answer", &server, &json!({})).and(awake).grant("hostile", ["log", "kv"]);
    // It takes many slices of the core.
    let gateway = builder.limits("hostile", json!({ "fuel": 50_000_000, "deadline_ms": 9_000 })).start().await;

    let reads = tokio::spawn(gateway.get("/orders/1").send());
    while server.calls() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.get("/awake/1").send().await.status(), 500);

    assert!(!reads.is_finished(), "it waited for the one that reads");
    assert_eq!(gateway.metric("stile_plugin_call_failures_total", &[("kind", "fuel")]), 1.0);
    reads.abort();
}

#[tokio::test]
async fn what_a_plugin_sends_and_hears_costs_by_the_byte() {
    let server = server();
    for what in ["large_body", "large_answer"] {
        let mut fuel = Vec::new();
        for price in [0, 100] {
            let gateway = sending(what, &server, &json!({ "host_call_fuel_per_byte": price })).start().await;
            assert_eq!(gateway.get("/orders/1").send().await.text(), "200", "{what}");
            fuel.push(gateway.metric("stile_plugin_call_fuel_sum", &[("api", "orders")]));
        }
        // In pieces, of which there may be a few more or less.
        assert!(fuel[1] - fuel[0] >= 99.0 * 300_000.0, "{what}: {fuel:?}");
    }
}
